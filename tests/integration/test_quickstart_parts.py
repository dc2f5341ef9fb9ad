"""Parts of the quickstart by themselves: chains, the drawn graph, figures and page."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.errors import InputError
from aiida_deeph.quickstart import polyacetylene, report
from aiida_deeph.quickstart.collect import pair_errors
from aiida_deeph.quickstart.results import BandsComparison, ChainSpectrum, Results
from aiida_deeph.report import graph_svg
from aiida_deeph.report.error_tables import DistanceErrors, PairErrors
from aiida_deeph.report.graph_svg import Box


def carbon_bonds(structure) -> np.ndarray:
    """C-C bond lengths along the chain, the last one through the boundary, shape (n_units,)."""
    pairs = pairs_within(structure, {"C-C": 1.6})
    vectors = structure.pair_vectors(pairs)
    forth = (pairs[:, 3] != pairs[:, 4]) & (vectors[:, 0] > 0)
    order = np.argsort(pairs[forth, 3])
    return np.linalg.norm(vectors[forth][order], axis=1)


@pytest.mark.parametrize("alternation", [0.05, 0.0, -0.05])
def test_dimerised_bonds(alternation: float) -> None:
    bonds = carbon_bonds(polyacetylene.dimerised(6, alternation))
    expected = polyacetylene.MEAN_BOND + alternation * np.array([1, -1] * 3)
    assert bonds == pytest.approx(expected, abs=1e-12)


def test_soliton_holds_one_wall() -> None:
    chain = polyacetylene.soliton(201, 0.05, 7.0)
    assert len(chain) == 402
    bonds = carbon_bonds(chain)
    # The twist turns a bond by 0.9 degrees: its length stays within 1e-4 Angstrom.
    alternation = (bonds - polyacetylene.MEAN_BOND) * (-1.0) ** np.arange(201)
    assert alternation[0] == pytest.approx(-0.05, abs=1e-3)
    assert alternation[-1] == pytest.approx(0.05, abs=1e-3)
    assert np.count_nonzero(np.diff(np.sign(alternation))) == 1
    assert bonds[99] == pytest.approx(bonds[100], abs=1e-4)
    # Every atom has its one hydrogen at the same distance, the boundary included.
    pairs = pairs_within(chain, {"C-H": 1.3})
    pairs = pairs[pairs[:, 3] != pairs[:, 4]]
    assert np.linalg.norm(chain.pair_vectors(pairs), axis=1) == pytest.approx(polyacetylene.CH_BOND)
    assert len(pairs) == 402


def test_soliton_is_locally_like_a_flat_chain() -> None:
    """Distances between neighbours within 5 Angstrom differ from those of the flat chain by less than 0.01 Angstrom."""
    twisted, flat = polyacetylene.soliton(201, 0.0, 7.0), polyacetylene.dimerised(6, 0.0)

    def distances(structure) -> np.ndarray:
        pairs = pairs_within(structure, {"C-C": 5.2})
        pairs = pairs[pairs[:, 3] == (200 if len(structure) > 12 else 0)]
        return np.sort(np.linalg.norm(structure.pair_vectors(pairs), axis=1))

    assert distances(twisted) == pytest.approx(distances(flat), abs=0.01)


@pytest.mark.parametrize(
    "build", [lambda: polyacetylene.soliton(200, 0.05, 7.0), lambda: polyacetylene.dimerised(5, 0)]
)
def test_wrong_parity_is_refused(build) -> None:
    with pytest.raises(InputError, match="number"):
        build()


def test_perturbed_cells_are_reproducible_and_bounded() -> None:
    first, second = (polyacetylene.perturbed(4, 0.03, 0.02, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.positions, second.positions)
    moved = first.positions - polyacetylene.dimerised(4, 0.03).positions
    assert 0.01 < np.abs(moved).max() <= 0.04 + 1e-12


def test_graph_is_layered_and_labelled() -> None:
    boxes = {
        "a": Box("cells", "data", 24),
        "b": Box("Pyscf", "process", 24),
        "c": Box("model", "data"),
        "d": Box("x", "data"),
    }
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("d", "c")]
    layer = graph_svg.layers_of(list(boxes), edges)
    assert layer == {"a": 0, "b": 1, "c": 2, "d": 1}
    root = ElementTree.fromstring(graph_svg.draw(boxes, edges))
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert sorted(texts) == ["24 x Pyscf", "24 x cells", "model", "x"]


def test_graph_with_a_circle_is_drawn() -> None:
    boxes = {"a": Box("a", "data"), "b": Box("b", "process")}
    layer = graph_svg.layers_of(list(boxes), [("a", "b"), ("b", "a")])
    assert sorted(layer.values()) == [0, 1]


def test_pair_errors_become_one_table() -> None:
    tables = {
        "C-C": [[0.001, 0.002], [0.002, 0.003]],
        "C-H": [[0.004], [None]],
        "H-C": [[0.004, None]],
        "H-H": [[0.005]],
    }
    errors = pair_errors({"shell_mae_eV": tables}, {"C": (0, 1), "H": (0,)})
    assert errors.labels == ["C s", "C p", "H s"]
    expected = [[1, 2, 4], [2, 3, np.nan], [4, np.nan, 5]]
    assert np.allclose(errors.mae_mev, expected, equal_nan=True)


def test_shells_of_one_kind_are_counted() -> None:
    errors = pair_errors({"shell_mae_eV": {}}, {"C": (0, 0, 1, 2)})
    assert errors.labels == ["C 1s", "C 2s", "C p", "C d"]


@pytest.fixture
def results() -> Results:
    """Made-up results of a chain with levels at -0.5, 0 and 0.5 eV around its half-filled state."""
    x = np.linspace(0, 1, 11)
    bands = np.stack([-5 + x, -1 - x, 1 + x], axis=1)
    levels = np.array([-2.0, -0.5, 0.1, 0.5, 2.0])
    energies = np.linspace(-4, 4, 201)
    return Results(
        summary={
            "n_labels": 24,
            "n_train": 16,
            "n_validation": 4,
            "n_test": 4,
            "n_atoms_labels": [8, 12],
            "n_atoms_predicted": 402,
            "test_mae_meV": 1.234,
            "test_max_meV": 30.0,
            "band_mae_meV": 12.34,
            "aiida_process_uuid": "an-uuid",
            "wall_s": {"train <1>": 10.0, "total": 90.0},
        },
        distance_errors=DistanceErrors(["on site", "1 to 2"], np.ones(2), np.array([1000.0, 100.0])),
        pair_errors=PairErrors(["C s", "H s"], np.array([[1.0, np.nan], [np.nan, 2.0]])),
        bands=BandsComparison(x, [(0.0, "G"), (1.0, "X")], bands, bands + 0.01, 2, "C8H8"),
        spectrum=ChainSpectrum(energies, np.exp(-(energies**2)), levels, 5.0, 1, "C201H201"),
        provenance_svg=graph_svg.draw({"a": Box("a", "data")}, []),
        commands=("verdi process status 1",),
    )


def test_report_says_the_numbers(results: Results, tmp_path: Path) -> None:
    summary, page = report.write(results, tmp_path / "new")
    assert json.loads(summary.read_text())["test_mae_meV"] == 1.234
    text = page.read_text()
    for expected in (
        "1.23 meV",
        "12.3 meV",
        "402",
        "1.5 min",
        "0.60 eV above",
        "0.40 eV below",
        "an-uuid",
        "train &lt;1&gt;",
    ):
        assert expected in text, expected
    assert sorted(path.name for path in page.parent.iterdir()) == ["figures", "report.html", "summary.json"]


def test_half_filled_state(results: Results) -> None:
    spectrum = results.spectrum
    assert (spectrum.middle, spectrum.midgap, spectrum.gap) == (2, 0.1, (-0.5, 0.5))
