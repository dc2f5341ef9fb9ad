"""The closed form: symmetries, what the fit finds, few data, storage, chunks, derivatives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.transform import Rotation

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.neighbours import pair_cutoffs, pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.graph.build import HamiltonianGraph, attach_labels
from aiida_deeph.engine.graph.wigner import wigner_d
from aiida_deeph.engine.nn.closed_form.choice import left_out_errors
from aiida_deeph.engine.nn.closed_form.config import ClosedFormConfig
from aiida_deeph.engine.nn.closed_form.model import element_mixing
from aiida_deeph.engine.nn.closed_form.network import ClosedForm
from aiida_deeph.engine.nn.closed_form.radial import RadialSpace, gaussians
from aiida_deeph.engine.nn.network import build_model_graph, build_network, describe_network
from aiida_deeph.engine.nn.storage import load_model, save_model
from aiida_deeph.engine.prediction.chunked import predict_entries
from aiida_deeph.engine.prediction.trust import Trust
from tests.engine.nn.systems import BASIS, CUTOFF, random_structure

SPINS = [SpinMode.NONE, SpinMode.NONCOLLINEAR]
KINDS = [(SpinMode.NONE, 3), (SpinMode.NONCOLLINEAR, 3), (SpinMode.NONE, 4)]
SMALL: dict[str, Any] = {"detail": "smooth", "lmax_environment": 3}


def network_of(spin: SpinMode = SpinMode.NONE, seed: int | None = 0, **config: Any) -> tuple[ClosedForm, Any]:
    """With random coefficients; None leaves them at zero."""
    structure = random_structure()
    cutoffs = pair_cutoffs(structure, pairs_within(structure, CUTOFF))
    description = describe_network(ClosedFormConfig(**{**SMALL, **config}), BASIS, spin, cutoffs)
    network = build_network(description).double()
    assert isinstance(network, ClosedForm)
    generator = torch.Generator().manual_seed(seed or 0)
    for name, buffer in network.model.named_buffers():
        if seed is not None and name.startswith(("bond_0", "bond_1", "site_0", "site_1", "scale")):
            buffer.copy_(torch.randn(buffer.shape, generator=generator, dtype=buffer.dtype))
    return network, description


def graph_of(network: ClosedForm, structure: Structure, pairs: np.ndarray | None = None) -> HamiltonianGraph:
    pairs = pairs_within(structure, CUTOFF) if pairs is None else pairs
    return build_model_graph(network, structure, pairs, dtype=torch.float64, wigner=False)


def matrix_of(network: ClosedForm, structure: Structure, spin: SpinMode = SpinMode.NONE) -> BlockSparseMatrix:
    pairs = pairs_within(structure, CUTOFF)
    rows = BASIS.orbitals_per_atom(structure.symbols) * spin.multiplicity
    return BlockSparseMatrix.from_pairs(pairs, rows, network(graph_of(network, structure)).numpy().astype(spin.dtype))


def spin_rotation(rotation: np.ndarray) -> np.ndarray:
    """The matrix of SU(2) of a rotation, basis up and down."""
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([[w - 1j * z, -y - 1j * x], [y - 1j * x, w + 1j * z]])


@pytest.mark.parametrize("inversion", [1, -1])
@pytest.mark.parametrize(("spin", "order"), KINDS)
def test_hamiltonian_turns_with_the_structure(spin: SpinMode, order: int, inversion: int) -> None:
    network, _ = network_of(spin, body_order=order)
    structure = random_structure()
    rotation = Rotation.random(random_state=3).as_matrix()
    turn = inversion * rotation
    turned = Structure(structure.symbols, structure.positions @ turn.T + 0.7, structure.cell @ turn.T)
    first, second = (matrix_of(network, s, spin) for s in (structure, turned))
    d = [matrix[0].numpy() * inversion**l for l, matrix in enumerate(wigner_d(torch.from_numpy(rotation)[None], 2))]
    spatial = {s: scipy.linalg.block_diag(*[d[l] for l in shells]) for s, shells in BASIS.shells.items()}
    if spin is not SpinMode.NONE:
        spatial = {s: np.kron(spin_rotation(rotation), matrix) for s, matrix in spatial.items()}
    largest = np.abs(first.entries).max()
    for pair in first.atom_pairs:
        R, i, j = tuple(int(n) for n in pair[:3]), int(pair[3]), int(pair[4])
        left, right = spatial[structure.symbols[i]], spatial[structure.symbols[j]]
        assert np.abs(left @ first.block(R, i, j) @ right.conj().T - second.block(R, i, j)).max() < 1e-10 * largest


@pytest.mark.parametrize("spin", SPINS)
def test_hamiltonian_is_hermitian_and_not_zero(spin: SpinMode) -> None:
    matrix = matrix_of(network_of(spin)[0], random_structure(), spin)
    scale = np.abs(matrix.entries).max()
    assert np.abs(matrix.entries - matrix.adjoint().entries).max() < 1e-10 * scale
    assert (np.abs(matrix.entries) > 1e-6 * scale).mean() > 0.9


def test_time_reversal_holds_with_spin() -> None:
    matrix = matrix_of(network_of(SpinMode.NONCOLLINEAR)[0], random_structure(), SpinMode.NONCOLLINEAR)
    sigma = np.array([[0, -1j], [1j, 0]])
    for pair in matrix.atom_pairs[:20]:
        block = matrix.block(tuple(int(n) for n in pair[:3]), int(pair[3]), int(pair[4]))
        n, m = block.shape[0] // 2, block.shape[1] // 2
        turned = np.kron(sigma, np.eye(n)) @ block.conj() @ np.kron(sigma, np.eye(m))
        np.testing.assert_allclose(turned, block, atol=1e-10 * np.abs(matrix.entries).max())


def test_order_of_atoms_does_not_matter() -> None:
    network, _ = network_of()
    structure = random_structure()
    order = np.array([3, 0, 4, 1, 2])
    other = Structure(tuple(structure.symbols[n] for n in order), structure.positions[order], structure.cell)
    first, second = matrix_of(network, structure), matrix_of(network, other)
    for pair in second.atom_pairs:
        R, i, j = tuple(int(n) for n in pair[:3]), int(pair[3]), int(pair[4])
        expected = first.block(R, int(order[i]), int(order[j]))
        np.testing.assert_allclose(second.block(R, i, j), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("spin", SPINS)
def test_chunks_equal_the_whole(spin: SpinMode) -> None:
    network, description = network_of(spin)
    structure = random_structure()
    pairs = pairs_within(structure, CUTOFF)[::-1]
    whole = network(graph_of(network, structure, pairs)).numpy()
    parts = predict_entries(network, structure, pairs, description, edges_per_chunk=7, dtype=torch.float64)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-10 * np.abs(whole).max())


@pytest.mark.parametrize("spin", SPINS)
def test_fit_finds_a_hamiltonian_of_its_own_form(spin: SpinMode) -> None:
    teacher, _ = network_of(spin)
    pupil, _ = network_of(spin, seed=None)
    structures = [random_structure(seed) for seed in range(1, 13)]
    graphs = []
    for structure in structures:
        graph = graph_of(teacher, structure)
        graphs.append(attach_labels(graph, matrix_of(teacher, structure, spin), torch.float64))
    pupil.fit(graphs[:10])
    for graph in graphs[:10]:
        assert float((pupil(graph) - graph.label).abs().mean()) < 0.02 * float(graph.label.abs().mean())
    for graph in graphs[10:]:
        assert float((pupil(graph) - graph.label).abs().mean()) < 0.3 * float(graph.label.abs().mean())


def test_model_is_stored_and_read(tmp_path: Path) -> None:
    network, description = network_of()
    structure = random_structure()
    expected = network(graph_of(network, structure)).numpy()
    save_model(tmp_path, network, description)
    again, _ = load_model(tmp_path, dtype=torch.float64)
    np.testing.assert_array_equal(again(graph_of(network, structure)).numpy(), expected)
    assert not again.trainable


def test_derivatives_agree_with_finite_differences() -> None:
    network, _ = network_of()
    graph = graph_of(network, random_structure())
    weights = torch.randn(len(network(graph)), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    vectors = graph.edge_vec.clone()
    graph.edge_vec = vectors.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((network(graph) * weights).sum(), graph.edge_vec)
    for edge in (0, 7, 31):
        for axis in range(3):
            values = []
            for step in (1e-5, -1e-5):
                graph.edge_vec = vectors.clone()
                graph.edge_vec[edge, axis] += step
                values.append(float((network(graph) * weights).sum()))
            assert float(gradient[edge, axis]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-4)


@pytest.mark.slow
def test_four_centres_are_worth_it_where_they_exist() -> None:
    """Of data with four centres, structures that are left out are predicted better with them; of others, not."""
    pupil, _ = network_of(seed=None, body_order=4, lmax_environment=2, element_channels=1)
    assert pupil.model.architecture.products is not None
    for order, better in ((4, True), (3, False)):
        teacher, _ = network_of(body_order=order, lmax_environment=2, element_channels=1)
        graphs = []
        for structure in [random_structure(seed) for seed in range(1, 13)]:
            graph = graph_of(teacher, structure)
            graphs.append(attach_labels(graph, matrix_of(teacher, structure), torch.float64))
        three, four = left_out_errors(pupil.model, graphs)
        assert min(three, four) > 0
        assert (four < 0.95 * three) is better


def test_radial_functions_are_smooth_and_fall() -> None:
    space = RadialSpace.within(0.7, 6.0, 0.5, 1.0, 0.01)
    r = torch.tensor([1.0, 5.5], dtype=torch.float64)
    near, far = (gaussians(r, space.centres()) @ space.coefficients()).square().sum(dim=1)
    assert 4 < space.n_functions < 16
    assert float(far / near) == pytest.approx(np.exp(-9), rel=0.5)


def test_random_mixtures_of_elements_are_orthogonal() -> None:
    mixing = element_mixing(3, "abcdefgh")
    np.testing.assert_allclose(mixing @ mixing.T, np.eye(3) * 8 / 3, atol=1e-12)
    np.testing.assert_array_equal(element_mixing(3, ["C", "O"]), np.eye(2))


def fitted_pair(n: int = 10) -> tuple[ClosedForm, list[HamiltonianGraph], ClosedForm]:
    """A teacher, graphs labelled by it, and a model fitted to the first of them."""
    teacher, _ = network_of()
    pupil, _ = network_of(seed=None)
    graphs = []
    for seed in range(1, n + 4):
        structure = random_structure(seed)
        graphs.append(attach_labels(graph_of(teacher, structure), matrix_of(teacher, structure), torch.float64))
    pupil.fit(graphs[:n])
    return teacher, graphs, pupil


def test_posterior_knows_what_it_was_fitted_to() -> None:
    """In the data leverages are at most 1; atoms squeezed together are outside; expected errors grow with them."""
    _, graphs, pupil = fitted_pair()
    squeezed = random_structure(1)
    far = Structure(squeezed.symbols, 0.75 * squeezed.positions, 0.75 * squeezed.cell)
    known, unknown = (pupil.uncertainty(graph) for graph in (graphs[0], graph_of(pupil, far)))
    assert known is not None and unknown is not None
    assert (known > 0).all() and float(unknown.median()) > 3 * float(known.median())


def test_outside_is_named_atom_by_atom(tmp_path: Path) -> None:
    _, _, pupil = fitted_pair()
    structure = random_structure(1)
    moved = structure.positions.copy()
    moved[0] += np.array([0.9, 0.0, 0.0])
    reports = []
    for positions in (structure.positions, moved):
        changed = Structure(structure.symbols, positions, structure.cell)
        pairs = pairs_within(changed, CUTOFF)
        trust = Trust.empty(len(pairs))
        description = network_of(seed=None)[1]
        predict_entries(pupil, changed, pairs, description, dtype=torch.float64, trust=trust)
        reports.append(trust.summary(pairs, BASIS.orbitals_per_atom(changed.symbols)))
    assert reports[0]["n_atoms_outside"] == 0
    assert 0 in reports[1]["atoms_outside"]
    assert reports[1]["expected_mae_eV"] > reports[0]["expected_mae_eV"] > 0


@pytest.mark.slow
def test_smooth_prior_beats_none_where_data_are_few() -> None:
    """A smooth H of distances, seen in two structures only: the finest prior, nearly one ridge, errs more."""
    errors = []
    teacher, _ = network_of()
    for detail in ("smooth", "fine"):
        pupil, _ = network_of(seed=None, detail=detail, lmax_environment=3)
        graphs = []
        for seed in range(1, 7):
            structure = random_structure(seed)
            graphs.append(attach_labels(graph_of(teacher, structure), matrix_of(teacher, structure), torch.float64))
        pupil.fit(graphs[:3])
        rest = [float((pupil(graph) - graph.label).abs().mean()) for graph in graphs[3:]]
        errors.append(sum(rest))
    assert errors[0] < errors[1]
