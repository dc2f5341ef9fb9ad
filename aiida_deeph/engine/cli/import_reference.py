"""`deeph-engine import-reference`: published DeepH-E3 checkpoints as models."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="import-reference")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--e3nn",
    type=click.Choice(["auto", "0.3", "0.4", "0.5"]),
    default="auto",
    show_default=True,
    help="Version of e3nn that trained the model (0.5 stands for all later ones); auto finds it in the checkpoint.",
)
@click.option(
    "--cutoff",
    type=click.FloatRange(min=0, min_open=True),
    help="Range of the atom pairs of the training data, Angstrom, for all pairs of elements.",
)
@click.option(
    "--dataset",
    type=click.Path(path_type=Path),
    help="A DeepH folder of the training data, or a folder of them: the range of each element pair is measured there.",
)
def command(folders: tuple[Path, ...], e3nn: str, cutoff: float | None, dataset: Path | None) -> None:
    """Turn training folders of the reference DeepH-E3 code (best_model.pkl and src/) into a model.

    FOLDERS are one or more SOURCE_DIR and, last, the MODEL_DIR to write. Several sources with disjoint targets become
    one model. Nothing of what they hold is executed. The reference does not record the range of the atom pairs: without
    --cutoff or --dataset the model predicts on the pairs of the matrix (H or S) that comes with the structure.
    """
    from aiida_deeph.engine.errors import InputError
    from aiida_deeph.engine.nn.reference.convert import import_reference, measured_cutoffs, uniform_cutoffs

    if len(folders) < 2:
        raise InputError("too few arguments", found=len(folders), expected="SOURCE_DIR ... MODEL_DIR")
    if cutoff is not None and dataset is not None:
        raise InputError("give --cutoff or --dataset, not both")
    *sources, target = folders
    cutoffs = (
        uniform_cutoffs(sources[0], cutoff)
        if cutoff is not None
        else measured_cutoffs(dataset)
        if dataset is not None
        else None
    )
    description = import_reference(sources, target, e3nn=e3nn, pair_cutoffs=cutoffs)
    click.echo(
        f"{target}: {description.network}, {', '.join(description.basis)}, spin {description.spin.value}, "
        f"e3nn {description.origin['e3nn']}, {description.origin['parameters']} parameters"
    )
