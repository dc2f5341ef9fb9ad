"""A toy dataset whose H is a smooth function of the geometry, and a network small enough for many trainings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.channels import joined
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.neighbours import pair_cutoffs, pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.io.dataset import (
    DatasetManifest,
    Member,
    file_hashes,
    member_uuid,
    read_manifest,
    write_manifest,
)
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.nn.config import NetworkConfig, register_network
from aiida_deeph.engine.nn.network import Network
from aiida_deeph.engine.nn.passes import Output, Part, Sweep
from aiida_deeph.engine.training.batches import BatchSource
from aiida_deeph.engine.training.config import TrainConfig
from aiida_deeph.engine.training.data import GraphCache, GraphSet, GraphSettings
from aiida_deeph.engine.training.loop import TrainingLoop
from aiida_deeph.engine.training.run import make_fabric

BASIS = OrbitalBasis({"H": (0,), "C": (0, 1)})


def toy_member(seed: int, spin: SpinMode = SpinMode.NONE) -> RealSpaceHamiltonian:
    """Four atoms in a box: s-s and s-p elements of a two-centre model, on-site energies by element."""
    random = np.random.default_rng(seed)
    base = np.array([[0, 0, 0], [1.4, 0, 0], [-0.6, 0.9, 0], [2.0, -0.9, 0]], dtype=float)
    structure = Structure(("C", "C", "H", "H"), base + random.normal(scale=0.05, size=(4, 3)), np.diag([8.0, 8.0, 8.0]))
    pairs = pairs_within(structure, 3.0)
    orbitals = BASIS.orbitals_per_atom(structure.symbols)
    matrix = BlockSparseMatrix.from_pairs(pairs, orbitals * spin.multiplicity, dtype=spin.dtype)
    for row, vector in enumerate(structure.pair_vectors(pairs)):
        i, j = pairs[row, 3:]
        block = np.zeros((orbitals[i], orbitals[j]))
        distance = np.linalg.norm(vector)
        if distance < 1e-9:
            block += np.diag([-10.0, -4.0, -4.0, -4.0] if orbitals[i] == 4 else [-6.0])
        else:
            y, z, x = vector[[1, 2, 0]] / distance
            decay = np.exp(-distance)
            left = np.array([1.0, y, z, x])[: orbitals[i]]
            right = np.array([1.0, -y, -z, -x])[: orbitals[j]]
            block += -8.0 * decay * np.outer(left, right)
        full = np.kron(np.eye(spin.multiplicity), block).astype(spin.dtype)
        if spin is SpinMode.NONCOLLINEAR and distance < 1e-9 and orbitals[i] == 4:
            full[1, 2] += 0.3j
            full[2, 1] -= 0.3j
        matrix.entries[matrix.chunk_boundaries[row] : matrix.chunk_boundaries[row + 1]] = full.ravel()
    overlap = BlockSparseMatrix.from_pairs(pairs, orbitals)
    overlap.entries[:] = 0.1
    return RealSpaceHamiltonian(structure, BASIS, spin, matrix, overlap, fermi_energy=-5.0, n_electrons=10.0)


def toy_magnet(seed: int) -> RealSpaceHamiltonian:
    """The toy with moments on both carbon atoms, opposite in every second member: an exchange field on their blocks."""
    data = toy_member(seed)
    moments = np.array([1.0, -1.0 if seed % 2 else 1.0, 0.0, 0.0])
    channels = []
    for spin in (1, -1):
        H = data.hamiltonian.with_entries(data.hamiltonian.entries.copy())
        for atom in np.flatnonzero(moments):
            H.block((0, 0, 0), atom, atom)[...] -= 0.5 * spin * moments[atom] * np.eye(4)
        channels.append(H)
    distances = np.linalg.norm(data.structure.pair_vectors(data.overlap.atom_pairs), axis=1)
    rows, columns = data.overlap.entry_positions()
    both_s = (rows == 0) & (columns == 0)
    overlap = data.overlap.with_entries(0.1 * np.exp(-distances)[data.overlap.pair_of_entry] * both_s)
    for atom, n in enumerate(data.orbitals_per_atom):
        overlap.block((0, 0, 0), atom, atom)[...] = np.eye(n)
    known = Moments(moments, 0.8 * moments)
    return replace(data, spin=SpinMode.COLLINEAR, hamiltonian=joined(*channels), overlap=overlap, moments=known)


def write_toy_dataset(folder: Path, seeds: range, spin: SpinMode = SpinMode.NONE) -> Path:
    """A dataset folder with one member per seed."""
    members, cutoffs = [], {}
    for seed in seeds:
        data = toy_member(seed, spin)
        path = folder / "members" / f"m{seed}"
        write_deeph(path, data)
        for key, value in pair_cutoffs(data.structure, data.hamiltonian.atom_pairs).items():
            cutoffs[key] = max(value, cutoffs.get(key, 0.0))
        members.append(
            Member(
                name=f"m{seed}",
                uuid=member_uuid(data.structure, BASIS),
                path=f"members/m{seed}",
                sha256=file_hashes(path),
                n_atoms=len(data.structure),
                n_pairs=len(data.hamiltonian),
                fermi_energy=-5.0,
            )
        )
    write_manifest(
        folder,
        DatasetManifest(
            members=tuple(members), basis=dict(BASIS.shells), spin=spin, pair_cutoffs=dict(sorted(cutoffs.items()))
        ),
    )
    return folder


@register_network
class TinyConfig(NetworkConfig):
    """Nothing to choose."""

    implementation: ClassVar[str] = f"{__name__}:TinyNetwork"

    name: Literal["tiny"] = "tiny"


class TinyNetwork(Network):
    """Output of each edge: a linear function of Gaussians of its distance, one for each pair of elements."""

    lmax = 1

    def __init__(self, layout: EntryLayout) -> None:
        super().__init__()
        self.layout = layout
        n_species, self.complex_output = len(layout.basis.elements), layout.spin is not SpinMode.NONE
        self.n_species = n_species
        n_columns = layout.n_columns * (2 if self.complex_output else 1)
        self.table = nn.Parameter(0.1 * torch.randn(n_species**2, 6, n_columns))
        self.loop = nn.Parameter(torch.zeros(n_species, n_columns))

    @classmethod
    def describe(cls, config: TinyConfig, basis: OrbitalBasis, spin: SpinMode, pair_cutoffs: dict[str, float]) -> dict:
        return {"lmax": 1}

    @classmethod
    def from_architecture(cls, architecture: dict, basis: OrbitalBasis, spin: SpinMode) -> TinyNetwork:
        return cls(EntryLayout.of(basis, spin))

    def passes(self, sweep: Sweep) -> Iterator[Output]:
        def gaussians(part: Part) -> Tensor:
            distance = part.graph.edge_vec.norm(dim=1).to(self.table.dtype)
            centres = torch.linspace(0, 3, 6, dtype=distance.dtype)
            return torch.exp(-(((distance[:, None] - centres) / 0.6) ** 2))

        def sums(part: Part) -> list[Tensor]:
            near = gaussians(part)
            return [near.new_zeros(len(part.graph.species), 6).index_add(0, part.graph.edge_index[0], near)]

        # A sum over the neighbours of each atom, so that an edge feels its surroundings.
        near = sweep.sum_at_atoms("neighbours", sums)

        def columns(part: Part) -> Tensor:
            graph, (around,) = part.graph, part.of_atoms(near)
            i, j = graph.edge_index
            kind = graph.species[i] * self.n_species + graph.species[j]
            output = torch.einsum("eg,egc->ec", gaussians(part) + 0.1 * around[i], self.table[kind])
            output = output.index_add(0, graph.loops, self.loop[graph.species[i[graph.loops]]])
            return torch.view_as_complex(output.reshape(len(output), -1, 2)) if self.complex_output else output

        yield Output(self.layout, columns)


def toy_sets(dataset: Path, n_train: int, n_validation: int, spin: SpinMode = SpinMode.NONE) -> list[GraphSet]:
    """Graphs of the first members, and of the next ones."""
    settings = GraphSettings(EntryLayout.of(BASIS, spin), 1, "float32")
    members = read_manifest(dataset).members
    parts = (members[:n_train], members[n_train : n_train + n_validation])
    return [GraphSet(dataset, part, settings, GraphCache(None)) for part in parts]


def toy_loop(sets: list[GraphSet], config: dict[str, Any], seed: int = 0, **callbacks: Any) -> TrainingLoop:
    """A loop over the tiny network on the CPU."""
    fabric = make_fabric("cpu", "float32")
    torch.manual_seed(seed)
    network = TinyNetwork(EntryLayout.of(BASIS, SpinMode.NONE))
    settings = TrainConfig(dataset="-", **{"learning_rate": 0.02, "epochs": 6, **config})
    sources = [BatchSource(graphs, fabric.device) for graphs in sets]
    return TrainingLoop(settings, fabric, network, *sources, **callbacks)
