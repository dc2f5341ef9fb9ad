"""Many structures in one inputs file: what is meant by files, patterns, folders, groups and queries."""

from __future__ import annotations

import pytest
from aiida import orm
from ase import Atoms
from ase.io import write

from aiida_deeph.cli.active_builder import active_builder
from aiida_deeph.cli.builders import full_builder
from aiida_deeph.cli.inputs import ActiveInputs, FullInputs, PredictInputs, TargetInputs
from aiida_deeph.cli.sources import structure_nodes
from aiida_deeph.cli.target_builders import observable_changes, predict_builder, target_builder
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.errors import InputError


@pytest.fixture(autouse=True)
def _profile(aiida_profile_clean):
    """An empty profile for each test: queries find what the test made."""


def chain(n_atoms=4, stretch=1.0):
    positions = [(0.9 * stretch * n, 3.5, 3.5) for n in range(n_atoms)]
    return Atoms(f"H{n_atoms}", positions=positions, cell=[0.9 * stretch * n_atoms, 7, 7], pbc=(1, 0, 0))


@pytest.fixture
def folder(tmp_path):
    """Two single files, a trajectory of three frames, and a hidden file that is no structure."""
    cells = tmp_path / "cells"
    cells.mkdir()
    write(cells / "a.xyz", chain(4), format="extxyz")
    write(cells / "b.xyz", chain(6), format="extxyz")
    write(cells / "md.xyz", [chain(4, 1 + 0.01 * n) for n in range(3)], format="extxyz")
    (cells / ".hidden").write_text("nothing")
    return tmp_path


@pytest.fixture
def values(folder, engine_code, make_model_folder):
    """What an inputs file holds besides structures."""
    model = DeepHModelData(make_model_folder(elements=("H",))).store()
    return {"codes": {"engine": engine_code.full_label}, "model": model.pk, "basis": "pyscf:gth-szv"}


def names(sources, folder):
    parsed = parse_config(PredictInputs, {"model": 1, "structures": sources})
    return list(structure_nodes(parsed.structures, folder))


def test_what_files_mean(folder):
    assert names("cells/[ab].xyz", folder) == ["a", "b"]
    assert names("cells", folder) == ["a", "b", "md_0", "md_1", "md_2"]
    assert names([{"file": "cells/md.xyz", "frames": -1}, "cells/a.xyz"], folder) == ["md", "a"]
    assert names({"file": "cells/md.xyz", "frames": "::2"}, folder) == ["md_0", "md_2"]
    assert names(["cells/a.xyz", "cells/a.xyz"], folder) == ["a", "a_2"]
    nodes = structure_nodes(
        parse_config(
            PredictInputs, {"model": 1, "structures": {"file": "cells/a.xyz", "supercell": [2, 1, 1]}}
        ).structures,
        folder,
    )
    assert nodes["a"].get_formula() == "H8" and nodes["a"].base.extras.get("origin") == "cells/a.xyz"


def test_what_the_database_means(folder):
    stored = [orm.StructureData(ase=chain(n)).store() for n in (2, 4)]
    stored[0].base.extras.set("material", "dimer")
    group = orm.Group("cells").store()
    group.add_nodes(stored)
    found = structure_nodes(
        parse_config(PredictInputs, {"model": 1, "structures": {"group": "cells"}}).structures, folder
    )
    assert [node.pk for node in found.values()] == [node.pk for node in stored]
    assert names({"query": {"extras.material": "dimer"}}, folder) == [f"structure_{stored[0].pk}"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("nothing/*.cif", "no such files; in structures.0; found nothing"),
        ({"group": "none"}, "no such group; in structures.0; found none"),
        ({"query": {"extras.x": 1}}, "no structures; in structures.0"),
        ({"file": "cells/md.xyz", "frames": 7}, "no structures; in structures.0"),
        ({"file": "cells", "frames": "last"}, "frames `last`: a number like -1, or a range like ::10"),
        ({"file": "a", "group": "b"}, "give exactly one of file, group and query"),
    ],
)
def test_what_means_nothing_is_named(folder, sources, message):
    with pytest.raises(InputError, match=message):
        names(sources, folder)


