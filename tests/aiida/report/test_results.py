"""Results of many structures: one row each, in every format; lists of what is there."""

from __future__ import annotations

import csv
import io
import json
import subprocess

import ase.io
import pytest
from aiida import orm

from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.errors import InputError
from aiida_deeph.report.optimade import geometry
from aiida_deeph.report.rows import processes_of, rows_of
from aiida_deeph.report.tables import as_table, digits

# AiiDA's own warning while it imports the groups of an archive.
pytestmark = pytest.mark.filterwarnings("ignore:Object of type <DbGroup> not in session")


def test_table_has_a_line_for_each_structure(run, full):
    lines = run("results", full.pk).splitlines()
    assert "gap (eV)" in lines[0] and "band mae (meV)" in lines[0]
    assert len(lines) >= 2 + len(full.inputs.targets) + len(full.inputs.validation)


def test_numbers_are_those_of_the_nodes(run, full):
    rows = {row["name"]: row for row in json.loads(run("results", full.pk, "--format", "json"))}
    for name, compared in full.outputs.comparison.items():
        assert rows[name]["band_mae_meV"] == compared["band_mae_meV"]
    for name, node in full.outputs.hamiltonian.items():
        assert (rows[name]["hamiltonian"], rows[name]["n_atoms"]) == (node.pk, node.n_atoms)
    for name, node in full.outputs.bands.items():
        assert rows[name]["fermi_eV"] == node.creator.outputs.output_parameters["fermi_level"]
    assert all(row["state"] == "ok" and row["job_s"] > 0 for row in rows.values())


def test_rows_of_a_group_of_a_hamiltonian_and_of_the_workflow_are_the_same(run, full):
    group = orm.Group("predictions").store()
    group.add_nodes(list(orm.QueryBuilder().append(HamiltonianData).all(flat=True)))
    expected = sorted(rows_of([full]), key=lambda row: row["process"])
    found = json.loads(run("results", "predictions", "--format", "json"))
    by_process = {row["process"]: row for row in found}
    for row in expected:
        assert by_process[row["process"]] == row
    node = full.outputs.hamiltonian[expected[0]["name"]]
    assert [process.pk for process in processes_of([node])] == [expected[0]["process"]]


def test_csv_and_extxyz_can_be_read(run, full, tmp_path):
    rows = list(csv.DictReader(io.StringIO(run("results", full.pk, "--format", "csv"))))
    path = tmp_path / "out.extxyz"
    assert f"{len(rows)} structures written" in run("results", full.pk, "--format", "extxyz", "--output", path)
    frames = ase.io.read(path, ":")
    assert [atoms.info["name"] for atoms in frames] == [row["name"] for row in rows]
    assert [len(atoms) for atoms in frames] == [int(row["n_atoms"]) for row in rows]


CHECK = """
import json, sys
from optimade.models import StructureResource
header, *lines = open(sys.argv[1]).read().splitlines()
assert json.loads(header)["x-optimade"]["meta"]["api_version"]
for line in lines:
    entry = StructureResource(**json.loads(line))
    assert entry.attributes.nsites == len(entry.attributes.cartesian_site_positions)
print(len(lines))
"""


def test_optimade_lines_are_valid_by_the_specifications_own_models(run, full, other_python, tmp_path):
    """Its package brings a package `tests`, which hides this one: it stands in an environment of its own."""
    python, path = other_python("AIIDA_DEEPH_OPTIMADE_PYTHON"), tmp_path / "structures.jsonl"
    run("results", full.pk, "--format", "optimade", "--output", path)
    done = subprocess.run([python, "-c", CHECK, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(full.inputs.targets) + len(full.inputs.validation)


def test_optimade_holds_the_results(run, full):
    header, *lines = map(json.loads, run("results", full.pk, "--format", "optimade").splitlines())
    assert header["x-optimade"]["meta"]["api_version"] == "1.1.0" and lines[0]["type"] == "structures"
    assert all(line["attributes"]["_deeph_state"] == "ok" for line in lines)


def test_optimade_formulas():
    cell = [[4.0, 0, 0], [0, 4, 0], [0, 0, 4]]
    values = geometry(("Ti", "O", "O", "Ti", "O", "O"), cell, (True, True, False), [[0.0, 0, 0]] * 6)
    assert values["chemical_formula_reduced"] == "O2Ti" and values["chemical_formula_anonymous"] == "A2B"
    assert values["chemical_formula_hill"] == "O4Ti2" and values["nperiodic_dimensions"] == 2
    assert geometry("HC", cell, (False,) * 3, [[0.0, 0, 0]] * 2)["chemical_formula_hill"] == "CH"


def test_failures_and_warnings_are_told(full):
    (row,) = [row for row in rows_of([full]) if row["name"] in full.inputs.targets][:1]
    failed = {**row, "state": "failed [310]", "gap_eV": None, "warnings": ["The prediction failed"]}
    table = as_table([row, failed])
    assert "failed [310]" in table and f"{row['name']}: The prediction failed" in table
    assert (digits("gap_eV", 1.23456), digits("mae_meV", 1.23456), digits("x", None)) == ("1.235", "1.23", "")


def test_what_has_no_results(run, full):
    with pytest.raises(InputError, match=r"no results; in .*; expected workflows that use a model"):
        run("results", orm.Int(1).store().pk)
    with pytest.raises(InputError, match="nothing of this name; in argument; found nowhere"):
        run("results", "nowhere")


def test_lists(run, full):
    models = json.loads(run("model", "list", "--json"))
    assert [row["pk"] for row in models] == [
        node.pk for node in orm.QueryBuilder().append(DeepHModelData).all(flat=True)
    ]
    assert "closed-form" in run("model", "list") or "deephe3" in run("model", "list")
    assert len(run("data", "list", "-n", 1).splitlines()) == 3
    assert str(full.outputs.dataset.pk) in run("dataset", "list")
    shown = run("dataset", "show", full.pk)
    assert f"members         {full.outputs.dataset.n_members}" in shown
