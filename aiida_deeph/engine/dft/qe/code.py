"""The record of Quantum ESPRESSO with HPRO, and the files of a label."""

from __future__ import annotations

from aiida_deeph.engine.dft.record import CodeRecord, Program, Release
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.convention import E3NN

PREFIX = "pwscf"
XML_FILE = "data-file-schema.xml"
# Files of the two steps, relative to their working directories.
SAVE_FOLDER = f"out/{PREFIX}.save"
POTENTIAL_FILE = "VSC"
RESULT_FILE = "hpro_result.json"
DEEPH_FOLDER = "deeph"
PSEUDO_FOLDER = "pseudo"
ORBITAL_FOLDER = "orbitals"
# What a later reader needs, relative to HPRO's working directory: checked after the run.
ARTEFACTS = (
    XML_FILE,
    RESULT_FILE,
    f"{DEEPH_FOLDER}/POSCAR",
    f"{DEEPH_FOLDER}/info.json",
    f"{DEEPH_FOLDER}/overlap.h5",
    f"{DEEPH_FOLDER}/hamiltonian.h5",
)

RECORD = CodeRecord(
    name="qe",
    title="Quantum ESPRESSO",
    # Its XML is in atomic units, so that no constant of its own counts.
    releases=(Release("6.5 to 7.5", r"[v.]*(6\.[5-8]|7\.[0-5])(\.|[MaX]*$)"),),
    # HPRO, which makes the matrices, writes DeepH folders.
    convention=E3NN,
    spins=(SpinMode.NONE, SpinMode.NONCOLLINEAR),
    spin_orbit=True,
    spin_note="none; spin-orbit from 7.0 on, not run",
    reader="QeReader",
    raw_files=ARTEFACTS,
    plugin="deeph.pw",
    programs=(
        Program("pw", "pw.x", "deeph.pw", "--pw-path"),
        Program("pw2bgw", "pw2bgw.x", "deeph.pw", "--pw2bgw-path"),
        Program("hpro", "HPRO", "deeph.hpro", "--hpro-python"),
    ),
    overlap="yes, `.orb`, `.ion`",
    bands=True,
    restart=True,
    verified="each label against pw.x's bands (6.7); S by integrals; see below",
    not_supported="magnets, ultrasoft and PAW pseudopotentials, Hubbard",
    citation="Quantum ESPRESSO: Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017), "
    "doi:10.1088/1361-648X/aa8f79",
)
# HPRO's numbers in its DeepH folder are converted with constants of its own.
HPRO = Release("0.3", r"[v.]*0\.3(\.|$)", hartree=27.211386024367243, bohr=0.5291772105638411)
