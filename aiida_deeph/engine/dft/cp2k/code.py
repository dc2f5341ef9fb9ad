"""The record of CP2K (Quickstep)."""

from __future__ import annotations

from aiida_deeph.engine.dft.record import BASIS_FILE, CodeRecord, Program, Release
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.convention import E3NN

RECORD = CodeRecord(
    name="cp2k",
    title="CP2K",
    releases=(Release("2023.1 or later", r"20(2[3-9]|[3-9]\d)\."),),
    convention=E3NN,
    spins=(SpinMode.NONE, SpinMode.COLLINEAR),
    reader="Cp2kReader",
    # The first of each is that of R = 0, which a full disk leaves empty.
    raw_files=(
        *(f"*-{kind}_SPIN_{which}.csr" for kind in ("KS", "S") for which in ("1_R_1-1_0", "*")),
        *("aiida.out", "aiida.inp", "aiida.coords.xyz"),
    ),
    plugin="cp2k",
    programs=(Program("cp2k", "CP2K", "cp2k", "--cp2k-path"),),
    basis=BASIS_FILE,
    overlap="yes, Gaussians",
    bands=True,
    verified="its band energies; S by integrals",
    not_supported="noncollinear spins, ghost atoms",
    citation="CP2K: Kuehne et al., J. Chem. Phys. 152, 194103 (2020), doi:10.1063/5.0007045",
)
