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

from aiida_deeph.cli.main import command
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.engine.observables.dos import DensityOfStates
from aiida_deeph.engine.observables.export import ase_band_structure
from aiida_deeph.engine.observables.figures import path_distances
from aiida_deeph.parsers.bandsdata import make_bands
from aiida_deeph.parsers.observable import arrays_of
from aiida_deeph.report.curves import parts_of

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
    assert list(parts_of("dos", arrays, "element")) == ["C", "H"]
    assert list(parts_of("dos", arrays, "shell")) == ["C p", "C s"]
    assert list(parts_of("dos", arrays, "atom")) == ["atom 3"]
    assert parts_of("dos", arrays, "nothing") == {}


def test_path_breaks_where_two_labels_meet():
    x = path_distances(KPOINTS, 4 * np.eye(3), LABELS)
    assert x[2] == x[3] == pytest.approx(np.pi / 4)
    assert x[-1] - x[3] == pytest.approx(np.sqrt(2) * np.pi / 4)


def test_names_that_ase_does_not_take():
    found = ase_band_structure(KPOINTS, ENERGIES, np.eye(3), [(0, "G"), (2, "X_1"), (4, "X"), (5, "X")])
    assert set(found.path.special_points) == {"G", "P1", "X", "P3"}


def figure_of(run, monkeypatch, *arguments):
    """What a command draws: the axes, before they are written."""
    from aiida_deeph.cli import curves

    caught = []
    monkeypatch.setattr(curves, "save", lambda figure, path: caught.append(figure.axes[0]))
    run(*arguments)
    return caught[0]


@pytest.fixture
def made_by(aiida_localhost):
    """Function that stores outputs of a process of some kind."""

    def make(outputs, process_label="BandsCalculation", kind=orm.CalcJobNode):
        node = kind(computer=aiida_localhost) if kind is orm.CalcJobNode else kind()
        node.set_process_label(process_label)
        node.store()
        for label, output in outputs.items():
            link = LinkType.CREATE if kind is orm.CalcJobNode else LinkType.RETURN
            output.base.links.add_incoming(node, link, label)
            output.store()
        return node

    return make


def test_single_kpoints_are_points_and_pieces_lines(run, made_by, monkeypatch):
    alone = made_by({"bands": make_bands([[[-1.0, 2.0]]], [[0, 0, 0]], cell=np.eye(3))})
    axes = figure_of(run, monkeypatch, "bands", "plot", alone.pk)
    drawn = [line for line in axes.get_lines() if line.get_marker() == "_"]
    assert [line.get_ydata().tolist() for line in drawn] == [[-1.0], [2.0]]
    low, high = axes.get_xlim()
    assert low < 0 < high
    path = made_by({"bands": make_bands(ENERGIES, KPOINTS, labels=LABELS, cell=4 * np.eye(3))})
    axes = figure_of(run, monkeypatch, "bands", "plot", path.pk)
    assert not any(line.get_marker() == "_" for line in axes.get_lines())


@pytest.mark.parametrize(
    ("attributes", "parameters"),
    [
        ({"fermi_energy": 6.1, "fermi_energy_units": "eV"}, {}),
        ({}, {"fermi_energy": 6.1, "fermi_energy_units": "eV"}),
        ({}, {"fermi_level": 6.1}),
    ],
)
@pytest.mark.parametrize("n_occupied", [2, None])
def test_dft_bands_are_drawn_on_the_zero_of_the_prediction(
    run, made_by, monkeypatch, attributes, parameters, n_occupied
):
    """H of a prediction has another zero of energy: 5.6 eV apart here; new nodes and old ones alike."""
    predicted = np.array(ENERGIES)
    found = {"fermi_level": 0.5, "n_occupied": n_occupied}
    ours = made_by(
        {
            "bands": make_bands(predicted, KPOINTS, labels=LABELS, cell=4 * np.eye(3)),
            "output_parameters": orm.Dict(found),
        }
    )
    dft = make_bands(predicted + 5.6, KPOINTS, cell=4 * np.eye(3))
    dft.base.attributes.set_many(attributes)
    label = made_by({"output_band": dft, "output_parameters": orm.Dict(parameters)}, "PyscfCalculation")
    axes = figure_of(run, monkeypatch, "bands", "plot", ours.pk, "--against", label.pk)
    grey = [line.get_ydata() for line in axes.get_lines() if line.get_color() == "0.6" and len(line.get_ydata()) > 1]
    blue = [
        line.get_ydata() for line in axes.get_lines() if line.get_color() == "tab:blue" and len(line.get_ydata()) > 1
    ]
    assert len(grey) == len(blue) > 0
    np.testing.assert_allclose(np.concatenate(grey), np.concatenate(blue), atol=1e-9)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["DFT, moved by -5.60 eV", "H(R)"]


def test_bands_of_unknown_zeros_are_not_drawn_together(run, made_by):
    ours = made_by({"bands": make_bands(ENERGIES, KPOINTS, cell=np.eye(3)), "output_parameters": orm.Dict({})})
    theirs = made_by({"output_band": make_bands(ENERGIES, KPOINTS, cell=np.eye(3))}, "PyscfCalculation")
    with pytest.raises(InputError, match="zero of energy unknown"):
        run("bands", "plot", ours.pk, "--against", theirs.pk)


def test_workflows_of_any_kind_give_their_bands(run, made_by, tmp_path):
    bands = {name: make_bands(ENERGIES, KPOINTS, cell=np.eye(3)) for name in ("a", "b")}
    for node in bands.values():
        node.store()
    full = made_by({}, "FullWorkChain", orm.WorkChainNode)
    for name, node in bands.items():
        node.base.links.add_incoming(full, LinkType.RETURN, f"bands__{name}")
    with pytest.raises(InputError, match=r"several outputs.*--of NAME: a, b"):
        run("bands", "export", full.pk)
    run("bands", "export", full.pk, "--of", "b", "--output", tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text())["energies"] == ENERGIES
    bands["a"].base.links.add_incoming(
        made := made_by({}, "LabelWorkChain", orm.WorkChainNode), LinkType.RETURN, "output_band"
    )
    run("bands", "export", made.pk, "--output", tmp_path / "a.json")
    with pytest.raises(InputError, match=r"process has no such output.*bands or dft_bands or output_band"):
        run("bands", "export", made_by({}, "TrainWorkChain", orm.WorkChainNode).pk)


def test_formats_have_names_of_their_own_in_the_folder_where_the_command_runs(run, job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in ("json", "csv", "ase"):
        run("bands", "export", job.pk, "--format", kind)
    run("dos", "export", job.pk)
    pk, dos = job.outputs.bands.pk, job.outputs.dos.pk
    names = {f"bands-{pk}.json", f"bands-{pk}.csv", f"bands-{pk}.ase.json", f"dos-{dos}.csv"}
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == names
