"""The command `aiida-deeph`: its tree, its errors, and what it does without running anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from aiida import orm
from aiida.common.links import LinkType
from ase import Atoms
from ase.io import write
from click.testing import CliRunner

from aiida_deeph.cli import main as main_module
from aiida_deeph.cli import setup
from aiida_deeph.cli.main import COMMANDS, command
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.engine.errors import DeepHError, InputError


@pytest.fixture(autouse=True)
def _profile(aiida_profile):
    """A profile for all tests."""


@pytest.fixture
def run(aiida_profile):
    """Function that runs `aiida-deeph ARGUMENTS` in the profile of the tests; an error of ours is raised."""

    def invoke(*arguments: object, ok: bool = True):
        result = CliRunner().invoke(command, ["-p", aiida_profile.name, *map(str, arguments)])
        if isinstance(result.exception, DeepHError):
            raise result.exception
        assert (result.exit_code == 0) is ok, result.output
        return result

    return invoke


@pytest.fixture
def inputs(tmp_path, engine_code):
    """Function that writes an inputs file (and a structure beside it) and returns its path."""
    chain = Atoms("H4", positions=[(0.9 * n, 3.5, 3.5) for n in range(4)], cell=[3.6, 7, 7], pbc=(1, 0, 0))
    write(tmp_path / "chain.xyz", chain, format="extxyz")

    def make(**values) -> Path:
        path = tmp_path / "inputs.yaml"
        path.write_text(yaml.safe_dump({"codes": {"engine": engine_code.full_label}, "protocol": "fast", **values}))
        return path

    return make


FULL = {
    "title": "a chain",
    "structures": {"parent": "chain.xyz"},
    "perturbation": {"n": 10, "amplitude": 0.02},
    "targets": {"long": {"file": "chain.xyz", "supercell": [3, 1, 1]}},
    "validation": {"held_out": {"file": "chain.xyz", "pbc": [True, False, False]}},
    "kpath": "G-X",
    "options": {"max_wallclock_seconds": 600},
    "overrides": {"dataset": {"max_concurrent": 2}, "bands": {"points_per_segment": 5}},
}


def test_every_command_has_help():
    for name, (_, text) in COMMANDS.items():
        result = CliRunner().invoke(command, [name, "--help"])
        assert result.exit_code == 0, result.output
        assert text.split(":")[0].split(",")[0]
    listed = CliRunner().invoke(command, ["--help"]).output
    assert all(name in listed for name in COMMANDS)


def test_mistyped_command_gets_a_suggestion():
    result = CliRunner().invoke(command, ["lunch"])
    assert result.exit_code == 2
    assert "launch" in result.output


def test_commands_complete():
    environment = {
        **os.environ,
        "_AIIDA_DEEPH_COMPLETE": "bash_complete",
        "COMP_WORDS": "aiida-deeph launch ",
        "COMP_CWORD": "2",
    }
    program = Path(sys.executable).with_name("aiida-deeph")
    result = subprocess.run([program], env=environment, capture_output=True, text=True, check=True)
    assert {line.split(",")[1] for line in result.stdout.splitlines()} == {
        "label",
        "dataset",
        "train",
        "predict",
        "target",
        "bands",
        "accelerate",
        "full",
        "active",
    }


def test_help_is_quick_and_loads_no_workflow():
    code = (
        "import sys\n"
        "from aiida_deeph.cli.main import command\n"
        "command(['--help'], standalone_mode=False)\n"
        "print([m for m in sys.modules if m.startswith('aiida_deeph.workflows') or m == 'aiida.orm'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_full_inputs_are_valid(run, inputs):
    before = orm.QueryBuilder().append(orm.WorkChainNode).count()
    result = run("launch", "full", "-f", inputs(**FULL), "--dry-run")
    assert "the inputs are valid; nothing was submitted" in result.output
    assert "deeph.label.pyscf" in result.output
    assert orm.QueryBuilder().append(orm.WorkChainNode).count() == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strctures": {}}, r"wrong field\(s\), first: .*inputs.yaml"),
        ({"structures": {}}, "give structures, or labels"),
        ({"structures": {"a": {"file": "nothing.cif"}}}, "nothing.cif"),
        ({"structures": {"a": {"file": "chain.xyz", "pk": 1}}}, "give exactly one of file, pk and uuid"),
        ({"structures": {"a": 99999999}}, "node cannot be loaded; in structure a"),
        ({"codes": {"engine": "nothing@nowhere"}}, r"code cannot be loaded; in .*codes.engine"),
        ({"codes": {}}, "no code"),
        ({"protocol": "quick"}, "unknown protocol"),
        ({"label": "vasp"}, "unknown workchain `deeph.label.vasp`"),
        ({"perturbation": {"n": 2}}, "the split leaves no test member"),
        ({"overrides": {"train": {"epochs": 3}}}, "unknown key; in overrides.train; found epochs"),
    ],
)
def test_wrong_inputs_are_named_in_one_line(run, inputs, values, message):
    with pytest.raises(InputError, match=message) as error:
        run("launch", "full", "-f", inputs(**{**FULL, **values}), "--dry-run")
    assert "\n" not in str(error.value)


def test_truncated_yaml(run, inputs):
    path = inputs(**FULL)
    path.write_text("structures: {a: [")
    with pytest.raises(InputError, match="configuration cannot be read"):
        run("launch", "full", "-f", path)


def test_hostile_yaml_runs_nothing(run, inputs, tmp_path):
    path = inputs(**FULL)
    path.write_text(f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{tmp_path / 'x'}]]")
    with pytest.raises(InputError, match="configuration cannot be read"):
        run("launch", "full", "-f", path)
    assert not (tmp_path / "x").exists()


def test_other_launches_are_valid(run, inputs, make_manifest, make_remote, make_model_folder, deeph_folder):
    def dry(name, **values):
        assert "inputs are valid" in run("launch", name, "-f", inputs(**values), "--dry-run").output

    dry("label", structure="chain.xyz", bands=True)
    dry("dataset", structures={"a": "chain.xyz"})
    folder = make_remote(creator="deeph.preprocess")
    dataset = DatasetData(make_manifest())
    dataset.base.links.add_incoming(folder.creator, LinkType.CREATE, "dataset")
    dataset.store()
    dry("train", dataset=dataset.pk)
    model = run("model", "import", make_model_folder())
    pk = int(model.output.split("<")[1].split(">")[0])
    dry("predict", model=pk, structure="chain.xyz", basis="pyscf:gth-szv")
    data = run("data", "import", deeph_folder, "--label", "mine")
    dry("bands", hamiltonian=int(data.output.split("<")[1].split(">")[0]), kpath="G-X")


def test_dataset_without_its_folder(run, inputs, make_manifest):
    dataset = DatasetData(make_manifest()).store()
    with pytest.raises(InputError, match="dataset without its folder"):
        run("launch", "train", "-f", inputs(dataset=dataset.pk))


def test_node_of_another_kind(run, inputs):
    number = orm.Int(1).store()
    with pytest.raises(InputError, match=rf"node of another kind; in .*: model; found Int<{number.pk}>"):
        run("launch", "predict", "-f", inputs(model=number.pk, structure="chain.xyz"))


def test_submission_needs_a_broker(run, inputs):
    with pytest.raises(InputError, match=r"profile has no message broker.*remedy: use --run"):
        run("launch", "dataset", "-f", inputs(structures={"a": "chain.xyz"}))


def test_data_round_trip(run, deeph_folder, tmp_path):
    output = run("data", "import", deeph_folder, "-L", "mine", "-D", "a test").output
    node = orm.load_node(int(output.split("<")[1].split(">")[0]))
    assert (node.label, node.description, node.n_atoms) == ("mine", "a test", 2)
    assert json.loads(run("data", "show", node.pk, "--json").output)["n_atoms"] == 2
    run("data", "export", node.pk, tmp_path / "out")
    for name in ("POSCAR", "info.json", "overlap.h5", "hamiltonian.h5"):
        assert (tmp_path / "out" / name).read_bytes() == (deeph_folder / name).read_bytes()


def test_truncated_matrix_is_refused(run, deeph_folder):
    matrix = deeph_folder / "hamiltonian.h5"
    matrix.write_bytes(matrix.read_bytes()[:500])
    with pytest.raises(DeepHError, match=r"hamiltonian.h5"):
        run("data", "import", deeph_folder)


def test_model_of_a_newer_format_is_refused(run, make_model_folder):
    folder = make_model_folder(format_version=99)
    with pytest.raises(InputError, match=r"model of a newer format.*remedy: update aiida-deeph"):
        run("model", "import", folder)


def test_protocols_are_listed_and_shown(run):
    listed = run("protocol", "list").output
    assert "label.cp2k" in listed and "balanced (default)" in listed
    shown = yaml.safe_load(run("protocol", "show", "train", "fast").output)
    assert shown["train"]["parameters"]["network"] == {"name": "closed-form"}
    with pytest.raises(InputError, match="unknown protocol"):
        run("protocol", "show", "train", "fastest")
    assert "is not one of" in run("protocol", "list", "nothing", ok=False).output


def test_codes_are_registered_once(run, aiida_localhost, tmp_path):
    arguments = ("setup", "codes", "-Y", aiida_localhost.label, "--no-test", "--engine-label", "mine")
    output = run(*arguments).output
    assert "registered mine@" in output and "sha256:" in output  # which program it is
    assert "is there already" in run(*arguments).output
    code = orm.load_code(f"mine@{aiida_localhost.label}")
    assert code.default_calc_job_plugin == "deeph.train"
    assert Path(str(code.filepath_executable)).name == "deeph-engine"
    with pytest.raises(InputError, match=r"another code has this label; in mine@.*remedy: choose another label"):
        run(*arguments, "--engine-path", "/usr/bin/true")


def test_program_that_is_not_there(aiida_localhost):
    with pytest.raises(InputError, match="program not found; in computer"):
        setup.find(aiida_localhost, "no-such-engine", "")
    assert setup.find(aiida_localhost, "sh", "export A=1").endswith("/sh")


@pytest.mark.slow
@pytest.mark.integration
def test_codes_are_proved_by_a_tiny_job(run, aiida_localhost):
    output = run("setup", "codes", "-Y", aiida_localhost.label, "--engine-label", "proved").output
    assert "bands of a chain of two atoms: BandsCalculation<" in output
    assert "PySCF run of a helium atom: PyscfCalculation<" in output


def test_a_code_that_does_not_work_is_found_out(run, aiida_localhost):
    arguments = (
        "setup",
        "codes",
        "-Y",
        aiida_localhost.label,
        "--engine-label",
        "broken",
        "--engine-path",
        "/bin/false",
    )
    with pytest.raises(DeepHError, match=r"tiny job failed: bands of a chain.*broken@.*remedy: `verdi process report"):
        run(*arguments)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (InputError("wrong use"), 2, "aiida-deeph: wrong use"),
        (DeepHError("failure"), 1, "aiida-deeph: failure"),
        (RuntimeError("two\nlines"), 1, "aiida-deeph: the program failed; in test_cli.py, line"),
        (RecursionError("maximum recursion depth exceeded"), 2, "aiida-deeph: input is nested too deeply"),
        (
            PermissionError(13, "Permission denied", "ro/x.png"),
            2,
            "aiida-deeph: file cannot be read or written; in ro/x",
        ),
        (OSError(28, "No space left on device", "x.png"), 1, "aiida-deeph: "),
    ],
)
def test_errors_are_one_line_and_a_status(monkeypatch, capsys, error, status, text):
    def fail():
        raise error

    monkeypatch.setattr(main_module, "command", fail)
    monkeypatch.setattr(sys, "argv", ["aiida-deeph"])
    with pytest.raises(SystemExit) as verdict:
        main_module.main()
    assert verdict.value.code == status
    output = capsys.readouterr().err
    assert output.startswith(text) and output.count("\n") == 1 and "unexpected" not in output
    monkeypatch.setattr(sys, "argv", ["aiida-deeph", "--debug"])
    with pytest.raises(type(error)):
        main_module.main()
