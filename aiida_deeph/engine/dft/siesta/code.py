"""The record of SIESTA."""

from __future__ import annotations

from aiida_deeph.engine.dft.record import CodeRecord, Program, Release
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.convention import OrbitalConvention

# SystemLabel: the names of all files of a run begin with it.
LABEL = "siesta"
# Up to 4.1 and its MaX releases the constants are these; SIESTA 5 has those of CODATA 2018.
SIESTA_4 = Release(
    "4.1 (or a MaX release of it)", r"(.*[^\d.])?v?4\.1($|[^\d])|MaX-", hartree=2 * 13.60580, bohr=0.529177
)
SIESTA_5 = Release("5", r"(siesta-|v|rel-)?5\.\d")

RECORD = CodeRecord(
    name="siesta",
    title="SIESTA",
    releases=(SIESTA_4, SIESTA_5),
    convention=OrbitalConvention(negated="odd"),
    spins=(SpinMode.NONE, SpinMode.COLLINEAR, SpinMode.NONCOLLINEAR),
    spin_orbit=True,
    reader="SiestaReader",
    # Either of HSX and TSHS is enough.
    raw_files=(*(f"{LABEL}.{kind}" for kind in ("[HT]S*", "ORB_INDX", "XV", "EIG", "out")), "*.ion.xml"),
    plugin="deeph.siesta",
    programs=(Program("siesta", "SIESTA", "deeph.siesta", "--siesta-path", "PseudoDojo/0.4/PBE/SR/standard/psml"),),
    basis="ion",
    overlap="yes, `.ion.xml`, `.ion`",
    makes_orbitals=True,
    bands=True,
    restart=True,
    verified="its eigenvalues, of 4.1 and 5.1; S by integrals; see below",
    not_supported="moving atoms, ghost atoms",
    citation="SIESTA: Soler et al., J. Phys.: Condens. Matter 14, 2745 (2002), doi:10.1088/0953-8984/14/11/302",
)