def test_what_means_nothing_is_named_by_its_field(folder):
    source = parse_config(PredictInputs, {"model": 1, "structures": "nothing/*.cif"}).structures
    with pytest.raises(InputError, match=r"in candidates\.0"):
        structure_nodes(source, folder, "candidates")


def test_observables_become_changes_of_the_protocol():
    assert observable_changes(None, "G-X") == {"bands": {"kpath": "G-X"}}
    assert observable_changes({}, None) == observable_changes({"dos": False}, None) == {"bands": None}
    changed = observable_changes({"dos": {"broadening": 0.1}}, None)["bands"]
    assert (
        changed["dos"] == {"parameters": {"broadening": 0.1}} and changed["unfold"] is None and "bands" not in changed
    )
    with pytest.raises(InputError, match=r"no observable `doss`, but one of bands, compare, dos.*\(nearest: dos\)"):
        parse_config(PredictInputs, {"model": 1, "structure": 2, "observables": ["doss"]})


def test_one_structure_or_many(values, folder):
    def built(make, kind, **more):
        return make(parse_config(kind, {**values, **more}), folder / "inputs.yaml")

    one = built(predict_builder, PredictInputs, structure="cells/a.xyz")
    assert one.process_class.__name__ == "PredictWorkChain"
    one = built(predict_builder, PredictInputs, structure="cells/a.xyz", observables=["dos"])
    assert one.process_class.__name__ == "TargetWorkChain" and one.bands.dos.code
    many = built(predict_builder, PredictInputs, structures="cells", group="results", max_concurrent=3)
    assert many.process_class.__name__ == "TargetsWorkChain" and not many.bands._inputs(prune=True)
    assert (many.group.value, many.max_concurrent.value, len(many.targets)) == ("results", 3, 5)
    many = built(target_builder, TargetInputs, structures="cells/*.xyz", kpath="G-X")
    assert many.bands.kpath.value == "G-X" and many.bands.dos.code
    compared = built(target_builder, TargetInputs, structures="cells/a.xyz", label="pyscf")
    assert list(compared.validation) == ["a"] and compared.label_workchain.value == "deeph.label.pyscf"


def test_full_with_a_model_and_targets_alone(values, folder):
    given = {key: value for key, value in values.items() if key != "model"}
    inputs = parse_config(FullInputs, {**given, "initial_model": values["model"], "targets": {"long": "cells/b.xyz"}})
    builder = full_builder(inputs, folder / "inputs.yaml")
    assert builder.process_class.__name__ == "TargetsWorkChain" and builder.model.pk == values["model"]
    with pytest.raises(InputError, match="give structures, or labels"):
        parse_config(FullInputs, {**given, "targets": {"long": "cells/b.xyz"}})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "give structure or structures"),
        ({"structure": "a.xyz", "structures": "b.xyz"}, "give structure or structures"),
        ({"structure": "a.xyz", "group": "x"}, "group and max_concurrent are for structures"),
    ],
)
def test_predict_inputs_that_cannot_be_meant(more, message):
    with pytest.raises(InputError, match=message):
        parse_config(PredictInputs, {"model": 1, **more})


def test_candidates_are_files_or_drawn(folder, engine_code):
    values = {"codes": {"engine": engine_code.full_label}, "candidates": "cells/[ab].xyz", "budget": 6, "target": 0.01}
    builder = active_builder(parse_config(ActiveInputs, values), folder / "inputs.yaml", dry_run=True)
    assert set(builder.candidates) == {"a", "b"} and (builder.budget.value, builder.target.value) == (6, 0.01)
    values |= {"perturbation": {"n": 5, "amplitude": 0.05}, "targets": {"large": "cells/b.xyz"}, "rule": "leverage"}
    values |= {"first": 2, "batch": 3}
    builder = active_builder(parse_config(ActiveInputs, values), folder / "inputs.yaml", dry_run=True)
    assert len(builder.candidates) == 5 and set(builder.targets) == {"large"}
    assert (builder.first.value, builder.batch.value, builder.select.parameters["rule"]) == (2, 3, "leverage")
