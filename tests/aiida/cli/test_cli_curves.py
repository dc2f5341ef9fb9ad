"""`aiida-deeph bands` and `dos`: figures and tables from nodes."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from aiida import orm
from aiida.common.links import LinkType
from ase.io.jsonio import read_json
from click.testing import CliRunner

from aiida_deeph.cli.curves import dos_parts
from aiida_deeph.cli.main import command
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.engine.observables.dos import DensityOfStates
from aiida_deeph.engine.observables.export import ase_band_structure
from aiida_deeph.engine.observables.figures import path_distances
from aiida_deeph.parsers.bandsdata import make_bands
from aiida_deeph.parsers.observable import arrays_of

KPOINTS = [[0, 0, 0], [0.25, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0], [0, 0, 0]]
LABELS = [(0, "G"), (2, "X"), (3, "M"), (5, "G")]
ENERGIES = (np.arange(24.0).reshape(1, 6, 4) - 10).tolist()


@pytest.fixture
def run(aiida_profile):
    """Function that runs `aiida-deeph ARGUMENTS`; an error of ours is raised."""

    def invoke(*arguments: object):
        result = CliRunner().invoke(command, ["-p", aiida_profile.name, *map(str, arguments)])
        if isinstance(result.exception, DeepHError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result

    return invoke


@pytest.fixture
def job(aiida_localhost):
    """A finished job with bands (one ghost, spectral weights) and a density of states."""
    node = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:deeph.bands")
    node.set_process_label("BandsCalculation")
    node.store()
    weights = np.linspace(0, 1, 24).reshape(1, 6, 4)
    outputs = {
        "bands": make_bands(
            ENERGIES, KPOINTS, labels=LABELS, cell=4 * np.eye(3), spectral_weights=weights, ghosts=[[0, 1, 2]]
        ),
        "dos": arrays_of(
            DensityOfStates,
            {
                "energies": [-1.0, 0.0, 1.0],
                "dos": [0.0, 2.0, 1.0],
                "dos_error": [0.1, 0.1, 0.1],
                "dos_by_element": {"C": [0.0, 1.5, 1.0], "H": [0.0, 0.5, 0.0]},
                "dos_by_shell": {"C": {"s": [0.0, 0.5, 0.0], "p": [0.0, 1.0, 1.0]}},
                "dos_by_atom": {"3": [0.0, 0.2, 0.0]},
            },
        ),
        "output_parameters": orm.Dict({"fermi_level": 0.5, "fermi_level_units": "eV"}),
    }
    for label, output in outputs.items():
        output.base.links.add_incoming(node, LinkType.CREATE, label)
        output.store()
    return node


def test_figures(run, job, tmp_path):
    run("bands", "plot", job.outputs.bands.pk, "--output", tmp_path / "b.png", "--window", -3, 3)
    run("bands", "plot", job.pk, "--output", tmp_path / "b.svg", "--against", job.pk)
    run("dos", "plot", job.pk, "--output", tmp_path / "d.pdf", "--by", "shell")
    assert (tmp_path / "b.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "b.svg").read_text()
    assert (tmp_path / "d.pdf").read_bytes()[:4] == b"%PDF"
    with pytest.raises(InputError, match="unknown format of figures"):
        run("dos", "plot", job.pk, "--output", tmp_path / "d.docx")
    with pytest.raises(InputError, match="no density of states"):
        run("dos", "plot", job.outputs.bands.pk)
    with pytest.raises(InputError, match="node of another kind"):
        run("bands", "plot", job.outputs.output_parameters.pk)


def test_tables(run, job, tmp_path):
    run("bands", "export", job.pk, "--output", tmp_path / "b.json")
    values = json.loads((tmp_path / "b.json").read_text())
    assert (values["fermi_level"], values["ghost_states"], values["labels"][1]) == (0.5, [[0, 1, 2]], [2, "X"])
    assert values["energies"] == ENERGIES

    run("bands", "export", job.pk, "--format", "csv", "--output", tmp_path / "b.csv")
    with (tmp_path / "b.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert (rows[5]["k"], rows[5]["band"], rows[5]["k1"], float(rows[5]["energy_eV"])) == ("1", "1", "0.25", -5.0)
    assert float(rows[23]["spectral_weight"]) == 1.0

    run("bands", "export", job.pk, "--format", "ase", "--output", tmp_path / "a.json")
    found = read_json(tmp_path / "a.json")
    assert (found.reference, found.path.path) == (0.5, "GX,MG")
    assert np.array_equal(found.energies, ENERGIES)

    run("dos", "export", job.pk, "--output", tmp_path / "d.csv")
    with (tmp_path / "d.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["dos_C_p"]) for row in rows] == [0.0, 1.0, 1.0]


def test_parts_of_a_density_of_states(job):
    arrays = {name: job.outputs.dos.get_array(name) for name in job.outputs.dos.get_arraynames()}
    assert list(dos_parts(arrays, "element")) == ["C", "H"]
    assert list(dos_parts(arrays, "shell")) == ["C p", "C s"]
    assert list(dos_parts(arrays, "atom")) == ["atom 3"]
    assert dos_parts(arrays, "nothing") == {}


def test_path_breaks_where_two_labels_meet():
    x = path_distances(KPOINTS, 4 * np.eye(3), LABELS)
    assert x[2] == x[3] == pytest.approx(np.pi / 4)
    assert x[-1] - x[3] == pytest.approx(np.sqrt(2) * np.pi / 4)


def test_names_that_ase_does_not_take():
    found = ase_band_structure(KPOINTS, ENERGIES, np.eye(3), [(0, "G"), (2, "X_1"), (4, "X"), (5, "X")])
    assert set(found.path.special_points) == {"G", "P1", "X", "P3"}
