"""SIESTA and ABACUS on the command line: registered by `setup codes`, launched from inputs files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from aiida import orm
from ase import Atoms
from ase.io import write
from click.testing import CliRunner

from aiida_deeph.cli.main import command
from aiida_deeph.engine.errors import DeepHError, InputError
from tests.aiida.lcao_files import install_families

CODES = ["siesta", "abacus"]


@pytest.fixture
def run(aiida_profile, tmp_path):
    """Function that runs `aiida-deeph ARGUMENTS` in the profile of the tests; an error of ours is raised."""
    install_families(tmp_path / "orb", ("H", "C", "Fe"))

    def invoke(*arguments: object) -> str:
        result = CliRunner().invoke(command, ["-p", aiida_profile.name, *map(str, arguments)])
        if isinstance(result.exception, DeepHError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


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
