"""`deeph-engine select`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from aiida_deeph.engine.config import load_config
from aiida_deeph.engine.prediction.config import SelectConfig


@click.command("select")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def command(config: Path) -> None:
    """Choose which structures to label next, as CONFIG (JSON or YAML) says."""
    settings = load_config(SelectConfig, config)
    from aiida_deeph.engine.prediction.select import select

    report = json.loads(select(settings).read_text(encoding="utf-8"))
    click.echo(
        f"{report['n_candidates']} candidates, expected error {1000 * report['expected_mae_eV']:.3f} meV; "
        f"next: {', '.join(report['selected']) or 'none'}"
    )
