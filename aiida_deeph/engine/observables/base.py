"""What every observable is: a quantity computed from H(R) and S(R), k-point by k-point.

An observable says which configuration it reads, what is solved at each k-point, and what becomes of the solutions. From
that follow, here and in the AiiDA wing, its command, its job and parser, its restart after a kill, and how its k-points
split over processes, ranks and jobs.
"""

from __future__ import annotations

import json
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, PositiveInt, model_validator

from aiida_deeph import __version__
from aiida_deeph.engine.config import Config
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.kpoints import ChosenKPoints
from aiida_deeph.engine.errors import DeepHError, InputError, machine_failure, raise_if_machine_failed
from aiida_deeph.engine.io.files import write_text_atomic
from aiida_deeph.engine.io.paths import check_output
from aiida_deeph.engine.linalg.bloch import BlochMatrices, bloch_matrices
from aiida_deeph.engine.linalg.kpoint_loop import Loop
from aiida_deeph.engine.linalg.solutions import SolutionStore
from aiida_deeph.engine.observables.fermi import check_electrons
from aiida_deeph.engine.ranks import Ranks, mpi_ranks
from aiida_deeph.engine.system import peak_memory_GiB

Mesh = tuple[PositiveInt, PositiveInt, PositiveInt]


class KPointsConfig(Config):
    """k-points of a calculation: exactly one of kpoints, kpath, mesh, spacing is given.

    :param kpoints: fractional k-points; on the command line a file, JSON or rows `k1 k2 k3 [name]`.
    :param labels: names of some k-points by index, with `kpoints`.
    :param kpath: path through special points of the lattice, e.g. `G-K-M-G`.
    :param points_per_segment: k-points on each segment of the path.
    :param mesh: Gamma-centred mesh.
    :param spacing: largest distance of neighbouring points of such a mesh, 1/Angstrom (with 2 pi).
    """

    kpoints: tuple[tuple[float, float, float], ...] | None = None
    labels: tuple[tuple[int, str], ...] | None = None
    kpath: str | None = None
    points_per_segment: int = Field(default=40, ge=2, le=100_000)
    mesh: Mesh | None = None
    spacing: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_choice(self) -> KPointsConfig:
        if sum(value is not None for value in (self.kpoints, self.kpath, self.mesh, self.spacing)) != 1:
            raise ValueError("exactly one of kpoints, kpath, mesh and spacing")
        if self.labels is not None and self.kpoints is None:
            raise ValueError("labels only with kpoints")
        return self

    @property
    def kpoint_fields(self) -> dict[str, Any]:
        """The fields of this class, as `choose_kpoints` takes them."""
        return {name: getattr(self, name) for name in KPointsConfig.model_fields}


