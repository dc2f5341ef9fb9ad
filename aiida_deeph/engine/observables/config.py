"""What `deeph-engine bands` and `deeph-engine dos` read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from aiida_deeph.engine.config import Config

Mesh = Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], Field(description="Gamma-centred mesh")]


class BandsConfig(Config):
    """Eigenvalues of a DeepH folder at k-points, written to `OUTPUT` (JSON).

    The file holds kpoints (fractional), labels, distances (1/Angstrom), cell (Angstrom), energies in eV
    [spin][k][band], first_band (index of the first of these bands), n_occupied (full bands of an insulator, or null),
    fermi_level (eV or null), fermi (how it was found, band edges, gap), n_electrons, dft_fermi_level (what the folder
    says), smallest_overlap_eigenvalue, ghost_states ([spin, k, band] of states that live in the near-null space of S),
    spectral_weights [spin][k][band] and unfolding if asked for, solver, seconds, peak_memory_gib.

    Each k-point is kept in `OUTPUT.partial` until the end: the same command goes on where a killed one stopped.

    :param folder: DeepH folder with H and S.
    :param kpoints: fractional k-points; exactly one of kpoints, kpath, mesh, spacing is given.
    :param kpath: e.g. `G-K-M-G`.
    :param mesh: Gamma-centred mesh.
    :param spacing: largest distance of neighbouring points of such a mesh, 1/Angstrom (with 2 pi).
    :param labels: names of some k-points by index, with `kpoints`.
    :param num_bands: bands nearest to `around`; None gives all.
    :param around: eV, or `fermi`.
    :param n_electrons: valence electrons in the cell; None takes what the folder records.
    :param fermi_mesh: Gamma-centred mesh for the Fermi level; None takes `mesh`, or one that fits the cell.
    :param smearing: Fermi-Dirac width for metals, eV.
    :param overlap_threshold: combinations of orbitals whose eigenvalue of S(k) is smaller are projected out (dense).
    :param unfold: structure (file or DeepH folder) of the primitive cell onto which a supercell is unfolded; k-points,
        path and distances are then those of the primitive cell.
    :param wavefunctions: states whose coefficients are written: 0 is the highest occupied band, 1 the lowest empty one.
    :param workers: processes, each with one k-point at a time.
    :param restart: folder or folders `OUTPUT.partial` that killed jobs, or those with a share, left elsewhere.
    :param share: (n, count): solve only every count-th k-point from the n-th on, counted from 0, and keep the solutions
        in `OUTPUT.partial`, which a job without a share takes over by `restart`. Several ranks of one job (started by
        mpirun, srun, torchrun) share its k-points by themselves.
    """

    folder: str
    kpoints: tuple[tuple[float, float, float], ...] | None = None
    labels: tuple[tuple[int, str], ...] | None = None
    kpath: str | None = None
    points_per_segment: int = Field(default=40, ge=2)
    mesh: Mesh | None = None
    spacing: float | None = Field(default=None, gt=0)
    num_bands: int | None = Field(default=None, ge=1)
    around: float | Literal["fermi"] = "fermi"
    solver: Literal["auto", "dense", "sparse"] = "auto"
    n_electrons: float | None = Field(default=None, gt=0)
    fermi_mesh: Mesh | None = None
    smearing: float = Field(default=0.02585, gt=0)
    overlap_threshold: float = Field(default=1e-6, gt=0)
    unfold: str | None = None
    wavefunctions: tuple[int, ...] | None = Field(default=None, min_length=1)
    wavefunctions_output: str = "wavefunctions.h5"
    workers: int = Field(default=1, ge=1)
    restart: str | tuple[str, ...] | None = None
    share: tuple[Annotated[int, Field(ge=0)], PositiveInt] | None = None
    threads: int | None = Field(default=None, ge=1)
    output: str = "bands.json"

    @model_validator(mode="after")
    def _one_choice(self) -> BandsConfig:
        if sum(value is not None for value in (self.kpoints, self.kpath, self.mesh, self.spacing)) != 1:
            raise ValueError("exactly one of kpoints, kpath, mesh and spacing")
        if self.labels is not None and self.kpoints is None:
            raise ValueError("labels only with kpoints")
        if self.share is not None and self.share[0] >= self.share[1]:
            raise ValueError("share: the number of shares must be larger than that of the share, which counts from 0")
        return self


class DosConfig(Config):
    """Density of states of a DeepH folder, written to `OUTPUT` (JSON).

    The file holds energies (eV), dos (states/eV/cell), fermi_level. Both spins are counted: the integral up to the
    Fermi level is the number of electrons. `dos_by_element`, `dos_by_shell` and `dos_by_atom` hold Mulliken shares,
    `dos_by_spin` the two channels of collinear data, `dos_error` the standard error of a `kpm` result.

    :param mesh: Gamma-centred mesh.
    :param spacing: largest distance of neighbouring points, 1/Angstrom (with 2 pi), instead of a mesh.
    :param window: lowest and highest energy relative to the Fermi level, eV; None takes the whole spectrum (of large
        systems -10 to 5 eV, unless method is `kpm`).
    :param broadening: Gaussian width, eV.
    :param method: `exact` (all eigenvalues by dense diagonalisation), `sparse` (all eigenvalues inside the window, for
        large systems), `kpm` (kernel polynomial method: the whole spectrum of the largest systems, with statistical
        errors), `auto` picks by size.
    :param projected: resolve the DOS by element and angular momentum, too (with `exact`, two to four times the time).
    :param atoms: atoms (counted from 0) whose local density of states is wanted, too.
    :param n_vectors: random vectors of `kpm`; statistical errors fall as its inverse square root.
    :param seed: of the random vectors.
    :param precision: of the moments of `kpm` in a window; `auto` takes single for large systems (half the memory).
    :param counted: whether `kpm` finds the Fermi level by exact counts of states and the states around it (a handful of
        factorisations per k-point); otherwise it comes from the moments, with a standard error.
    :param n_electrons: valence electrons in the cell; None takes what the folder records.
    :param workers: processes that share the k-points, or the random vectors of `kpm`.
    :param smearing: Fermi-Dirac width for the Fermi level of metals, eV.
    :param overlap_threshold: combinations of orbitals whose eigenvalue of S(k) is smaller are projected out.
    """

    folder: str
    mesh: Mesh = (1, 1, 1)
    spacing: float | None = Field(default=None, gt=0)
    window: tuple[float, float] | None = None
    n_points: int = Field(default=1001, ge=2)
    broadening: float = Field(default=0.05, gt=0)
    method: Literal["auto", "exact", "sparse", "kpm"] = "auto"
    projected: bool = True
    atoms: tuple[int, ...] = ()
    n_vectors: int = Field(default=16, ge=2)
    seed: int = 0
    precision: Literal["auto", "single", "double"] = "auto"
    counted: bool = True
    workers: int = Field(default=1, ge=1)
    n_electrons: float | None = Field(default=None, gt=0)
    smearing: float = Field(default=0.02585, gt=0)
    overlap_threshold: float = Field(default=1e-6, gt=0)
    threads: int | None = Field(default=None, ge=1)
    output: str = "dos.json"


class CompareSettings(Config):
    """How two Hamiltonians of one structure are compared.

    :param kpoints: fractional k-points; exactly one of kpoints, kpath, mesh, spacing is given.
    :param spacing: largest distance of neighbouring points of a Gamma-centred mesh, 1/Angstrom (with 2 pi).
    :param window: energies that count, eV, relative to the Fermi level of the reference.
    :param align: `gauge` removes the multiple of S that brings both H closest; `none` takes them as they are.
    :param n_electrons: valence electrons in the cell; None takes what the reference records.
    :param smearing: Fermi-Dirac width for metals, eV.
    """

    kpoints: tuple[tuple[float, float, float], ...] | None = None
    kpath: str | None = None
    points_per_segment: int = Field(default=20, ge=2)
    mesh: Mesh | None = None
    spacing: float | None = Field(default=None, gt=0)
    window: tuple[float, float] = (-6.0, 3.0)
    align: Literal["gauge", "none"] = "gauge"
    n_electrons: float | None = Field(default=None, gt=0)
    smearing: float = Field(default=0.02585, gt=0)

    @model_validator(mode="after")
    def _one_choice(self) -> CompareSettings:
        if sum(value is not None for value in (self.kpoints, self.kpath, self.mesh, self.spacing)) != 1:
            raise ValueError("exactly one of kpoints, kpath, mesh and spacing")
        if self.window[0] >= self.window[1]:
            raise ValueError("window: the lower end first")
        return self


class CompareConfig(CompareSettings):
    """Compare a (predicted) Hamiltonian with a reference of the same structure, basis and spin.

    :param folder: DeepH folder to judge.
    :param reference: DeepH folder to judge by.
    """

    folder: str
    reference: str
    threads: int | None = Field(default=None, ge=1)
    output: str = "compare.json"
