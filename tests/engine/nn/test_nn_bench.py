"""`deeph-engine bench`: its keys, and the folders it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.io.deeph_legacy import write_legacy
from tests.engine.training.toy import toy_member

KEYS = {
    "build_s": float,
    "train_s_per_step": float,
    "train_cpu_s_per_step": float,
    "infer_s": float,
    "infer_cpu_s": float,
    "atoms": int,
    "edges": int,
    "parameters": int,
    "peak_rss_gib": float,
    "device": str,
    "threads": int,
    "commit": str,
}


def bench(folder: Path, *arguments: str) -> dict[str, Any]:
    config = {"irreps_embed": "4x0e", "irreps_mid": "4x0e+2x1o", "lmax": 1, "n_blocks": 1, "n_gaussians": 8}
    (folder / "network.json").write_text(json.dumps(config))
    options = ["--config", str(folder / "network.json"), "--steps", "2", "--json", str(folder / "bench.json")]
    result = CliRunner().invoke(engine, ["bench", *options, *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads((folder / "bench.json").read_text())
    assert all(type(found[key]) is kind for key, kind in KEYS.items())
    assert all(found[key] > 0 for key, kind in KEYS.items() if kind is not str)
    return found


def test_built_in_cell(tmp_path: Path) -> None:
    found = bench(tmp_path, "--cells", "1", "--cutoff", "3")
    assert (found["atoms"], found["device"], found["threads"]) == (2, "cpu", 1)
    assert found["train_cpu_s_per_step"] > found["infer_cpu_s"]
    assert found["start_rss_gib"] <= found["peak_rss_gib"]


def test_folders_new_and_legacy(tmp_path: Path) -> None:
    """One folder, or all below a path; a batch of two holds the atoms of both."""
    write_deeph(tmp_path / "data" / "new", toy_member(0))
    write_legacy(tmp_path / "data" / "old", toy_member(1))
    one = [bench(tmp_path, "--dataset", str(tmp_path / "data" / name)) for name in ("new", "old")]
    both = bench(tmp_path, "--dataset", str(tmp_path / "data"), "--batch", "2")
    assert [found["atoms"] for found in one] == [4, 4]
    assert both["edges"] == sum(found["edges"] for found in one)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no DeepH folder"):
        bench(tmp_path, "--dataset", str(tmp_path / "empty"))
