"""Files of a label by Quantum ESPRESSO and HPRO, and the constants that they imply."""

from __future__ import annotations

# Quantum ESPRESSO has the constants of CODATA 2018 since 6.6, those of 2006 before; its XML is in atomic units, so that
# only the label of the unit differs. HPRO's numbers in its DeepH folder are converted with its own.
HPRO_HARTREE_TO_EV = 27.211386024367243
HPRO_BOHR_TO_ANGSTROM = 0.5291772105638411

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

# Versions whose files are known; what was run is in the README.
PW_VERSIONS = ("6.5", "6.6", "6.7", "6.8", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5")
HPRO_VERSIONS = ("0.3",)


def known_version(version: str, known: tuple[str, ...]) -> bool:
    """Whether `6.7MaX` is one of ("6.7", ..): the number in front, with or without a patch level."""
    number = version.lstrip("v.").rstrip("MaX")
    return any(number == name or number.startswith(f"{name}.") for name in known)


def names_of(versions: tuple[str, ...]) -> str:
    """For messages: `6.5 to 7.5`."""
    return versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"
