"""What `deeph-engine pyscf` reads."""

from __future__ import annotations

import difflib
import re

from pydantic import Field, ValidationInfo, field_validator

from aiida_deeph.engine.config import Config

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


class PyscfConfig(Config):
    """A periodic Kohn-Sham calculation with PySCF; writes `pyscf.h5` (H(k), S(k), bands) and `results.json`.

    :param structure: file that ase reads (extended xyz keeps cell and pbc), relative to the configuration file.
    :param xc: exchange-correlation functional, in PySCF's words.
    :param basis: Gaussian basis, a name that PySCF knows.
    :param pseudo: pseudopotential, a name that PySCF knows.
    :param kmesh: Gamma-centred k-mesh; its supercell has to be wider than twice the range of H.
    :param ke_cutoff: kinetic energy cutoff of the real-space grid, Hartree.
    :param smearing: Fermi-Dirac width, eV; None for fixed occupations.
    :param bands: fractional k-points at which eigenvalues are computed in addition, from the converged potential.
    """

    structure: str = "structure.xyz"
    xc: str = "pbe"
    basis: str = "gth-szv"
    pseudo: str = "gth-pbe"
    kmesh: tuple[int, int, int] = (1, 1, 1)
    ke_cutoff: float = Field(default=60.0, gt=0)
    conv_tol: float = Field(default=1e-9, gt=0)
    max_cycle: int = Field(default=60, ge=1)
    smearing: float | None = Field(default=None, gt=0)
    bands: tuple[tuple[float, float, float], ...] | None = None
    threads: int | None = Field(default=None, ge=1)

    @field_validator("basis", "pseudo")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        """GTH names are known here, so that a misspelt one is refused before it is submitted."""
        known = KNOWN[str(info.field_name)]
        plain = re.sub(r"-q\d+$", "", name.lower())
        if plain.startswith("gth") and _bare(plain) not in map(_bare, known):
            close = difflib.get_close_matches(plain, known, 1)
            raise ValueError(f"a known one; did you mean {close[0]}" if close else f"one of {', '.join(known)}")
        return name


def _bare(name: str) -> str:
    return re.sub(r"[-_ ]", "", name)
