"""`aiida-deeph quickstart` as a user runs it, reduced: real DFT, training and prediction through a daemon."""

from __future__ import annotations

import json
import re

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

KEYS = {
    "n_labels",
    "n_train",
    "n_test",
    "test_mae_meV",
    "test_max_meV",
    "band_mae_meV",
    "n_atoms_predicted",
    "wall_s",
    "aiida_process_uuid",
}


def test_summary_holds_what_was_measured(quickstart) -> None:
    summary = json.loads((quickstart.folder / "summary.json").read_text())
    assert set(summary) >= KEYS
    assert (summary["n_labels"], summary["n_train"], summary["n_test"]) == (4, 2, 1)
    assert summary["n_atoms_predicted"] == 30
    assert 0 < summary["test_mae_meV"] <= summary["test_max_meV"]
    steps = summary["wall_s"]
    assert {"dataset", "train", "predict", "bands", "total"} <= set(steps)
    assert all(seconds > 0 for seconds in steps.values())
    assert steps["total"] >= steps["dataset"] + steps["train"]


def test_report_is_one_file_with_all_pictures(quickstart) -> None:
    page = (quickstart.folder / "report.html").read_text()
    for title in ("Error of H by distance", "Error of H by pair", "Bands of a cell", "The long chain", "Provenance"):
        assert title in page
    assert page.count("data:image/svg+xml;base64,") == 5
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:|//|file:)""", page), "the report loads something"


def test_default_profile_is_left_alone(quickstart) -> None:
    config = json.loads((quickstart.home / ".aiida" / "config.json").read_text())
    assert config["default_profile"] == "mine"
    assert set(config["profiles"]) == {"mine", "small"}
    profile = config["profiles"]["small"]
    assert profile["storage"]["backend"] == "core.sqlite_dos"
    assert profile["process_control"]["backend"] == "core.zeromq"


def test_no_daemon_is_left_behind(quickstart, command) -> None:
    status = command("verdi", "-p", quickstart.profile, "daemon", "status", cwd=quickstart.folder, check=False)
    assert "not running" in status.stdout + status.stderr


def test_provenance_joins_labels_dataset_model_and_bands(quickstart, command) -> None:
    uuid = json.loads((quickstart.folder / "summary.json").read_text())["aiida_process_uuid"]
    script = quickstart.folder / "walk.py"
    script.write_text(
        f"""
from aiida import orm
process = orm.load_node("{uuid}")
assert process.is_finished_ok
for name in ("soliton", "unseen"):
    bands = process.outputs.bands[name]
    ancestors = orm.QueryBuilder().append(orm.Node, filters={{"id": bands.pk}}, tag="bands")
    ancestors.append(orm.CalcJobNode, with_descendants="bands")
    labels = [node.process_label for node in ancestors.distinct().all(flat=True)]
    print(name, {{label: labels.count(label) for label in sorted(set(labels))}})
    assert labels.count("PyscfCalculation") == 4, labels
    for label in ("PreprocessCalculation", "TrainCalculation", "OverlapCalculation", "PredictCalculation"):
        assert label in labels, labels
"""
    )
    command("verdi", "-p", quickstart.profile, "run", str(script), cwd=quickstart.folder)


def test_second_run_takes_everything_from_the_cache(quickstart, command, tmp_path) -> None:
    again = command(
        *("aiida-deeph", "quickstart", "--profile", quickstart.profile, "--workdir", str(tmp_path), "--reduced"),
        cwd=tmp_path,
    )
    assert "reused" in again.stderr
    first = json.loads((quickstart.folder / "summary.json").read_text())
    second = json.loads((tmp_path / "summary.json").read_text())
    assert second["aiida_process_uuid"] != first["aiida_process_uuid"]
    assert second["test_mae_meV"] == first["test_mae_meV"]
    assert second["wall_s"]["train"] < first["wall_s"]["train"]
    script = tmp_path / "cached.py"
    script.write_text(
        f"""
from aiida import orm
process = orm.load_node("{second["aiida_process_uuid"]}")
jobs = [node for node in process.called_descendants if isinstance(node, orm.CalcJobNode)]
fresh = [node.process_label for node in jobs if not node.base.caching.is_created_from_cache]
assert len(jobs) > 10 and not fresh, fresh
"""
    )
    command("verdi", "-p", quickstart.profile, "run", str(script), cwd=tmp_path)
