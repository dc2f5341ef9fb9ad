"""What `deeph-engine bands` and `deeph-engine dos` read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aiida_deeph.engine.config import Config


class BandsConfig(Config):
    """Eigenvalues of a DeepH folder at k-points, written to `OUTPUT` (JSON).

    The file holds kpoints (fractional), labels, energies in eV [spin][k][band], fermi_level (eV or null), n_electrons,
    smallest_overlap_eigenvalue, solver, seconds, peak_memory_gib.

    :param folder: DeepH folder with H and S.
    :param kpoints: fractional k-points; exactly one of kpoints, kpath, mesh is given.
    :param kpath: e.g. `G-K-M-G`.
    :param mesh: Gamma-centred mesh.
    :param labels: names of some k-points by index, with `kpoints`.
    :param num_bands: bands nearest to `around`; None gives all.
    :param around: eV, or `fermi`.
    """

    folder: str
    kpoints: tuple[tuple[float, float, float], ...] | None = None
    labels: tuple[tuple[int, str], ...] | None = None
    kpath: str | None = None
    points_per_segment: int = Field(default=40, ge=2)
    mesh: tuple[int, int, int] | None = None
    num_bands: int | None = Field(default=None, ge=1)
    around: float | Literal["fermi"] = "fermi"
    solver: Literal["auto", "dense", "sparse"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    output: str = "bands.json"


class DosConfig(Config):
    """Density of states of a DeepH folder, written to `OUTPUT` (JSON): energies (eV), dos (states/eV/cell), fermi_level.

    :param window: lowest and highest energy relative to the Fermi level, eV; None takes the whole spectrum.
    :param broadening: Gaussian width, eV.
    :param method: `exact` (all eigenvalues on the mesh), `auto` picks by size.
    """

    folder: str
    mesh: tuple[int, int, int] = (1, 1, 1)
    window: tuple[float, float] | None = None
    n_points: int = Field(default=1001, ge=2)
    broadening: float = Field(default=0.05, gt=0)
    method: Literal["auto", "exact"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    output: str = "dos.json"
