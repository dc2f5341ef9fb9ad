"""What is computed between the jobs."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm

from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.domain.kpath import default_path
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.io.split import check_split, split_counts
from aiida_deeph.engine.structures.changes import repeated
from aiida_deeph.engine.structures.design import DesignConfig, draw
from aiida_deeph.workflows.band_functions import band_kpoints, compare_band_structures
from aiida_deeph.workflows.dataset_report import summarise
from aiida_deeph.workflows.draw import perturb_structures

LAYER = Structure(
    ("C", "C"),
    np.array([[0.0, 0, 5], [0, 1.42, 5]]),
    np.array([[2.46, 0, 0], [-1.23, 2.13, 0], [0, 0, 10.0]]),
    (1, 1, 0),
)


def test_perturbation_is_the_same_for_the_same_seed_and_index():
    config = DesignConfig(n=5, amplitude=0.1, strain=0.02)
    again = DesignConfig(n=500, amplitude=0.1, strain=0.02)
    other = DesignConfig(n=5, amplitude=0.1, strain=0.02, seed=43)
    first = draw(LAYER, config, 3)
    np.testing.assert_array_equal(first.positions, draw(LAYER, again, 3).positions)
    assert np.abs(first.positions - draw(LAYER, config, 2).positions).max() > 1e-3
    assert np.abs(first.positions - draw(LAYER, other, 3).positions).max() > 1e-3


def test_displacements_stay_within_the_amplitude():
    config = DesignConfig(n=1, amplitude=0.1, supercell=(4, 4, 1))
    cell = repeated(LAYER, (4, 4, 1))
    moves = np.stack([draw(LAYER, config, n).positions - cell.positions for n in range(20)])
    assert 0.095 < np.abs(moves).max() <= 0.1
    normal = DesignConfig(n=1, amplitude=0.1, supercell=(4, 4, 1), distribution="normal")
    moves = np.stack([draw(LAYER, normal, n).positions - cell.positions for n in range(20)])
    assert np.abs(moves).max() == pytest.approx(0.2)
    assert moves.std() == pytest.approx(0.1, rel=0.15)


def test_strain_leaves_the_vacuum_alone():
    config = DesignConfig(n=1, amplitude=0.0, strain=0.05)
    cells = [draw(LAYER, config, n) for n in range(10)]
    for cell in cells:
        np.testing.assert_allclose(cell.cell[2], [0, 0, 10])
        np.testing.assert_allclose(cell.positions[:, 2], 5.0)
        fractional = cell.positions @ np.linalg.inv(cell.cell)
        np.testing.assert_allclose(fractional, LAYER.positions @ np.linalg.inv(LAYER.cell), atol=1e-12)
    assert len({round(float(cell.cell[0, 0]), 6) for cell in cells}) == 10


def test_repeated_keeps_neighbours():
    double = repeated(LAYER, (2, 1, 1))
    assert double.symbols == ("C",) * 4
    np.testing.assert_allclose(double.positions[2] - double.positions[0], LAYER.cell[0])
    np.testing.assert_allclose(double.cell[0], 2 * LAYER.cell[0])


def test_parents_take_turns(hydrogen_chain):
    parents = {"a": hydrogen_chain(4), "b": hydrogen_chain(6)}
    cells = perturb_structures(orm.Dict({"n": 5}), orm.Int(1), orm.Int(9), **parents)
    assert sorted(cells) == ["cell_0001", "cell_0002", "cell_0003", "cell_0004"]
    assert [len(cells[name].sites) for name in sorted(cells)] == [6, 4, 6, 4]
    assert cells["cell_0001"].pbc == (True, False, False)
    creator = cells["cell_0001"].creator
    assert {link.link_label for link in creator.base.links.get_incoming().all()} >= {"a", "b", "settings"}


@pytest.mark.parametrize(
    ("cell", "pbc", "path"),
    [
        (np.diag([3.0, 8.0, 8.0]), (1, 0, 0), "G-X"),
        (LAYER.cell, (1, 1, 0), "G-M-K-G"),
        (np.diag([3.0, 3.0, 9.0]), (1, 1, 0), "G-X-M-G"),
        (np.diag([3.0, 4.0, 9.0]), (1, 1, 0), "G-X-S-Y-G"),
        (np.diag([3.0, 3.0, 3.0]), (1, 1, 1), "G-X-M-G-R-X|R-M"),
        (np.diag([9.0, 9.0, 9.0]), (0, 0, 0), "G-G"),
    ],
)
def test_path_of_chains_layers_and_crystals(cell, pbc, path):
    structure = Structure(("C",), np.zeros((1, 3)), cell, pbc)
    assert default_path(structure).split("|")[0].startswith(path.split("|")[0][:7])
    if sum(pbc) < 3:
        assert default_path(structure) == path


def test_kpoints_carry_their_names(hydrogen_chain):
    node = band_kpoints(hydrogen_chain(), orm.Dict({"path": None, "points_per_segment": 4}))
    np.testing.assert_allclose(node.get_kpoints()[:, 0], [0, 0.125, 0.25, 0.375, 0.5])
    assert node.labels == [(0, "G"), (4, "X")]
    assert node.pbc == (True, False, False)


def bands(energies) -> orm.BandsData:
    node = orm.BandsData()
    node.set_kpoints([[0.0, 0, 0], [0.5, 0, 0]])
    node.set_bands(np.array(energies), units="eV")
    return node


def test_comparison_aligns_and_counts_in_mev():
    reference = bands([[-2.0, 1.0, 5.0], [-1.0, 2.0, 6.0]])
    # Shifted by 3 eV as a whole, and the conduction band off by 0.1 eV.
    predicted = bands([[1.0, 4.1, 9.0], [2.0, 5.1, 12.0]])
    result = compare_band_structures(predicted, reference, orm.Dict({"n_occupied": 1})).get_dict()
    assert result["shift"] == pytest.approx(-3.0)
    assert result["band_mae_meV"] == pytest.approx(50.0)
    assert result["band_max_meV"] == pytest.approx(100.0)


def test_summary_names_the_worst_validation():
    numbers = {"n_labels": 5, "n_failed": 1, "failed": {"a": "why"}, "n_rejected": 0, "n_members": 4}
    result = summarise(
        orm.Dict({"dataset": 1.0}),
        orm.Dict(numbers),
        orm.Dict({"n_train": 2, "n_validation": 1, "n_test": 1, "epochs": 7}),
        orm.Dict({"mae_eV": 0.002, "max_eV": 0.1}),
        good=orm.Dict({"band_mae_meV": 3.0, "band_max_meV": 9.0}),
        bad=orm.Dict({"band_mae_meV": 30.0, "band_max_meV": 40.0}),
    ).get_dict()
    assert result["test_mae_meV"] == pytest.approx(2.0)
    assert result["band_mae_meV"] == 30.0
    assert result["validation"] == {"good": 3.0, "bad": 30.0}
    assert (result["n_test"], result["failed"]) == (1, {"a": "why"})


def test_split_counts_are_those_of_the_engine(make_manifest):
    from aiida_deeph.engine.io.split import SplitConfig, split

    for n in range(4, 30):
        for shares in (SplitConfig(), SplitConfig(train=0.7, validation=0.1, test=0.15)):
            try:
                parts = split(make_manifest(n), shares, 1)
            except Exception:
                assert check_split(n, shares.model_dump()) is not None
                continue
            assert split_counts(n, shares) == {name: len(members) for name, members in parts.items()}
            assert check_split(n, shares.model_dump()) is None


@pytest.mark.parametrize(
    ("n", "settings", "message"),
    [
        (2, {}, "no test member: 2 labels in shares 0.6/0.2/0.2"),
        (50, {"test": 0.01}, "no test member"),
        (10, {"train": 0.9, "test": 0.2, "validation": 0.2}, "add up to more than 1"),
        (10, {"tset": 0.2}, "tset"),
    ],
)
def test_split_without_test_member_is_refused(n, settings, message):
    assert message in check_split(n, settings)


def test_to_engine_and_back_keeps_order(hydrogen_chain):
    node = hydrogen_chain(5)
    cells = perturb_structures(orm.Dict({"n": 1, "amplitude": 0.0}), orm.Int(0), orm.Int(1), only=node)
    np.testing.assert_allclose(to_engine(cells["cell_0000"]).positions, to_engine(node).positions)
