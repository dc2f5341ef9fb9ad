"""`deeph-engine preprocess`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("preprocess")
@click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace a dataset that stands there already.")
def command(config: Path, overwrite: bool) -> None:
    """Turn many raw DFT outputs into a gated dataset; CONFIG is JSON or YAML, its paths are relative to it."""
    from aiida_deeph.engine.config import load_config
    from aiida_deeph.engine.preprocess.config import PreprocessConfig
    from aiida_deeph.engine.preprocess.run import run_preprocess

    settings = load_config(PreprocessConfig, config)
    manifest = run_preprocess(settings, config.parent, overwrite)
    for one in manifest.rejected:
        click.echo(f"rejected {one.name}: {one.reason}")
    for warning in manifest.statistics["warnings"]:
        click.echo(f"warning: {warning}")
    n_pairs = manifest.statistics["n_pairs"]
    click.echo(
        f"{settings.output}: {len(manifest.members)} members, {n_pairs} atom pairs, {len(manifest.rejected)} rejected"
    )
