"""The recipe through Python: `verdi run run.py [from_labels.yaml]` submits what `aiida-deeph launch full` submits.

A starting point for recipes of your own, in which structures come from a script or from the database.
"""

from __future__ import annotations

import sys
from pathlib import Path

from aiida import orm
from aiida.engine import submit

from aiida_deeph.cli.imported import openmx_bands
from aiida_deeph.cli.inputs import FullInputs
from aiida_deeph.cli.launch import labels_of, structures_of
from aiida_deeph.engine.config import load_config
from aiida_deeph.workflows.full import FullWorkChain
from aiida_deeph.workflows.protocol import merge


def main(path: Path) -> None:
    """Read the inputs, build, submit."""
    inputs = load_config(FullInputs, path)
    groups = {
        group: structures_of(getattr(inputs, group), path, dry_run=False)
        for group in ("structures", "targets", "validation")
    }
    reference = {
        name: openmx_bands(path.parent / source.dft_bands, groups["validation"][name])
        for name, source in inputs.validation.items()
        if source.dft_bands is not None
    }
    own = {"dataset": {"perturbation": inputs.perturbation}} if inputs.perturbation else {}
    if inputs.kpath is not None:
        own["bands"] = {"kpath": inputs.kpath}
    builder = FullWorkChain.get_builder_from_protocol(
        codes={name: orm.load_code(label) for name, label in inputs.codes.model_dump(exclude_none=True).items()},
        **groups,
        protocol=inputs.protocol,
        overrides=merge(inputs.overrides, own),
        options=inputs.options,
        label=f"deeph.label.{inputs.label}",
        labels=labels_of(inputs, path),
        reference_bands=reference,
        basis=inputs.basis,
        settings={name: source.settings for name, source in {**inputs.targets, **inputs.validation}.items()},
    )
    builder.metadata.label, builder.metadata.description = inputs.title, inputs.description
    process = submit(builder)
    print(f"submitted FullWorkChain<{process.pk}>; follow it with `verdi process status {process.pk}`")


if __name__ == "__main__":
    main(Path(__file__).parent / (sys.argv[1] if len(sys.argv) > 1 else "inputs.yaml"))
