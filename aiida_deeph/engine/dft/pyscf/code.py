"""The record of PySCF."""

from __future__ import annotations

from aiida_deeph.engine.dft.record import BASIS_LIBRARY, CodeRecord, Release
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.convention import LIBCINT

MATRICES_FILE = "pyscf.h5"
RESULTS_FILE = "results.json"

RECORD = CodeRecord(
    name="pyscf",
    title="PySCF",
    releases=(Release("2.14", r"2\."),),
    convention=LIBCINT,
    spins=(SpinMode.NONE, SpinMode.COLLINEAR),
    reader="PyscfReader",
    raw_files=(MATRICES_FILE,),
    # The engine runs it: there is no program to register.
    plugin="deeph.pyscf",
    command="Run a Kohn-Sham calculation with PySCF, of a crystal or a molecule.",
    basis=BASIS_LIBRARY,
    overlap="yes, Gaussians",
    bands=True,
    start="one_step",
    verified="eigenvalues of PySCF itself; S by integrals",
    not_supported="hybrids and all electrons in periodic cells; k-meshes too coarse for the range of H are refused",
    citation="PySCF: Sun et al., J. Chem. Phys. 153, 024109 (2020), doi:10.1063/5.0006074",
)
