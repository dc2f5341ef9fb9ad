"""What `deeph-engine pyscf` reads."""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Iterable

from pydantic import ConfigDict, Field, PositiveInt, ValidationInfo, field_validator

from aiida_deeph.engine.config import Config
from aiida_deeph.engine.errors import InputError

# Names of its GTH bases and pseudopotentials for periodic systems.
KNOWN = {
    "basis": (
        *(f"gth-{size}" for size in ("szv", "dzv", "dzvp", "tzvp", "tzv2p", "qzv2p", "qzv3p")),
        *(f"gth-aug-{size}" for size in ("dzvp", "tzvp", "tzv2p", "qzv2p", "qzv3p")),
        *(f"gth-cc-{size}" for size in ("dzvp", "tzvp", "qzvp")),
        *(f"gth-{size}-molopt" for size in ("szv", "dzvp", "tzvp", "tzv2p")),
        *(f"gth-{size}-molopt-sr" for size in ("szv", "dzvp")),
    ),
    "pseudo": tuple(
        f"gth-{name}"
        for name in ["blyp", "bp", "hcth120", "hcth407", "hf", "hf-rev", "lda", "olyp", "pade", "pbe", "pbesol"]
    ),
}


# Functionals that every PySCF has: for any other it is asked itself, where it is installed, which takes a second.
FUNCTIONALS = (
    *("lda", "lda,vwn", "svwn", "pbe", "pbesol", "revpbe", "rpbe", "blyp", "bp86", "pw91", "hf"),
    *("scan", "rscan", "r2scan", "tpss", "m06l", "pbe0", "b3lyp", "b3lyp5", "b3lypg", "hse06"),
)


# B3LYP is two functionals, 4.5e-4 Hartree apart in H: with VWN-RPA correlation (PySCF from 2.3 on), or with VWN5 (PySCF
# before). The name that is recorded says which.
EXPLICIT = {"b3lyp": "b3lypg"}


class PyscfConfig(Config):
    """A Kohn-Sham calculation with PySCF; writes `pyscf.h5` (H(k), S(k), bands) and `results.json`.

    A structure without a periodic direction is a molecule in empty space; any other is periodic along all directions.

    :param structure: file that ase reads (extended xyz keeps cell and pbc), relative to the configuration file.
    :param xc: exchange-correlation functional, in PySCF's words; hybrids for molecules alone. `b3lyp` is `b3lypg`, with
        VWN-RPA correlation; that of PySCF before 2.3, and of data sets made with it, is `b3lyp5`.
    :param basis: Gaussian basis, a name that PySCF knows.
    :param pseudo: pseudopotential, a name that PySCF knows; None: all electrons, but for the cores that belong to the
        basis (ECP), of molecules alone.
    :param kmesh: Gamma-centred k-mesh; its supercell has to be wider than twice the range of H.
    :param ke_cutoff: kinetic energy cutoff of the real-space grid of a periodic structure, Hartree.
    :param grid_level: of the integration grid of a molecule, from 0 to 9.
    :param charge: of a molecule, elementary charges.
    :param unpaired_electrons: of a molecule, 2S; more than none are calculated without spin restriction.
    :param unrestricted: of a molecule, no spin restriction whatever the number of unpaired electrons.
    :param magnetic_moments: initial spin moment of each atom, Bohr magnetons: calculated without spin restriction, and
        started there. A net moment of a crystal is free where there is a smearing, else the sum of these.
    :param vacuum_level: of a structure that is not periodic along all directions: the zero of energy is the potential
        farthest from its atoms, which does not depend on the size of the cell as the mean potential does.
    :param smearing: Fermi-Dirac width, eV; None for fixed occupations.
    :param start: DeepH folder whose H, e.g. a predicted one, gives the density that the SCF starts from, relative to
        the configuration file; None: a superposition of atoms in a minimal basis (`minao`).
    :param bands: fractional k-points at which eigenvalues are computed in addition, from the converged potential.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    structure: str = "structure.xyz"
    xc: str = "pbe"
    basis: str = "gth-szv"
    pseudo: str | None = "gth-pbe"
    kmesh: tuple[PositiveInt, PositiveInt, PositiveInt] = (1, 1, 1)
    ke_cutoff: float = Field(default=60.0, gt=0)
    grid_level: int = Field(default=3, ge=0, le=9)
    charge: int = 0
    unpaired_electrons: int = Field(default=0, ge=0)
    unrestricted: bool = False
    magnetic_moments: tuple[float, ...] | None = None
    conv_tol: float = Field(default=1e-9, gt=0)
    max_cycle: int = Field(default=60, ge=1)
    vacuum_level: bool = False
    smearing: float | None = Field(default=None, gt=0)
    bands: tuple[tuple[float, float, float], ...] | None = None
    start: str | None = None
    threads: int | None = Field(default=None, ge=1)

    @field_validator("basis", "pseudo")
    @classmethod
    def _known(cls, name: str | None, info: ValidationInfo) -> str | None:
        """GTH names are known here, so that a misspelt one is refused before it is submitted."""
        if name is None:
            return None
        known = KNOWN[str(info.field_name)]
        plain = re.sub(r"-q\d+$", "", name.lower())
        if plain.startswith("gth") and _bare(plain) not in map(_bare, known):
            close = difflib.get_close_matches(plain, known, 1)
            raise ValueError(f"a known one; did you mean {close[0]}" if close else f"one of {', '.join(known)}")
        return name

    @field_validator("xc")
    @classmethod
    def _explicit(cls, name: str) -> str:
        return EXPLICIT.get(name.lower().replace("-", ""), name)


def check_names(xc: str, basis: str) -> None:
    """A misspelt functional or basis is refused before it is submitted, where PySCF is installed.

    :raises InputError: PySCF does not know it.
    """
    if not xc.strip():
        raise InputError("no functional", where="xc", found=repr(xc), expected="the name of one")
    if not _is_installed("pyscf"):
        return
    if xc.lower() not in FUNCTIONALS:
        from pyscf.dft import libxc

        try:
            libxc.parse_xc(xc)
        except Exception as error:  # PySCF has a class of its own for each failure
            raise _unknown("functional", "xc", xc, FUNCTIONALS, xc.lower()) from error
    if not basis.lower().startswith("gth") and not _is_installed("basis_set_exchange"):
        from pyscf.gto.basis import ALIAS

        # As PySCF writes them; `unc-NAME` is NAME with its contractions undone.
        plain = re.sub(r"^unc|\(.*\)", "", re.sub(r"[-_ ]", "", basis.lower()))
        if plain not in ALIAS and plain.replace("*", "s") not in ALIAS:
            raise _unknown("basis", "basis", basis, ALIAS, plain)


def _unknown(what: str, where: str, found: str, known: Iterable[str], plain: str) -> InputError:
    close = difflib.get_close_matches(plain, known, 1)
    remedy = f"did you mean {close[0]}" if close else None
    return InputError(f"{what} unknown to PySCF", where=where, found=repr(found), expected="one it has", remedy=remedy)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _bare(name: str) -> str:
    return re.sub(r"[-_ ]", "", name)
