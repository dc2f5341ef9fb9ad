"""The record of ABACUS (LCAO)."""

from __future__ import annotations

from aiida_deeph.engine.dft.record import CodeRecord, Program, Release
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.convention import OrbitalConvention

# ABACUS writes into OUT.SUFFIX.
SUFFIX = "ABACUS"
OUTPUT_FOLDER = f"OUT.{SUFFIX}"

RECORD = CodeRecord(
    name="abacus",
    title="ABACUS",
    releases=(Release("3.x", r"3\.", hartree=2 * 13.605698),),
    convention=OrbitalConvention("alternating", negated="odd"),
    spins=(SpinMode.NONE, SpinMode.COLLINEAR, SpinMode.NONCOLLINEAR),
    spin_orbit=True,
    spin_note="nspin 1, 2, 4, spin-orbit",
    reader="AbacusReader",
    # H and S are called data-HR-sparse_SPIN0.csr, data-SR-.. up to release 3.10, hrs1_nao.csr, srs1_nao.csr later.
    raw_files=(
        "INPUT",
        "STRU",
        f"{OUTPUT_FOLDER}/running_scf.log",
        f"{OUTPUT_FOLDER}/*[hH][rR]*.csr",
        f"{OUTPUT_FOLDER}/*[sS][rR]*.csr",
    ),
    plugin="deeph.abacus",
    programs=(Program("abacus", "ABACUS", "deeph.abacus", "--abacus-path", "abacus-sg15"),),
    basis="orb",
    overlap="yes, `.orb`",
    bands=True,
    restart=True,
    verified="its eigenvalues; S by integrals; see below",
    not_supported="binary and NPZ matrices, moving atoms, empty atoms",
    citation="ABACUS: Li et al., Comput. Mater. Sci. 112, 503 (2016), doi:10.1016/j.commatsci.2015.07.004",
)
