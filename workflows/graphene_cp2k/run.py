"""The recipe through Python: `verdi run run.py` submits what `aiida-deeph launch full` submits.

A starting point for recipes of your own, in which structures come from a script or from the database.
"""

from __future__ import annotations

from pathlib import Path

from aiida.engine import submit

from aiida_deeph import FullInputs, full_builder, load_config


def main(path: Path) -> None:
    """Read the inputs, build, submit."""
    builder = full_builder(load_config(FullInputs, path), path)
    process = submit(builder)
    print(f"submitted FullWorkChain<{process.pk}>; follow it with `verdi process status {process.pk}`")


if __name__ == "__main__":
    main(Path(__file__).parent / "inputs.yaml")
