"""How well collinear magnets are learnt by the closed form: `python tests/benchmarks/magnets.py [SHARED]`.

Iron in two magnetic states: five fits, each to four fifths of the cells, judged on the others; then blind to moments.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from aiida_deeph.engine.domain.channels import kinds_of, merged, separated
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.moments import Moments
from aiida_deeph.engine.domain.neighbours import pair_cutoffs
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.engine.linalg.bloch import bloch_matrices
from aiida_deeph.engine.linalg.dense import solve_dense
from aiida_deeph.engine.nn.closed_form.config import ClosedFormConfig
from aiida_deeph.engine.nn.network import build_network, describe_network
from aiida_deeph.engine.training.data import GraphSettings, labelled_graph

KPOINTS = [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.25, 0.25, 0.25), (0.1, 0.3, 0.4)]


def blind(data: RealSpaceHamiltonian) -> RealSpaceHamiltonian:
    """The same without its moments."""
    return replace(data, moments=Moments(np.zeros(len(data.structure))))


def channel_bands(data: RealSpaceHamiltonian) -> np.ndarray:
    """Energies of both channels, shape (2, n_kpoints, n_bands), eV."""
    matrices = bloch_matrices(data, "iron")
    return np.array([[solve_dense(*matrices.at(k, c)).energies for k in KPOINTS] for c in range(2)])


def errors(train: list[RealSpaceHamiltonian], test: list[RealSpaceHamiltonian]) -> list[dict[str, float | str]]:
    """Fit, and judge each unseen cell: eV."""
    cutoffs: dict[str, float] = {}
    for data in (*train, *test):
        for key, value in pair_cutoffs(data.structure, data.hamiltonian.atom_pairs).items():
            cutoffs[key] = max(value, cutoffs.get(key, 0.0))
    kinds = tuple(sorted(set().union(*(kinds_of(data.structure, data.moments) for data in train))))
    description = describe_network(ClosedFormConfig(), train[0].basis, train[0].spin, cutoffs, kinds)
    network = build_network(description).double()
    settings = GraphSettings.of_network(network, "float64")
    network.fit([labelled_graph(data, settings) for data in train])
    rows = []
    for data in test:
        channels = separated(data)
        label = channels.hamiltonian.sorted()
        with torch.no_grad():
            found = label.with_entries(network(labelled_graph(data, settings)).numpy()).hermitian_part()
        error = np.abs(found.entries - label.entries)
        pairs = label.atom_pairs
        on_site = ((pairs[:, 3] == pairs[:, 4]) & ~pairs[:, :3].any(axis=1))[label.pair_of_entry]
        both = merged(found, len(data.structure)).aligned_to(data.hamiltonian.atom_pairs, data.rows_per_atom)
        ours, theirs = channel_bands(replace(data, hamiltonian=both)), channel_bands(data)
        low = theirs < data.fermi_energy + 2.0  # d states and below
        splitting = (ours[1] - ours[0]) - (theirs[1] - theirs[0])
        rows.append(
            {
                "mae": error.mean(),
                "on_site": error[on_site].mean(),
                "largest_on_site": error[on_site].max(),
                "bands": np.abs(ours - theirs)[low].mean(),
                "splitting": np.abs(splitting[low[0] & low[1]]).mean(),
            }
        )
    return rows


def iron(shared: Path) -> None:
    """Table of the two states, with moments and blind to them."""
    folders = sorted(path.parent for path in (shared / "fixtures" / "openmx-fe-states").glob("*/info.json"))
    cells = [read_deeph(folder) for folder in folders]
    orders = [data.moments.order for data in cells]
    for title, used in (("with moments", cells), ("blind", [blind(data) for data in cells])):
        rows: dict[int, dict[str, float | str]] = {}
        start = time.process_time()
        for fold in range(5):
            test = [n for n in range(len(cells)) if n % 5 == fold]
            train = [used[n] for n in range(len(cells)) if n % 5 != fold]
            rows |= dict(zip(test, errors(train, [used[n] for n in test]), strict=True))
        for order in sorted(set(orders), reverse=True):
            own = [row for n, row in rows.items() if orders[n] == order]
            means = {name: 1e3 * np.mean([row[name] for row in own]) for name in own[0]}
            worst = 1e3 * max(row["largest_on_site"] for row in own)
            values = ", ".join(f"{name} {value:.2f}" for name, value in means.items())
            print(f"{title}, {order}: {values}, worst on site {worst:.0f} meV", flush=True)
        print(f"  {time.process_time() - start:.1f} CPU s for five fits and their tests")


if __name__ == "__main__":
    iron(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared"))
