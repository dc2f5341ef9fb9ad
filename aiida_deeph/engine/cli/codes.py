"""`deeph-engine codes`: the DFT codes whose output is read, as their records tell."""

from __future__ import annotations

import click

from aiida_deeph.engine.dft.base import records
from aiida_deeph.engine.dft.record import CodeRecord
from aiida_deeph.engine.domain.basis import SpinMode

HEADER = ("code, versions", "spin", "labels by", "overlap without DFT", "verified by", "not supported")


def cells(record: CodeRecord) -> tuple[str, ...]:
    """The row of a code, in the order of HEADER."""
    spins = ", ".join(spin.value for spin in record.spins) if len(record.spins) < len(SpinMode) else "all"
    plugins = dict.fromkeys([record.plugin, *(program.plugin for program in record.programs)])
    return (
        f"{record.title} {', '.join(release.title for release in record.releases)}",
        record.spin_note or spins + (", spin-orbit" if record.spin_orbit else ""),
        ", ".join(f"`{plugin}`" for plugin in plugins if plugin) or f"no: `data import --code {record.name}`",
        record.overlap,
        record.verified,
        record.not_supported,
    )


def table() -> list[str]:
    """Lines of the table of all codes, in Markdown."""
    rows = [HEADER, ("---",) * len(HEADER), *(cells(record) for record in records().values())]
    return [f"| {' | '.join(row)} |" for row in rows]


@click.command("codes")
def command() -> None:
    """Which DFT codes are read: versions, spins, how they label, on what this was verified, what is not supported."""
    click.echo("\n".join(table()))
