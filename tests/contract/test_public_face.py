"""What is public: `aiida_deeph.__all__`, and nothing else in examples and recipes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aiida_deeph

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("examples/*.py"), *ROOT.glob("workflows/*/*.py")])


@pytest.mark.parametrize("name", aiida_deeph.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(aiida_deeph, name)
    assert name == "__version__" or found.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(aiida_deeph, "Hamiltonian")
    assert set(dir(aiida_deeph)) == set(aiida_deeph.__all__)


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = "import sys, aiida_deeph; print(sorted({'numpy', 'torch', 'aiida', 'h5py', 'ase'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_and_recipes_import_public_names_only(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aiida_deeph"):
            assert node.module == "aiida_deeph", f"line {node.lineno}"
            assert {alias.name for alias in node.names} <= set(aiida_deeph.__all__)
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("aiida_deeph.") for alias in node.names), f"line {node.lineno}"
