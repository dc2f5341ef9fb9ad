"""One small pipeline: run again and compared, carried elsewhere in an archive and used there, and without secrets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from aiida import orm
from aiida.common.exceptions import NotExistent
from aiida.common.links import LinkType
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching
from click.testing import CliRunner

from aiida_deeph.cli.main import command
from aiida_deeph.engine.io.deeph import read_deeph
from aiida_deeph.workflows.full import FullWorkChain

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("provenance")]

SECRET = "planted-5f2b8c0e-in-the-environment"
NETWORK = {"irreps_embed": "4x0e", "irreps_mid": "4x0e+2x1o", "lmax": 1, "n_blocks": 1, "n_gaussians": 8}
OVERRIDES = {
    "dataset": {
        "perturbation": {"n": 4, "amplitude": 0.03},
        "keep": "hamiltonian",
        "label": {"parameters": {"ke_cutoff": 20.0}},
    },
    "train": {
        "train": {
            "parameters": {
                "network": NETWORK,
                "epochs": 2,
                "threads": 1,
                "split": {"train": 0.5, "validation": 0.25, "test": 0.25},
            }
        }
    },
    "bands": {"points_per_segment": 3, "dos": None},
}
# Another machine: an empty profile, where the archive is read and the model predicts.
ELSEWHERE = """
import json, sys
from pathlib import Path
from aiida import load_profile, orm
from aiida.engine import run_get_node
from aiida.manage.caching import enable_caching
from aiida.storage.sqlite_temp import SqliteTempBackend
from aiida.tools.archive import import_archive
scratch, archive, uuid, structure, engine = sys.argv[1:]
profile = SqliteTempBackend.create_profile("empty")
# Without a broker a workflow looks after its jobs in intervals.
profile.set_option("runner.poll.interval", 1)
load_profile(profile)
before = orm.QueryBuilder().append(orm.Node).count()
import_archive(archive)
model, structure = orm.load_node(uuid), orm.load_node(structure)
computer = orm.Computer("there", "localhost", "", "core.local", "core.direct", scratch + "/work").store()
computer.configure()
computer.set_minimum_job_poll_interval(0)
code = orm.InstalledCode(computer, engine, label="engine", default_calc_job_plugin="deeph.train").store()
from aiida_deeph.report.model_card import dft_runs
from aiida_deeph.workflows.predict import PredictWorkChain
builder = PredictWorkChain.get_builder_from_protocol(code, structure, model, protocol="fast")
results, node = run_get_node(builder)
assert node.is_finished_ok, (node.exit_status, node.exit_message)
results["hamiltonian"].export(Path(scratch) / "predicted")
print(json.dumps({"before": before, "runs": sorted(run.uuid for run in dft_runs(model))}))
"""
FINISHED: dict[str, str] = {}


@pytest.fixture
def tiny(engine_code, hydrogen_chain, monkeypatch) -> orm.WorkChainNode:
    """The whole pipeline once for all tests, with a secret in the environment."""
    try:
        return orm.load_node(FINISHED.get("tiny", "00000000"))
    except NotExistent:
        pass
    monkeypatch.setenv("PLANTED_SECRET", SECRET)
    engine_code.computer.set_minimum_job_poll_interval(0.2)
    structures = {"structures": {"parent": hydrogen_chain()}, "targets": {"long": hydrogen_chain(6)}}
    builder = FullWorkChain.get_builder_from_protocol(
        {"engine": engine_code}, **structures, protocol="fast", overrides=OVERRIDES
    )
    _, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    FINISHED["tiny"] = node.uuid
    return node


@pytest.fixture
def invoke(aiida_profile):
    """Function that runs `aiida-deeph ARGUMENTS`."""
    return lambda *arguments: CliRunner().invoke(command, ["-p", aiida_profile.name, *map(str, arguments)])


def jobs_of(process):
    return [node for node in process.called_descendants if isinstance(node, orm.CalcJobNode)]


@pytest.mark.slow
def test_reproduced_from_its_recorded_inputs(tiny, invoke):
    done = invoke("reproduce", tiny.outputs.model.pk, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output[done.output.index("{") :])
    assert found["first"] == tiny.uuid and found["outside"] == 0
    rows = {(row["output"], row["quantity"]): row for row in found["rows"]}
    assert rows["hamiltonian.long", "largest |dH|"]["value"] <= 1e-3
    assert rows["bands.long", "largest |dE|"]["value"] <= 1e-3
    assert rows["evaluation", "mae_eV"]["value"] <= 1e-3
    assert rows["dataset", "structures"]["value"] == "equal"
    # One thread of one machine: the very same weights.
    assert rows["model", "weights"]["value"] == "equal"
    again = orm.load_node(found["second"])
    assert again.base.extras.get("deeph_reproduces") == tiny.uuid
    assert len(jobs_of(again)) == len(jobs_of(tiny)) >= 9
    assert not [job for job in jobs_of(again) if job.base.caching.is_created_from_cache]
    table = invoke("reproduce", tiny.pk, "--against", again.pk)
    assert table.exit_code == 0 and "equal within the tolerances" in table.output and "largest |dH|" in table.output


@pytest.mark.slow
def test_again_everything_comes_from_the_cache(tiny):
    with enable_caching():
        results, node = run_get_node(tiny.get_builder_restart())
    assert node.is_finished_ok, node.exit_message
    fresh = [str(job) for job in jobs_of(node) if not job.base.caching.is_created_from_cache]
    assert len(jobs_of(node)) == len(jobs_of(tiny)) and not fresh, fresh
    # What the cache gave back is all there: H of each label too.
    assert results["dataset"].manifest == tiny.outputs.dataset.manifest
    kept = {name: label.base.attributes.get("files") for name, label in tiny.called[0].outputs.hamiltonians.items()}
    again = {name: label.base.attributes.get("files") for name, label in node.called[0].outputs.hamiltonians.items()}
    assert again == kept and len(kept) == 4


@pytest.mark.slow
def test_archive_predicts_in_an_empty_profile(tiny, invoke, engine_code, tmp_path):
    model, file = tiny.outputs.model, tmp_path / "model.aiida"
    done = invoke("model", "export", model.pk, "--archive", file)
    assert done.exit_code == 0, done.output
    label = next(job for job in jobs_of(tiny) if job.process_label == "PyscfCalculation")
    arguments = [str(tmp_path), str(file), model.uuid, label.inputs.structure.uuid, str(engine_code.get_executable())]
    environment = {**os.environ, "AIIDA_PATH": str(tmp_path)}
    there = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ELSEWHERE, *arguments], env=environment, capture_output=True, text=True
    )
    assert there.returncode == 0, there.stderr[-2000:]
    found = json.loads(there.stdout.splitlines()[-1])
    runs = {job.uuid for job in jobs_of(tiny) if job.process_label == "PyscfCalculation"}
    assert found == {"before": 0, "runs": sorted(runs)}
    predicted = read_deeph(tmp_path / "predicted")
    kept = tiny.called[0].outputs.hamiltonians
    label_name = label.base.links.get_incoming(link_type=LinkType.CALL_CALC).one().link_label
    labelled = kept[label_name.removeprefix("label_")].load()
    assert predicted.structure.symbols == labelled.structure.symbols
    assert abs((predicted.overlap - labelled.overlap).entries).max() < 1e-4


@pytest.mark.slow
def test_nothing_of_the_host_in_nodes(tiny, tmp_path):
    nodes = [tiny, *tiny.called_descendants]
    nodes += [link.node for process in nodes for link in process.base.links.get_incoming().all()]
    nodes += [link.node for process in list(nodes) for link in process.base.links.get_outgoing().all()]
    nodes = {node.pk: node for node in nodes}.values()
    secrets = {"secret": SECRET}
    # What AiiDA records itself: where a code and a job's folder lie, in their own nodes and in the job's script.
    own = (orm.InstalledCode, orm.RemoteData, orm.CalcJobNode)
    paths = {
        "home": os.path.expanduser("~") + "/",
        "host": socket.gethostname(),
        "python": sys.prefix,
        "profile": str(tmp_path.parent),
    }
    found = []
    for node in nodes:
        needles = secrets if isinstance(node, own) else {**secrets, **paths}
        texts = {"attributes": json.dumps(node.base.attributes.all), "extras": json.dumps(node.base.extras.all)}
        texts |= {"label": node.label, "description": node.description}
        content = {name: text.encode() for name, text in texts.items()}
        for root, _, names in node.base.repository.walk():
            for name in names:
                content[str(root / name)] = node.base.repository.get_object_content(str(root / name), mode="rb")
        for log in orm.Log.collection.get_logs_for(node):
            content[f"log {log.uuid}"] = log.message.encode()
        found += [
            f"{kind} in {node}: {where}"
            for where, text in content.items()
            for kind, needle in needles.items()
            if needle.encode() in text
        ]
    assert len(nodes) > 60
    assert not found, "\n".join(found)
