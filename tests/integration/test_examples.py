"""Every file in `examples` runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NEEDS_PROFILE = {"query_provenance.py"}
pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py") if path.name not in NEEDS_PROFILE))
def test_example_of_the_engine(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "AIIDA_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        env=environment,
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example says what it found"


def test_example_on_the_quickstart(quickstart, command, tmp_path: Path) -> None:
    done = command("verdi", "-p", quickstart.profile, "run", str(EXAMPLES / "query_provenance.py"), cwd=tmp_path)
    assert "4 DFT runs" in done.stdout
