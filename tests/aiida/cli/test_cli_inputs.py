"""Fields of inputs files that name nodes: a dataset to extend, a model to start from, what is kept."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.common.links import LinkType
from click.testing import CliRunner

from aiida_deeph.cli import inputs as schema
from aiida_deeph.cli.builders import full_builder
from aiida_deeph.cli.main import command
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.config import load_config
from aiida_deeph.engine.errors import InputError


@pytest.fixture
def dataset(aiida_profile, aiida_localhost, make_manifest, tmp_path):
    """A dataset with the job that made it and its folder."""
    job = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:deeph.preprocess").store()
    source = {"preprocess": {"cutoff": 6.5, "gauge": "as_computed"}}
    node = DatasetData(make_manifest(6, source=source))
    folder = orm.RemoteData(remote_path=str(tmp_path), computer=aiida_localhost)
    for label, output in (("dataset", node), ("remote_folder", folder)):
        output.base.links.add_incoming(job, LinkType.CREATE, label)
        output.store()
    return node


@pytest.fixture
def model(aiida_profile, make_model_folder):
    return DeepHModelData(make_model_folder()).store()


@pytest.fixture
def file(tmp_path, engine_code, chain):
    """Function that writes an inputs file."""
    chain.store()

    def write(text):
        path = tmp_path / "inputs.yaml"
        path.write_text(f"codes: {{engine: {engine_code.pk}}}\nprotocol: fast\n{text}\n")
        return path

    return write


def full(path):
    return full_builder(load_config(schema.FullInputs, path), path)


def test_full_extends_keeps_and_fine_tunes(file, chain, dataset, model):
    text = f"""
structures: {{a: {chain.pk}}}
perturbation: {{n: 4}}
extend: {dataset.pk}
keep: hamiltonian
initial_model: {model.uuid}
options: {{stash: {{target_base: /archive}}}}"""
    builder = full(file(text))
    assert builder.dataset.extend.pk == dataset.pk
    assert builder.dataset.extend_folder.pk == dataset.creator.outputs.remote_folder.pk
    assert builder.dataset.keep.value == "hamiltonian"
    assert builder.train.train.initial_model.pk == model.pk
    # New members are cut off as the earlier ones, unless the file says otherwise.
    assert builder.dataset.preprocess.parameters["cutoff"] == 6.5
    # Labels and dataset are stashed; other jobs have nothing to stash.
    assert builder.dataset.label.options["stash"] == {"target_base": "/archive"}
    assert builder.dataset.preprocess.metadata.options.stash["source_list"] == ["dataset"]
    assert not builder.train.train.metadata.options.stash


def test_train_starts_from_a_model(file, dataset, model, aiida_profile):
    path = file(f"dataset: {dataset.pk}\ninitial_model: {model.pk}")
    arguments = ["-p", aiida_profile.name, "launch", "train", "-f", str(path), "--dry-run"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "initial_model" in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extend: {model}\nstructures: {{a: {chain}}}", "node of another kind; in .*extend"),
        ("initial_model: {dataset}\nstructures: {{a: {chain}}}\nperturbation: {{n: 9}}", "in .*initial_model"),
        ("extend: {dataset}", "give structures, or labels"),
        ("keep: some\nstructures: {{a: {chain}}}", "keep"),
        ("options: {{stash: {{target_base: here}}}}\nstructures: {{a: {chain}}}\nperturbation: {{n: 9}}", "no place"),
    ],
)
def test_wrong_nodes_and_words(file, chain, dataset, model, text, message):
    with pytest.raises(InputError, match=message):
        full(file(text.format(chain=chain.pk, dataset=dataset.pk, model=model.pk)))
