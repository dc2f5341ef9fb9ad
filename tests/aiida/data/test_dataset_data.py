"""DatasetData: a manifest in the database."""

from __future__ import annotations

import pytest
from aiida import orm
from aiida.common.exceptions import ValidationError

from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.dataset import write_manifest

pytestmark = pytest.mark.usefixtures("aiida_profile")


def test_attributes(make_manifest):
    manifest = make_manifest(3, rejected=[{"name": "bad", "reason": "not converged"}])
    node = orm.load_node(DatasetData(manifest).store().pk)
    assert node.manifest == manifest
    assert node.n_members == len(node.members) == 3
    assert node.elements == ("H", "C")
    assert node.base.attributes.get("rejected") == ["bad"]
    assert node.base.attributes.get("pair_cutoffs") == {"C-H": 4.2}


def test_object_values_file_and_folder_give_the_same_node(make_manifest, tmp_path):
    manifest = make_manifest()
    write_manifest(tmp_path, manifest)
    sources = (manifest, manifest.model_dump(mode="json"), tmp_path / "manifest.json", str(tmp_path))
    assert len({DatasetData(source).store().base.caching.get_hash() for source in sources}) == 1


def test_other_members_give_another_hash(make_manifest):
    hashes = {DatasetData(make_manifest(n)).store().base.caching.get_hash() for n in (2, 3)}
    assert len(hashes) == 2


def test_no_manifest(tmp_path):
    with pytest.raises(InputError, match="not a dataset folder"):
        DatasetData(tmp_path)
    with pytest.raises(InputError, match="members"):
        DatasetData({"members": []})


def test_empty_node_is_not_stored():
    with pytest.raises(ValidationError, match="nothing else"):
        DatasetData().store()
