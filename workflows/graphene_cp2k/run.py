"""The recipe through Python: `verdi run run.py` submits what `aiida-deeph launch full -f inputs.yaml` submits.

A starting point for recipes of your own, in which structures come from a script or from the database.
"""

from __future__ import annotations

from pathlib import Path

from aiida import orm
from aiida.engine import submit

from aiida_deeph.cli.inputs import FullInputs, structure_node
from aiida_deeph.engine.config import load_config
from aiida_deeph.workflows.full import FullWorkChain
from aiida_deeph.workflows.protocol import merge

FOLDER = Path(__file__).parent


def main() -> None:
    """Read the inputs, build, submit."""
    inputs = load_config(FullInputs, FOLDER / "inputs.yaml")
    nodes = {
        group: {name: structure_node(source, FOLDER, name) for name, source in getattr(inputs, group).items()}
        for group in ("structures", "targets", "validation")
    }
    own = {"dataset": {"perturbation": inputs.perturbation}, "bands": {"kpath": inputs.kpath}}
    builder = FullWorkChain.get_builder_from_protocol(
        codes={name: orm.load_code(label) for name, label in inputs.codes.model_dump(exclude_none=True).items()},
        **nodes,
        protocol=inputs.protocol,
        overrides=merge(inputs.overrides, own),
        options=inputs.options,
        label=f"deeph.label.{inputs.label}",
    )
    builder.metadata.label, builder.metadata.description = inputs.title, inputs.description
    process = submit(builder)
    print(f"submitted FullWorkChain<{process.pk}>; follow it with `verdi process status {process.pk}`")


if __name__ == "__main__":
    main()
