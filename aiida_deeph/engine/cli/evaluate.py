"""`deeph-engine evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from aiida_deeph.engine.config import load_config
from aiida_deeph.engine.training.config import EvaluateConfig


@click.command("evaluate")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def command(config: Path) -> None:
    """Compare a model's predictions with the labels of a dataset; CONFIG is JSON or YAML (fields: dataset, model, ...).

    Writes evaluate.json: errors over all entries, per member, per orbital pair, per distance.
    """
    settings = load_config(EvaluateConfig, config)
    from aiida_deeph.engine.training.evaluate import evaluate

    report = evaluate(settings)
    click.echo(
        f"{settings.output}: {report['n_members']} members, {report['n_entries']} entries, "
        f"MAE {1000 * report['mae_eV']:.3f} meV, largest error {1000 * report['max_eV']:.3f} meV"
    )
    if report.get("bands_mean_eV") is not None:
        click.echo(
            f"bands: mean deviation {1000 * report['bands_mean_eV']:.3f} meV, largest "
            f"{1000 * report['bands_max_eV']:.3f} meV; {report['n_unexplained']} members not explained by their H"
        )