class ObservableConfig(Config):
    """Fields of every observable.

    Each k-point is kept in `OUTPUT.partial` until the end: the same command goes on where a killed one stopped.

    :param folder: DeepH folder, new or legacy, with H and S.
    :param n_electrons: valence electrons in the cell; None takes what the folder records.
    :param workers: processes, each with one k-point at a time.
    :param restart: folder or folders `OUTPUT.partial` that killed jobs, or those with a share, left elsewhere.
    :param share: (n, count): solve only every count-th k-point from the n-th on, counted from 0, and keep the solutions
        in `OUTPUT.partial`, which a job without a share takes over by `restart`. Several ranks of one job (started by
        mpirun or srun) share its k-points by themselves.
    :param threads: threads of the linear algebra.
    :param output: file of the result, JSON.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    folder: str
    n_electrons: float | None = Field(default=None, gt=0)
    workers: int = Field(default=1, ge=1, le=10_000)
    restart: str | tuple[str, ...] | None = None
    share: tuple[Annotated[int, Field(ge=0)], PositiveInt] | None = None
    threads: int | None = Field(default=None, ge=1, le=10_000)
    output: str

    # Fields that change no solution.
    NO_MATTER: ClassVar[frozenset[str]] = frozenset({"folder", "output", "workers", "threads", "restart", "share"})
    # Options of the command whose names are not those of their fields.
    OPTIONS: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="after")
    def _share_of_shares(self) -> ObservableConfig:
        if self.share is not None and self.share[0] >= self.share[1]:
            raise ValueError("share: the number of shares must be larger than that of the share, which counts from 0")
        return self


@dataclass(frozen=True)
class NamedArray:
    """An array of a result, as nested lists, and its unit (empty: none)."""

    values: Any
    unit: str = ""


class Observable(ABC):
    """One calculation of a quantity: its configuration, H and S, and what is solved at the k-points.

    :raises DeepHError: one line about what is wrong; nothing was computed then.
    """

    # Command of deeph-engine, key in protocols and name of the output in AiiDA.
    name: ClassVar[str]
    # What messages call it.
    title: ClassVar[str]
    Config: ClassVar[type[ObservableConfig]]
    # Numbers of the result that have a unit.
    UNITS: ClassVar[Mapping[str, str]] = {"fermi_level": "eV", "dft_fermi_level": "eV"}
    # Keys of the result that are arrays -> unit; all else are parameters.
    ARRAYS: ClassVar[Mapping[str, str]]
    # Of the arrays, the one that all others are functions of; empty if there is none.
    ABSCISSA: ClassVar[str] = ""
    # Whether the arrays are energies at k-points, which AiiDA keeps as BandsData.
    IS_BANDS: ClassVar[bool] = False
    # Whether k-points must be asked for; otherwise there is a mesh that fits.
    NEEDS_KPOINTS: ClassVar[bool] = False
    # Whether it is for molecules (True), for what is periodic (False), or for both.
    OF_MOLECULES: ClassVar[bool | None] = None
    # Fields that name DeepH folders, and structures -> input of the AiiDA job.
    FOLDERS: ClassVar[Mapping[str, str]] = {"folder": "hamiltonian"}
    STRUCTURES: ClassVar[Mapping[str, str]] = {}
    # Output of the AiiDA job -> (field that asks for it, field that names its file).
    FILES: ClassVar[Mapping[str, tuple[str, str]]] = {}

    config: Any
    points: ChosenKPoints

    def __init__(self, config: ObservableConfig, data: RealSpaceHamiltonian) -> None:
        self.config, self.data = config, data
        if self.OF_MOLECULES is not None and any(data.structure.pbc) is self.OF_MOLECULES:
            raise InputError(
                f"{self.title} of another kind of structure",
                where=config.folder,
                found=f"pbc {list(data.structure.pbc)}",
                expected="a molecule" if self.OF_MOLECULES else "a periodic structure",
            )
        given = config.n_electrons
        self.n_electrons: float | None = given if given is not None else data.n_electrons
        self.matrices: BlochMatrices = bloch_matrices(data, config.folder)
        n_states = self.matrices.n_rows * self.matrices.n_channels
        check_electrons(self.n_electrons, n_states, data.spin.electrons_per_state)

    @classmethod
    def of(cls, config: Any, data: RealSpaceHamiltonian) -> Observable:
        """The calculation that a configuration describes."""
        return cls(config, data)

    @property
    def systems(self) -> Sequence[RealSpaceHamiltonian]:
        """All that the solutions depend on besides the configuration."""
        return (self.data,)

    @property
    def tasks(self) -> list[tuple[int, int]]:
        """Spin channel and index of the k-point of each solution, the channels of a k-point one after the other."""
        return [(c, n) for n in range(len(self.points.fractional)) for c in range(self.matrices.n_channels)]

    @abstractmethod
    def solve(self, loop: Loop) -> Any:
        """Solutions at the k-points that the loop takes; what every share needs first, by `loop.whole`."""

    @abstractmethod
    def result(self, solved: Any, loop: Loop) -> dict[str, Any]:
        """What becomes of all solutions: arrays by the names of `ARRAYS`, and parameters; JSON types only."""

    def write_files(self, solved: Any) -> None:  # noqa: B027  (most observables have none)
        """Write further files that the configuration asks for."""

    @classmethod
    def arrays(cls, result: Mapping[str, Any]) -> dict[str, NamedArray]:
        """The arrays of a result under flat names."""
        return {name: NamedArray(result[name], unit) for name, unit in cls.ARRAYS.items() if result.get(name)}

    @classmethod
    def summary(cls, result: Mapping[str, Any]) -> str:
        """A line for the terminal."""
        return f"{cls.title} written"

    @classmethod
    def run(cls, config: ObservableConfig, *, show_progress: bool | None = None) -> Path:
        """Compute what a configuration describes and write it; of several ranks the first one does.

        :returns: the file written.
        :raises DeepHError: one line about what is wrong; nothing is written then.
        """
        from aiida_deeph.engine.io.folders import read_hamiltonian  # loads h5py: configurations do without

        started = time.perf_counter()
        path = Path(config.output)
        check_output(path, folder=False)
        ranks = mpi_ranks()
        data = read_hamiltonian(Path(config.folder))
        observable = cls.of(config, data)
        store = observable._store(ranks)
        loop = Loop(store, config.workers, show_progress, config.share, ranks)
        try:
            if config.share is not None:
                store.open()
            solved = observable.solve(loop)
            if config.share is None:
                result = observable.result(solved, loop)
            else:
                n_kpoints = len(observable.points.fractional)
                result = {"share": list(config.share), "n_solved": loop.counts[MAIN], "n_kpoints": n_kpoints}
            if ranks.is_first:
                if config.share is None:
                    observable.write_files(solved)
                seconds = time.perf_counter() - started
                cost = {"n_ranks": ranks.size, "seconds": seconds, "peak_memory_GiB": peak_memory_GiB()}
                write_json(path, {**describe(data, config.folder), **result, **cost})
        except DeepHError as error:
            if machine_failure(error) is None:
                store.remove()  # what is wrong now would be wrong the next time
            raise
        if config.share is None and ranks.is_first:
            shutil.rmtree(store.folder, ignore_errors=True)
        return path

    def _store(self, ranks: Ranks) -> SolutionStore:
        """Where solutions are kept, and those of earlier runs are found."""
        config = self.config
        settings = {"observable": self.name, **config.model_dump(exclude=set(config.NO_MATTER))}
        digest = sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        for system in self.systems:
            for matrix in (system.hamiltonian, system.overlap):
                if matrix is not None:
                    digest.update(matrix.atom_pairs.data)
                    digest.update(matrix.entries.data)
        given = (config.restart,) if isinstance(config.restart, str) else config.restart or ()
        if not ranks.is_first:
            ranks.collect(None)  # the first one has thrown away what another job left
        store = SolutionStore(Path(f"{config.output}.partial"), digest.hexdigest(), [Path(folder) for folder in given])
        if ranks.is_first:
            ranks.collect(None)
        return store


MAIN = "k-points"
"""Name of the set of solutions whose shares are counted."""


def describe(data: RealSpaceHamiltonian, folder: str) -> dict[str, Any]:
    """What a result says about the system it belongs to."""
    return {
        "engine_version": __version__,
        "folder": folder,
        "n_atoms": len(data.structure),
        "n_orbitals": int(data.orbitals_per_atom.sum()),
        "spin": data.spin.value,
        "cell": data.structure.cell.tolist(),
        "dft_fermi_level": data.fermi_energy,
    }


def write_json(path: Path, values: dict[str, Any]) -> Path:
    """Write a file that is complete or not there at all.

    :raises InputError: the place cannot be written.
    """
    try:
        write_text_atomic(path, json.dumps(values, allow_nan=False) + "\n")
    except OSError as error:
        raise_if_machine_failed(error)
        raise InputError("result cannot be written", where=path, found=error.strerror) from None
    return path
