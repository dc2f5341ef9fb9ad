"""Steps of an epoch, batches, and the cache of graphs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.io.dataset import read_manifest
from aiida_deeph.engine.training import data as data_module
from aiida_deeph.engine.training.batches import BatchSource, epoch_steps, share_of_rank, split_by_edges
from aiida_deeph.engine.training.data import (
    GraphCache,
    GraphSet,
    GraphSettings,
    graph_from_bytes,
    graph_key,
    graph_to_bytes,
    labelled_graph,
)
from tests.engine.training.toy import BASIS, toy_member

SETTINGS = GraphSettings(EntryLayout.of(BASIS, SpinMode.NONE), 1, "float32")


def test_each_epoch_holds_each_member_once_in_another_order() -> None:
    epochs = [epoch_steps(11, 3, seed=1, epoch=epoch) for epoch in range(3)]
    for steps in epochs:
        assert sorted(n for step in steps for n in step) == list(range(11))
        assert [len(step) for step in steps] == [3, 3, 3, 2]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[1] == epoch_steps(11, 3, seed=1, epoch=1)
    assert epochs[1] != epoch_steps(11, 3, seed=2, epoch=1)


def test_ranks_share_the_steps_of_a_larger_batch() -> None:
    alone = epoch_steps(10, 4, seed=5, epoch=2)
    together = epoch_steps(10, 2, seed=5, epoch=2, world_size=2)
    assert together == alone
    for step in together:
        assert sorted(share_of_rank(step, 0, 2) + share_of_rank(step, 1, 2)) == sorted(step)


def test_parts_respect_the_limit_and_the_order() -> None:
    n_edges = np.array([5, 9, 3, 3, 20, 1])
    assert split_by_edges((0, 1, 2, 3, 4, 5), n_edges, 12) == [(0,), (1, 2), (3,), (4,), (5,)]
    assert split_by_edges((0, 1), n_edges, None) == [(0, 1)]


def test_cached_graph_is_the_built_one(tmp_path: Path) -> None:
    graph = labelled_graph(toy_member(0), SETTINGS)
    again = graph_from_bytes(graph_to_bytes(graph))
    assert again is not None and type(again) is type(graph)
    for name, value in graph.to_dict().items():
        found = again.to_dict()[name]
        assert torch.equal(found, value) if isinstance(value, torch.Tensor) else found == value


def test_damaged_cache_is_not_used(toy_dataset: Path, tmp_path: Path) -> None:
    members = read_manifest(toy_dataset).members[:1]
    first = GraphSet(toy_dataset, members, SETTINGS, GraphCache(tmp_path))
    (file,) = tmp_path.glob("*.graph")
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    assert GraphCache(tmp_path).read(file.stem) is None
    second = GraphSet(toy_dataset, members, SETTINGS, GraphCache(tmp_path))
    assert torch.equal(second[0].label, first[0].label)
    assert GraphCache(tmp_path).read(file.stem) is not None, "the damaged file was not replaced"
    file.write_bytes(b"short")
    assert GraphCache(tmp_path).read(file.stem) is None


def test_second_set_reads_what_the_first_built(
    toy_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = read_manifest(toy_dataset).members[:3]
    GraphSet(toy_dataset, members, SETTINGS, GraphCache(tmp_path))
    monkeypatch.setattr(data_module, "labelled_graph", None)
    # No memory: every access goes to the disk.
    graphs = GraphSet(toy_dataset, members, SETTINGS, GraphCache(tmp_path), memory_limit=0)
    assert [len(graph.label) for graph in graphs] == graphs.n_entries.tolist()


def test_key_follows_content_and_settings_never_the_name() -> None:
    files = {"POSCAR": "a", "hamiltonian.h5": "b"}
    base = graph_key(files, SETTINGS.as_json())
    assert base == graph_key(dict(reversed(files.items())), SETTINGS.as_json())
    other_order = EntryLayout.of(OrbitalBasis(dict(reversed(BASIS.shells.items()))), SpinMode.NONE)
    for files_, settings in (
        ({**files, "hamiltonian.h5": "c"}, SETTINGS),
        (files, replace(SETTINGS, lmax=2)),
        (files, replace(SETTINGS, precision="float64")),
        (files, replace(SETTINGS, layout=other_order)),
    ):
        assert graph_key(files_, settings.as_json()) != base
    assert "m0" not in json.dumps(SETTINGS.as_json())


def test_folder_that_cannot_be_written_is_no_obstacle(toy_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = GraphCache(tmp_path / "file" / "graphs")
    graphs = GraphSet(toy_dataset, read_manifest(toy_dataset).members[:2], SETTINGS, cache)
    assert cache.folder is None
    assert len(graphs[1].label) == graphs.n_entries[1]


def test_basis_other_than_the_models_is_refused() -> None:
    other = GraphSettings(EntryLayout.of(OrbitalBasis({"H": (0, 0), "C": (0, 1)}), SpinMode.NONE), 1, "float32")
    with pytest.raises(DataError, match=r"basis differs from that of the model; in H; found \[0\]; expected \[0, 0\]"):
        labelled_graph(toy_member(0), other)


def test_kept_batches_and_workers_give_the_same(graphs: list[GraphSet]) -> None:
    parts = [(0, 2), (1,), (0, 2)]
    device = torch.device("cpu")
    sources = [
        BatchSource(graphs[0], device),
        BatchSource(graphs[0], device, keep=0),
        BatchSource(graphs[0], device, workers=1),
    ]
    found = [[batch.label for batch in source.batches(parts, recurring=True)] for source in sources]
    for labels in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(labels, found[0], strict=True))
    kept = [list(sources[0].batches(parts, recurring=True)) for _ in range(2)]
    assert all(a is b for a, b in zip(*kept, strict=True))
