"""Inputs that explain themselves: valid templates, fields, schemas, protocols with their origin, near names."""

from __future__ import annotations

import json
from functools import partial

import pytest
import yaml
from aiida.manage import get_config
from ase.build import bulk
from ase.io import write

from aiida_deeph.cli.explain import FILES, MATERIALS, config_of, kinds
from aiida_deeph.cli.inputs import FullInputs, PredictInputs
from aiida_deeph.cli.main import command
from aiida_deeph.codes.registry import PREFIX, label_entry_points
from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.fields import fields_of, schema_of
from aiida_deeph.engine.structures.design import DesignConfig
from aiida_deeph.engine.training.config import TrainConfig
from tests.aiida.commands import run_command


@pytest.fixture(autouse=True)
def _profile(aiida_profile):
    """A profile for all tests."""


@pytest.fixture
def run(aiida_profile):
    """Function that runs `aiida-deeph ARGUMENTS` and returns its output; an error of ours is raised."""
    return partial(run_command, aiida_profile)


@pytest.mark.parametrize("material", MATERIALS)
def test_examples_are_valid_for_every_code(run, material):
    for name in label_entry_points():
        code = name.removeprefix(PREFIX)
        values = yaml.safe_load(run("inputs", "example", material, "--dft", code))
        parse_config(PredictInputs if material == "predict" else FullInputs, values)
        assert material == "predict" or values["label"] == code
    with pytest.raises(InputError, match=r"no such DFT code.*found cp3k; .*\(nearest: cp2k\)"):
        run("inputs", "example", material, "--dft", "cp3k")


def test_example_can_be_checked(run, engine_code, tmp_path):
    text = run("inputs", "example", "bulk").replace("deeph-engine@localhost", engine_code.full_label)
    (tmp_path / "inputs.yaml").write_text(text)
    write(tmp_path / "crystal.cif", bulk("C", "diamond", 3.57, cubic=True))
    assert "the inputs are valid; nothing was submitted" in run("inputs", "check", tmp_path / "inputs.yaml")
    (tmp_path / "inputs.yaml").write_text(text.replace("targets:", "target:"))
    with pytest.raises(InputError, match=r"first: target; .*found 'target'; .*\(nearest: targets\)"):
        run("inputs", "check", tmp_path / "inputs.yaml")


@pytest.mark.parametrize("kind", kinds())
def test_fields_and_schema_of_every_kind(run, kind):
    config = config_of(kind)
    listed = run("inputs", "fields", kind)
    assert all(f"{name}: " in listed for name in config.model_fields)
    schema = json.loads(run("inputs", "schema", kind))
    assert set(schema["properties"]) == set(config.model_fields) and schema["description"]


def test_a_field_tells_unit_default_and_range():
    fields = {field.name: field for field in fields_of(config_of("dos.parameters"))}
    assert "eV" in fields["broadening"].text and fields["broadening"].bounds == "> 0"
    assert fields["smearing"].default == "0.02585" and fields["smearing"].kind == "number"
    batch = schema_of(TrainConfig)["properties"]["batch_size"]
    assert batch["minimum"] == 1 and batch["description"]


@pytest.mark.parametrize("kind", sorted(FILES))
def test_every_field_of_a_file_is_described(kind):
    assert [field.name for field in fields_of(config_of(kind)) if not field.text] == []


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (FullInputs, {"structurs": {}}, r"found 'structurs'; expected one of .*targets.*\(nearest: structures\)"),
        (FullInputs, {"codes": {"engin": "x"}}, r"first: codes.engin; .*one of dft, engine \(nearest: engine\)"),
        (FullInputs, {"structures": {"a": {"fil": "x"}}}, r"one of file, pbc, pk, .*\(nearest: file\)"),
        (FullInputs, {"structures": {"a": 1}, "targets": {"b": {"fle": 1}}}, r"settings.*\(nearest: file\)"),
        (TrainConfig, {"dataset": "x", "epochs": "many"}, "found 'many'; expected a whole number"),
        (TrainConfig, {"dataset": "x", "optimizer": {"name": "adam", "beta": 1}}, r"\(nearest: betas\)"),
        (TrainConfig, {}, "first: dataset; .*found nothing; expected a value: it is required"),
        (DesignConfig, {"n": 3, "sed": 1}, r"\(nearest: seed\)"),
    ],
)
def test_errors_name_the_nearest_field_and_no_class(config, values, message):
    with pytest.raises(InputError, match=message) as error:
        parse_config(config, values)
    assert "Config" not in str(error.value) and "Input should" not in str(error.value)


def test_protocols_are_shown_resolved_with_their_origin(run):
    text = run("protocol", "show", "full", "fast")
    shown = yaml.safe_load(text)
    assert shown["train"]["train"]["parameters"]["network"] == {"name": "closed-form"}
    assert shown["bands"]["dos"]["parameters"]["n_points"] == 1001
    lines = {line.split(":")[0].strip(): line.rpartition("# ")[2] for line in text.splitlines() if "# " in line}
    assert (lines["broadening"], lines["n_points"]) == ("protocol", "default")
    assert yaml.safe_load(run("protocol", "show", "target"))["predict"]["predict"]["parameters"]["edges_per_chunk"] > 0


def test_every_launch_has_a_kind():
    assert set(FILES) == set(command.get_command(None, "launch").commands)


def test_caching_is_switched_for_the_profile(run, aiida_profile):
    def cached() -> list[str]:
        return list(get_config().get_option("caching.enabled_for", scope=aiida_profile.name) or [])

    before = cached()
    try:
        assert "is on in the profile" in run("setup", "caching")
        assert "aiida.calculations:deeph.*" in cached()
        run("setup", "caching")
        assert cached().count("aiida.calculations:deeph.*") == 1
    finally:
        run("setup", "caching", "--off")
    assert cached() == before
