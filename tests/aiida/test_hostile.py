"""Files from strangers: models, inputs and archives that would run code, if anything here ran code."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from aiida import orm
from aiida.common.links import LinkType
from aiida.tools.archive import create_archive
from click.testing import CliRunner

from aiida_deeph.cli.main import command
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.model import DESCRIPTION_FILE, WEIGHTS_FILE

IMPORTS = """
import sys
from aiida import load_profile, orm
from aiida.storage.sqlite_temp import SqliteTempBackend
from aiida.tools.archive import import_archive
load_profile(SqliteTempBackend.create_profile("empty"))
import_archive(sys.argv[1])
from aiida_deeph.report.model_card import model_card
model = orm.load_node(sys.argv[2])
assert model_card(model)["model"]
model.export(sys.argv[3])
for process in orm.QueryBuilder().append(orm.ProcessNode).all(flat=True):
    print(process.process_label, process.base.attributes.all.get("checkpoints"))
"""


class Payload:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture
def marker(tmp_path) -> Path:
    """File that exists if code was run."""
    return tmp_path / "code was run"


@pytest.fixture
def hostile_model(make_model_folder, marker) -> Path:
    """A model folder whose weights are a pickle that runs code, with the hash that belongs to it."""
    folder = make_model_folder(name="hostile")
    weights = pickle.dumps(Payload(marker))
    (folder / WEIGHTS_FILE).write_bytes(weights)
    values = json.loads((folder / DESCRIPTION_FILE).read_text())
    values["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    (folder / DESCRIPTION_FILE).write_text(json.dumps(values))
    return folder


def test_the_payload_is_one(marker):
    pickle.loads(pickle.dumps(Payload(marker))).close()  # noqa: S301
    assert marker.exists()


def test_pickle_in_a_model_is_not_loaded(aiida_profile, hostile_model, deeph_folder, marker, tmp_path):
    """Neither by the node nor by the engine; how the engine reads weights is tested in test_nn_hostile.py."""
    node = DeepHModelData(hostile_model).store()
    node.export(tmp_path / "exported")
    config = {"model": "exported", "structure": "deeph", "output": "prediction", "device": "cpu"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    engine = Path(sys.executable).with_name("deeph-engine")
    done = subprocess.run([engine, "predict", "config.json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("deeph-engine: ") and "exported" in line
    assert not marker.exists()


@pytest.mark.parametrize("where", ["title: {}", "overrides: {{dataset: {{label: {{parameters: {}}}}}}}"])
def test_code_in_an_inputs_file_is_not_run(aiida_profile, marker, tmp_path, where):
    code = f"!!python/object/apply:os.system ['touch \"{marker}\"']"
    path = tmp_path / "inputs.yaml"
    path.write_text(where.format(code) + "\nstructures: {a: a.xyz}\ncodes: {engine: none}\n")
    result = CliRunner().invoke(command, ["-p", aiida_profile.name, "launch", "full", "-f", str(path), "--dry-run"])
    assert isinstance(result.exception, InputError)
    assert "configuration cannot be read" in str(result.exception)
    assert not marker.exists()


@pytest.mark.slow
def test_archive_runs_nothing(aiida_profile_clean, hostile_model, marker, tmp_path):
    """The state of a process is YAML that AiiDA loads with care for nothing: an imported process has none."""
    job = orm.CalcJobNode(process_type="aiida.calculations:deeph.train")
    job.base.attributes.set("checkpoints", f"!!python/object/apply:os.system ['touch \"{marker}\"']")
    job.store()
    model = DeepHModelData(hostile_model)
    model.base.links.add_incoming(job, LinkType.CREATE, "model")
    model.store()
    job.base.attributes.set("process_state", "finished")
    job.base.attributes.set("sealed", True)
    archive = tmp_path / "hostile.aiida"
    create_archive([model, job], filename=archive, include_authinfos=False)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTS, str(archive), model.uuid, str(tmp_path / "exported")],
        env={**os.environ, "AIIDA_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "exported" / WEIGHTS_FILE).is_file()
    assert not marker.exists()
