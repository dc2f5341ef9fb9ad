"""Commands of aiida-deeph, run as a user runs them."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner

from aiida_deeph.cli.main import command
from aiida_deeph.engine.errors import DeepHError


def run_command(profile: Any, *arguments: object) -> str:
    """Output of `aiida-deeph ARGUMENTS` in a profile; an error of ours is raised."""
    result = CliRunner().invoke(command, ["-p", profile.name, *map(str, arguments)])
    if isinstance(result.exception, DeepHError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output
