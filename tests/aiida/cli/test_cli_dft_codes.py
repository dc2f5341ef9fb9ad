"""SIESTA and ABACUS on the command line: registered by `setup codes`, launched from inputs files."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import yaml
from aiida import orm
from ase import Atoms
from ase.io import write

from aiida_deeph.cli.builders import structures_of
from aiida_deeph.cli.inputs import DatasetInputs
from aiida_deeph.cli.proofs import prove
from aiida_deeph.codes.registry import PREFIX, label_class
from aiida_deeph.engine.config import load_config
from aiida_deeph.engine.errors import InputError
from tests.aiida.commands import run_command
from tests.aiida.lcao_files import install_families

CODES = ["siesta", "abacus"]


@pytest.fixture
def run(aiida_profile_clean, tmp_path):
    """Function that runs `aiida-deeph ARGUMENTS` in the profile of the tests; an error of ours is raised."""
    install_families(tmp_path / "orb", ("H", "C", "Fe"))

    return partial(run_command, aiida_profile_clean)


@pytest.fixture
def inputs(tmp_path, engine_code, aiida_code_installed):
    """Function that writes an inputs file of a code, and a structure beside it, and returns its path."""
    chain = Atoms("H4", positions=[(0.9 * n, 3.5, 3.5) for n in range(4)], cell=[3.6, 7, 7], pbc=(1, 0, 0))
    write(tmp_path / "chain.xyz", chain, format="extxyz")

    def make(name: str, **values) -> Path:
        plugin = f"deeph.{name}"
        dft = aiida_code_installed(label=f"cli-{name}", default_calc_job_plugin=plugin, filepath_executable="/bin/true")
        path = tmp_path / "inputs.yaml"
        codes = {"engine": engine_code.full_label, "dft": dft.full_label}
        path.write_text(yaml.safe_dump({"codes": codes, "protocol": "fast", "label": name, **values}))
        return path

    return make


@pytest.mark.parametrize("name", CODES)
def test_launches_are_valid(run, inputs, name):
    path = inputs(name, structure="chain.xyz", bands=True)
    assert "inputs are valid" in run("launch", "label", "-f", path, "--dry-run")
    path = inputs(name, structures={"parent": "chain.xyz"}, perturbation={"n": 4, "amplitude": 0.02})
    assert "inputs are valid" in run("launch", "dataset", "-f", path, "--dry-run")


@pytest.mark.parametrize("name", CODES)
def test_what_cannot_run_is_named(run, inputs, name):
    overrides = {"parameters": {"pseudos_family": "nowhere"}}
    with pytest.raises(InputError, match=r"no such family of pseudopotentials.*found nowhere"):
        run("launch", "label", "-f", inputs(name, structure="chain.xyz", overrides=overrides), "--dry-run")


def test_names_with_dashes_and_spaces_are_valid_and_kept_as_labels(run, inputs):
    names = {"my cell-1": "chain.xyz", "2nd": "chain.xyz"}
    path = inputs("abacus", structures=names)
    assert "inputs are valid" in run("launch", "dataset", "-f", path, "--dry-run")
    values = load_config(DatasetInputs, path)
    nodes = structures_of(values.structures, path, dry_run=True)
    assert {key: node.label for key, node in nodes.items()} == {"my_cell_1": "my cell-1", "cell_2nd": "2nd"}
    path = inputs("abacus", structures={"a b": "chain.xyz", "a-b": "chain.xyz"})
    with pytest.raises(InputError, match=r"names are not told apart; in structures; found a b and a-b: both are a_b"):
        run("launch", "dataset", "-f", path, "--dry-run")


@pytest.mark.parametrize("command", ["label", "dataset"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": {"basis": "gth-szvv"}}, r"found 'gth-szvv'; expected a known one; did you mean gth-szv"),
        ({"parameters": {"pseudo": "gth-pbee"}}, r"found 'gth-pbee'; expected a known one; did you mean gth-pbe"),
        ({"options": {"max_walltime": 3}}, r"max_walltime"),
        ({"options": {"resources": {"num_machines": -1}}}, r"num_machines"),
    ],
)
def test_a_dry_run_refuses_what_the_job_would(run, inputs, command, changes, message):
    structure = {"structure": "chain.xyz"} if command == "label" else {"structures": {"a": "chain.xyz"}}
    overrides = {"parameters": changes["parameters"]} if "parameters" in changes else {}
    overrides = overrides if command == "label" else {"label": overrides}
    path = inputs("pyscf", **structure, overrides=overrides, options=changes.get("options", {}))
    with pytest.raises(InputError, match=message):
        run("launch", command, "-f", path, "--dry-run")


def test_codes_are_registered(run, aiida_localhost):
    label = aiida_localhost.label
    words = [word for name in CODES for word in (f"--{name}-path", f"/opt/{name}/bin/{name}")]
    output = run("setup", "codes", "-Y", label, "--no-test", "--engine-label", "mine-too", *words)
    for name in CODES:
        assert f"registered {name}@{label}" in output
        code = orm.load_code(f"{name}@{label}")
        assert code.default_calc_job_plugin == f"deeph.{name}"
        # The options of each job decide, as of every DFT program.
        assert code.with_mpi is None and str(code.filepath_executable) == f"/opt/{name}/bin/{name}"
    with pytest.raises(InputError, match=r"another code has this label; in siesta@"):
        run("setup", "codes", "-Y", label, "--no-test", "--engine-label", "mine-too", "--siesta-path", "/bin/true")


@pytest.fixture
def silent_port():
    """A port of this machine that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.slow
def test_a_host_that_does_not_answer_is_named_within_the_time_limit(run, silent_port):
    """The connection comes first, once: no code is made, no job is tried again and again."""
    computer = orm.Computer("silent", "127.0.0.1", "", "core.ssh", "core.slurm", "/tmp").store()
    computer.configure(port=silent_port, username="nobody", look_for_keys=False, allow_agent=False)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"computer cannot be reached; in computer silent.*no answer within 2 s"):
        run("setup", "codes", "-Y", computer.label, "--timeout", "2", "--cp2k-path", "/bin/true")
    assert time.monotonic() - began < 8
    assert not orm.QueryBuilder().append(orm.InstalledCode, filters={"label": "cp2k"}).count()


def test_a_host_that_does_not_answer_is_left_with_ctrl_c(silent_port):
    script = f"""
import os, signal, threading
from aiida.transports.plugins.ssh import SshTransport
from aiida_deeph.cli.setup import check_connection

class Computer:
    label = hostname = "silent"

    def get_transport(self):
        names = {{"username": "nobody", "look_for_keys": False, "allow_agent": False}}
        return SshTransport(machine="127.0.0.1", port={silent_port}, **names)

threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
check_connection(Computer(), 60)
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in (1, -signal.SIGINT) and "KeyboardInterrupt" in done.stderr, done.stderr
    assert time.monotonic() - began < 30


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("name", ["pyscf", pytest.param("cp2k", marks=pytest.mark.requires("cp2k"))])
def test_tiny_jobs_run(name, engine_code, aiida_code_installed, capsys):
    workchain = label_class(f"{PREFIX}{name}")
    engine_code.computer.set_minimum_job_poll_interval(0.1)
    code = engine_code
    if name != "pyscf":
        path, prepend = shutil.which(name), "export OMP_NUM_THREADS=1"
        names = {"default_calc_job_plugin": workchain.record.plugin, "filepath_executable": path}
        code = aiida_code_installed(label=f"tiny-{name}", prepend_text=prepend, **names)
    workchain.prove({name: code}, None, prove)
    assert f"{workchain._process_class.__name__}<" in capsys.readouterr().out
