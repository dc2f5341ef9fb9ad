"""Who may import whom, and what an import costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_import_contracts() -> None:
    """The contracts of pyproject.toml."""
    program = Path(sys.executable).with_name("lint-imports")
    if not program.is_file():
        pytest.skip("import-linter is not installed beside this Python")
    result = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:]


@pytest.mark.parametrize(("parent", "sign"), [("dft", "__init__.py"), ("nn", "config.py")])
def test_siblings_are_under_contract(parent: str, sign: str) -> None:
    """A new folder of a DFT code or of a network has to join the contract that keeps its kind apart."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    kept = [name for one in contracts if one["type"] == "independence" for name in one["modules"]]
    folders = {
        f"aiida_deeph.engine.{parent}.{path.parent.name}" for path in ROOT.glob(f"aiida_deeph/engine/{parent}/*/{sign}")
    }
    assert folders == {name for name in kept if name.startswith(f"aiida_deeph.engine.{parent}.")}


@pytest.mark.parametrize(
    ("packages", "forbidden"),
    [
        (
            ("data", "calculations", "parsers", "processes", "codes", "workflows", "cli"),
            ("torch", "e3nn", "torch_geometric", "lightning_fabric"),
        ),
        (
            ("engine.domain", "engine.io", "engine.dft.base", "engine.preprocess", "engine.observables"),
            ("aiida", "torch"),
        ),
        # torch-geometric and torch's compiler take seconds and memory, which a prediction has no use for.
        (("engine.nn", "engine.prediction"), ("aiida", "e3nn", "torch_geometric", "lightning_fabric", "torch._dynamo")),
        (("engine.training.config", "engine.prediction.config", "engine.cli.main"), ("aiida", "torch", "h5py")),
    ],
)
def test_imports_stay_light(packages: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    """Import every module below, in a process of its own: nothing forbidden may come along, however indirectly."""
    program = f"""
import importlib, pkgutil, sys
for name in {packages!r}:
    module = importlib.import_module("aiida_deeph." + name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), module.__name__ + "."):
        importlib.import_module(found.name)
print(",".join(name for name in {forbidden!r} if name in sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""
