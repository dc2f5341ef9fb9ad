"""The recipe of CONTRIBUTING.md, followed: a DFT code is two folders and entry points, and then everything knows it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aiida_deeph

TOY = Path(__file__).parents[1] / "fixtures" / "toy_code"
PROGRAM = """#!{python}
import json, sys
values = json.load(open(sys.argv[1]))
json.dump({{"version": "1.2", "energy": -1.5, **values}}, open(sys.argv[2], "w"))
"""
# Known to the set-up, filled by its protocol, run by the common workchain, read by the reader of its record.
USE = """
import sys
from aiida import load_profile, orm
from aiida.engine import run_get_node
from aiida.storage.sqlite_temp import SqliteTempBackend
from aiida_deeph.cli.main import command
from aiida_deeph.codes.registry import checked_label_class
from click.testing import CliRunner

profile = load_profile(SqliteTempBackend.create_profile("toy"), allow_switch=True)
profile.set_option("runner.poll.interval", 1)  # without a broker children are asked, by default once a minute
assert "--chain-path" in CliRunner().invoke(command, ["setup", "codes", "--help"]).output
computer = orm.Computer("localhost", "localhost", transport_type="core.local", scheduler_type="core.direct",
                        workdir=sys.argv[1]).store()
computer.set_minimum_job_poll_interval(0)
computer.configure(safe_interval=0)
code = orm.InstalledCode(computer=computer, filepath_executable=sys.argv[2], label="chain",
                         default_calc_job_plugin="deeph.chain").store()
structure = orm.StructureData(cell=[[2.4, 0, 0], [0, 9, 0], [0, 0, 9]], pbc=(True, False, False))
structure.append_atom(symbols="H", position=(0.0, 0, 0))
structure.append_atom(symbols="H", position=(1.1, 0, 0))
label = checked_label_class("deeph.label.chain")
outputs, node = run_get_node(label.get_builder_from_protocol(code, structure))
assert node.is_finished_ok, node.exit_message
assert outputs["output_parameters"]["energy_units"] == "eV"
print(outputs["remote_folder"].get_remote_path())
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A copy of the package with the toy's folders in it, and with its entry points."""
    folder = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(aiida_deeph.__file__).parent, folder / "aiida_deeph", ignore=ignored)
    for wing in ("engine", "codes"):
        shutil.copytree(TOY / wing, folder / "aiida_deeph" / wing, ignore=ignored, dirs_exist_ok=True)
    info = folder / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n", encoding="utf-8")
    shutil.copy(TOY / "entry_points.txt", info)
    return folder


@pytest.fixture
def python(package, tmp_path):
    """Function that runs Python with that package and returns what it printed."""

    def run(*arguments: str) -> str:
        environment = {
            **os.environ,
            "PYTHONPATH": str(package),
            "AIIDA_PATH": str(tmp_path),
            "PYTHONWARNINGS": "ignore",
        }
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_a_code_is_added_by_its_two_folders(python, tmp_path):
    program = tmp_path / "chain"
    program.write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    run = python("-c", USE, str(tmp_path / "work"), str(program)).splitlines()[-1]
    engine = ("-m", "aiida_deeph.engine.cli.main")
    python(*engine, "convert", run, "deeph", "--code", "chain")
    assert "H" in python(*engine, "check", "deeph")
    python(*engine, "bands", "deeph", "--kpath", "G-X", "--output", "bands.json")
    assert (tmp_path / "bands.json").is_file()


def test_its_name_stands_in_its_folders_alone():
    files = [path for path in Path(aiida_deeph.__file__).parent.rglob("*.py") if "ChainLabel" in path.read_text()]
    assert not files
