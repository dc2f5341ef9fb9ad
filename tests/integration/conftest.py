"""What the integration tests share: the command, run as a user runs it, in an AiiDA folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def aiida_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIIDA_PATH in which another profile is the user's default one."""
    home = tmp_path_factory.mktemp("aiida_home")
    folder = home / ".aiida"
    folder.mkdir()
    mine = {
        "storage": {"backend": "core.sqlite_dos", "config": {"filepath": str(home / "mine")}},
        "process_control": {"backend": None, "config": None},
        "PROFILE_UUID": "0" * 32,
        "test_profile": False,
    }
    config = {
        "CONFIG_VERSION": {"CURRENT": 9, "OLDEST_COMPATIBLE": 9},
        "profiles": {"mine": mine},
        "default_profile": "mine",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return home


@pytest.fixture(scope="session")
def command(aiida_home: Path) -> Command:
    """Run a program of this environment, which is not activated: PATH holds the system's folders only."""

    def run(program: str, *arguments: str, cwd: Path, check: bool = True, timeout: float = 600) -> object:
        environment = {
            **{key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONWARNINGS")},
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "AIIDA_PATH": str(aiida_home),
            "COLUMNS": "120",
        }
        done = subprocess.run(
            [str(Path(sys.executable).parent / program), *arguments],
            cwd=cwd,
            env=environment,
            text=True,
            capture_output=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@dataclass(frozen=True)
class QuickstartRun:
    """A finished quickstart: its folder, and what it printed."""

    folder: Path
    output: str
    home: Path
    profile: str


@pytest.fixture(scope="session")
def quickstart(aiida_home: Path, command: Command, tmp_path_factory: pytest.TempPathFactory) -> QuickstartRun:
    """The quickstart on its reduced setting, run once for all tests."""
    folder = tmp_path_factory.mktemp("quickstart")
    arguments = ("--profile", "small", "--workdir", str(folder / "out"), "--reduced")
    done = command("aiida-deeph", "quickstart", *arguments, cwd=folder)
    return QuickstartRun(folder / "out", done.stdout + done.stderr, aiida_home, "small")
