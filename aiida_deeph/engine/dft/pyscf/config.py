"""What `deeph-engine pyscf` reads."""

from __future__ import annotations

from pydantic import Field

from aiida_deeph.engine.config import Config


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
