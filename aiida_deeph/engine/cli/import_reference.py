"""`deeph-engine import-reference`: published checkpoints of DeepH-E3 and QHNet as models."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="import-reference")
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
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
@click.option(
    "--variant",
    type=click.Choice(["md17", "md17-fixed", "qh9", "md17-wo-bias"]),
    help="The checkpoint is one of QHNet, and of these functions: the file does not say which.",
)
@click.option("--elements", help="Elements of the molecules that QHNet was trained on, like H,C,N,O,F.")
def command(
    sources: tuple[Path, ...],
    e3nn: str,
    cutoff: float | None,
    dataset: Path | None,
    variant: str | None,
    elements: str | None,
) -> None:
    """Turn training folders of the reference DeepH-E3 code (best_model.pkl and src/), or with --variant a checkpoint of
    the reference QHNet code, into a model.

    SOURCES are one or more folders, or the one checkpoint, and, last, the MODEL_DIR to write. Several folders with
    disjoint targets become one model. Nothing of what they hold is executed. DeepH-E3 does not record the range of the
    atom pairs: without --cutoff or --dataset the model predicts on the pairs of the matrix (H or S) that comes with the
    structure. QHNet predicts all pairs of a molecule.
    """
    from aiida_deeph.engine.errors import InputError

    if len(sources) < 2:
        raise InputError("too few arguments", found=len(sources), expected="SOURCE ... MODEL_DIR")
    *given, target = sources
    if (variant is None) != (elements is None):
        raise InputError("QHNet needs --variant and --elements", expected="both, or for DeepH-E3 neither")
    if variant is not None and elements is not None:
        from aiida_deeph.engine.nn.reference.qhnet import import_qhnet

        if len(given) != 1 or cutoff is not None or dataset is not None:
            raise InputError("QHNet is one checkpoint of all pairs", expected="CHECKPOINT MODEL_DIR without a range")
        symbols = [symbol.strip() for symbol in elements.split(",")]
        description = import_qhnet(given[0], target, variant=variant, elements=symbols, e3nn=e3nn)
    else:
        from aiida_deeph.engine.nn.reference.convert import import_reference, measured_cutoffs, uniform_cutoffs

        if cutoff is not None and dataset is not None:
            raise InputError("give --cutoff or --dataset, not both")
        cutoffs = (
            uniform_cutoffs(given[0], cutoff)
            if cutoff is not None
            else measured_cutoffs(dataset)
            if dataset is not None
            else None
        )
        description = import_reference(given, target, e3nn=e3nn, pair_cutoffs=cutoffs)
    click.echo(
        f"{target}: {description.network}, {', '.join(description.basis)}, spin {description.spin.value}, "
        f"e3nn {description.origin['e3nn']}, {description.origin['parameters']} parameters"
    )
