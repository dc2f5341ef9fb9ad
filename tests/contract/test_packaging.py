"""What packagers read says the same as pyproject.toml: dependencies, versions, entry points, the oldest Python."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import aiida_deeph

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_conda_recipe(project):
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["context"]["version"] == aiida_deeph.__version__
    # "ase>=3.23" of pip is "ase >=3.23" of conda
    wanted = {
        text.replace(">=", " >=", 1) for text in project["dependencies"] + project["optional-dependencies"]["aiida"]
    }
    assert set(recipe["requirements"]["run"]) == {"python >=3.11", *wanted}
    scripts = {f"{name} = {target}" for name, target in project["scripts"].items()}
    assert set(recipe["build"]["python"]["entry_points"]) == scripts


def test_container_installs_what_is_tested():
    lines = (ROOT / "Containerfile").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 1 and "USER 1000" in lines
    text = "\n".join(lines)
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line
    )
    assert f"torch=={pins['torch']}" in text and "-c constraints.txt" in text and ":latest" not in text


@pytest.mark.requires("hadolint")
def test_container_is_well_written():
    done = subprocess.run(["hadolint", ROOT / "Containerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_classifiers_are_what_the_plugin_registry_asks_for(project):
    assert "Framework :: AiiDA" in project["classifiers"]
    assert any(text.startswith("Development Status ::") for text in project["classifiers"])
    assert project["requires-python"] == ">=3.11"


def test_an_older_python_is_told_so():
    code = "import sys; sys.version_info = (3, 10, 1); import aiida_deeph"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "needs Python 3.11 or later" in done.stderr.splitlines()[-1]
