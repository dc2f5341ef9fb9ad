"""DeepHModelData: its repository is a model folder."""

from __future__ import annotations

import json

import pytest
from aiida import orm
from aiida.common.exceptions import ValidationError

from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.io.model import read_description

pytestmark = pytest.mark.usefixtures("aiida_profile")


def test_attributes_and_description(make_model_folder):
    folder = make_model_folder()
    node = orm.load_node(DeepHModelData(folder).store().pk)
    assert node.model_description == read_description(folder)
    assert node.elements == ("C", "H")
    assert node.base.attributes.get("metrics") == {"validation_mae_eV": 0.003}
    assert node.base.attributes.get("pair_cutoffs") == {"C-C": 4.2, "C-H": 4.2, "H-H": 4.2}


def test_aiidas_description_is_untouched(make_model_folder):
    node = DeepHModelData(make_model_folder(), description="my words").store()
    assert node.description == "my words"


def test_export(make_model_folder, tmp_path):
    folder = make_model_folder()
    target = DeepHModelData(folder).store().export(tmp_path / "export")
    assert sorted(path.name for path in target.iterdir()) == ["model.json", "weights.safetensors"]
    assert read_description(target) == read_description(folder)


def test_only_the_two_files_are_taken(make_model_folder):
    folder = make_model_folder()
    (folder / "notes.py").write_text("print('no code here')")
    assert DeepHModelData(folder).store().base.repository.list_object_names() == ["model.json", "weights.safetensors"]


def test_damaged_weights(make_model_folder):
    folder = make_model_folder()
    (folder / "weights.safetensors").write_bytes(b"other weights")
    with pytest.raises(DataError, match="weights do not belong to this model"):
        DeepHModelData(folder)


def test_newer_format(make_model_folder):
    folder = make_model_folder()
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**values, "format_version": 99}))
    with pytest.raises(InputError, match=r"model of a newer format.*update aiida-deeph"):
        DeepHModelData(folder)


def test_no_model(tmp_path):
    with pytest.raises(InputError, match="not a model folder"):
        DeepHModelData(tmp_path)


def test_empty_node_is_not_stored():
    with pytest.raises(ValidationError, match="not a model folder"):
        DeepHModelData().store()
