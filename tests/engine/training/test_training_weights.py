"""Weights of the loss by pair of shells."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.training.checkpoint import load_checkpoint, save_checkpoint
from aiida_deeph.engine.training.config import EvaluateConfig, LossConfig, TrainConfig
from aiida_deeph.engine.training.data import GraphSettings, labelled_graph
from aiida_deeph.engine.training.evaluate import evaluate
from aiida_deeph.engine.training.loss import orbital_weights, site_weigher, summed_loss, weigh_structure, weigher
from aiida_deeph.engine.training.run import train
from aiida_deeph.engine.units import HARTREE_TO_EV
from tests.engine.training.test_training_run import SMALL, metrics
from tests.engine.training.toy import BASIS, TinyNetwork, toy_loop, toy_member, toy_sets


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
def test_every_pair_of_shells_counts_alike(spin: SpinMode) -> None:
    layout = EntryLayout.of(BASIS, spin)
    settings = GraphSettings(layout, 1, "float64")
    graphs = [labelled_graph(toy_member(seed, spin), settings) for seed in range(4)]
    assert torch.equal(orbital_weights(layout, graphs, 0), torch.ones(layout.n_columns, dtype=torch.float64))
    for power in (0.5, 1.0):
        weights = orbital_weights(layout, graphs, power)
        weighed = [weigher(weights)(graph) for graph in graphs]
        everything = torch.cat([graph.loss_weight for graph in weighed])
        assert float(everything.mean()) == pytest.approx(1)
        terms = []
        for first, target in zip(layout.first_columns.tolist(), layout.targets, strict=False):
            size = layout.n_spin_blocks * (2 * target.l1 + 1) * (2 * target.l2 + 1)
            columns = [graph.entry_index % layout.n_columns for graph in graphs]
            own = [(column >= first) & (column < first + size) for column in columns]
            squares = torch.cat([graph.label[rows].abs().square() for graph, rows in zip(graphs, own, strict=True)])
            weight = torch.cat([graph.loss_weight[rows] for graph, rows in zip(graphs, own, strict=True)])
            assert (weight == weight[0]).all()
            terms.append(float(squares.mean() ** power * weight[0]))
        assert terms == pytest.approx([terms[0]] * len(terms))
        assert terms[0] > 0


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_blocks_on_the_atoms_have_their_share(toy_dataset: Path, power: float) -> None:
    """Of what the entries weigh already; the mean of all weights stays."""
    layout = EntryLayout.of(BASIS, SpinMode.NONE)
    graphs = [toy_sets(toy_dataset, 3, 0)[0][n] for n in range(3)]
    if power:
        graphs = [weigher(orbital_weights(layout, graphs, power))(graph) for graph in graphs]
    before = [graph.loss_weight.clone() if power else torch.ones_like(graph.label) for graph in graphs]
    function = site_weigher(graphs, 0.4)
    total, of_sites = 0.0, 0.0
    for graph, weight in zip([function(graph) for graph in graphs], before, strict=True):
        loops = set(graph.loops.tolist())
        on_site = torch.tensor([int(n) in loops for n in graph.entry_index // layout.n_columns])
        for rows in (on_site, ~on_site):
            ratio = graph.loss_weight[rows] / weight[rows]
            torch.testing.assert_close(ratio, torch.full_like(ratio, float(ratio[0])))
        total += float(graph.loss_weight.sum())
        of_sites += float(graph.loss_weight[on_site].sum())
    assert of_sites / total == pytest.approx(0.4, rel=1e-5)
    assert total == pytest.approx(sum(float(weight.sum()) for weight in before), rel=1e-5)
    for graph in graphs:
        graph.entry_index = torch.full_like(graph.entry_index, int(graph.loops[0]) * layout.n_columns)
    with pytest.raises(DataError, match="nothing to share the loss with"):
        site_weigher(graphs, 0.4)


def test_a_share_of_the_loss_makes_blocks_on_the_atoms_better(toy_dataset: Path, tmp_path: Path) -> None:
    found = {}
    for share in (0.01, 0.9):
        folder = tmp_path / str(share)
        folder.mkdir()
        values = {"network": SMALL, "device": "cpu", "threads": 1, "epochs": 15, "learning_rate": 0.02}
        settings = TrainConfig.model_validate({"dataset": str(toy_dataset), **values, "loss": {"on_site": share}})
        train(settings, folder, quiet=True)
        evaluation = {"dataset": str(toy_dataset), "model": str(folder / "model"), "output": str(folder / "e.json")}
        found[share] = evaluate(EvaluateConfig(**evaluation, members="train", device="cpu"))["on_site"]["rmse_eV"]
    assert found[0.9] < 0.5 * found[0.01], found


def test_what_a_graph_holds_as_base_is_not_learned(toy_dataset: Path) -> None:
    layout = EntryLayout.of(BASIS, SpinMode.NONE)
    graphs = [toy_sets(toy_dataset, 3, 0)[0][n] for n in range(3)]
    for graph in graphs:
        graph.base = 0.5 * graph.label
    whole = orbital_weights(layout, graphs, 1.0)
    for graph in graphs:
        graph.base = graph.label + torch.where(graph.entry_index % layout.n_columns == 0, 2.0, 1.0)
    assert not torch.allclose(orbital_weights(layout, graphs, 1.0), whole)


def test_weighted_error() -> None:
    prediction, label, weight = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0]), torch.tensor([3.0, 0.5])
    assert float(summed_loss(prediction, label, weight)) == pytest.approx(3 * 1 + 0.5 * 4)
    turned = torch.complex(torch.zeros(2), prediction), torch.complex(torch.zeros(2), label)
    assert float(summed_loss(*turned, weight)) == pytest.approx(5)


def test_loss_of_both_powers_by_structure(toy_dataset: Path) -> None:
    config = LossConfig(squared=2, absolute=3, unit="Hartree", mean="structures")
    prediction, label = HARTREE_TO_EV * torch.tensor([1.0, 2.0]), HARTREE_TO_EV * torch.tensor([0.0, 4.0])
    weight = torch.tensor([3.0, 0.5])
    expected = 3 * (2 * 1 + 3 * 1) + 0.5 * (2 * 4 + 3 * 2)
    assert float(summed_loss(prediction, label, weight, config)) == pytest.approx(expected)
    turned = torch.complex(torch.zeros(2), prediction), torch.complex(torch.zeros(2), label)
    assert float(summed_loss(*turned, weight, config)) == pytest.approx(expected)
    plain = LossConfig(unit="Hartree")
    assert float(summed_loss(prediction, label, None, plain)) == pytest.approx(5)
    graph = weigh_structure(toy_sets(toy_dataset, 1, 0)[0][0])
    assert float(graph.loss_weight.sum()) == pytest.approx(1) and len(graph.loss_weight) == len(graph.label)
    with pytest.raises(ValueError, match="both 0"):
        LossConfig(squared=0)


def test_training_follows_the_weights(toy_dataset: Path) -> None:
    """With all weight on s-s the other entries stay as they began; the reported losses are not weighted."""
    sets = toy_sets(toy_dataset, 6, 2)
    layout = sets[0][0]
    weights = torch.zeros(layout.n_columns, dtype=torch.float64)
    weights[0] = 1
    sets[0].prepare(weigher(weights))
    loop = toy_loop(sets, {"epochs": 20})
    network: TinyNetwork = loop._network
    before = network.loop.detach().clone()
    loop.run()
    moved = (network.loop - before).abs().max(dim=0).values
    assert moved[0] > 1e-2 and moved[1:].max() == 0
    assert loop.rows[-1]["train_loss"] > 0.5
    assert loop.rows[-1]["validation_loss"] == pytest.approx(loop.rows[-1]["train_loss"], rel=0.2)


def test_all_options_together_and_an_older_checkpoint(toy_dataset: Path, tmp_path: Path) -> None:
    """A checkpoint from before an option existed is continued with the option's default."""
    network = {"name": "deephe3-on-site", "hermitian": True, **SMALL}
    values = {"dataset": str(toy_dataset), "network": network, "device": "cpu", "batch_size": 2, "learning_rate": 5e-3}
    options = {"orbital_weighting": 0.5, "ema_decay": 0.9, "max_edges_per_batch": 30, "scheduler": {"name": "cosine"}}
    train(TrainConfig.model_validate({**values, **options, "epochs": 8}), tmp_path, quiet=True)
    rows = metrics(tmp_path)
    assert rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"]

    plain = TrainConfig.model_validate({**values, "network": {**SMALL}, "epochs": 1})
    folder = tmp_path / "old"
    folder.mkdir()
    train(plain, folder, quiet=True)
    state = load_checkpoint(folder / "checkpoint")
    del state["config"]["orbital_weighting"], state["config"]["network"]["hermitian"]
    save_checkpoint(folder / "checkpoint", state)
    restart = plain.model_copy(update={"epochs": 2, "restart": str(folder / "checkpoint")})
    train(restart, folder, quiet=True)
    assert [row["epoch"] for row in metrics(folder)] == [0, 1]
