"""From an inputs file to the builder of active learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiida_deeph.cli import inputs as schema
from aiida_deeph.cli.builders import codes_of, entry_point, structures_of
from aiida_deeph.cli.sources import structure_nodes
from aiida_deeph.engine.errors import InputError


def active_builder(
    values: schema.ActiveInputs, path: Path, *, engine: Any = None, dft: Any = None, dry_run: bool = False
) -> Any:
    """Builder of the ActiveWorkChain of an inputs file.

    :param path: the file; what it names lies relative to its folder.
    :param engine: the engine's code, instead of the file's.
    :param dft: the DFT code, instead of the file's.
    :param dry_run: leave no node behind.
    :raises InputError: anything that cannot run.
    """
    from aiida_deeph.processes.protocol import merge
    from aiida_deeph.workflows.active import ActiveWorkChain

    given = {"first": values.first, "batch": values.batch}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if values.rule is not None:
        changes["select"] = {"parameters": {"rule": values.rule}}
    codes = codes_of(values, path, engine=engine, dft=dft)
    candidates = structure_nodes(values.candidates, path.parent, "candidates")
    if values.perturbation is not None:
        candidates = drawn(candidates, values.perturbation, store=not dry_run)
    return ActiveWorkChain.get_builder_from_protocol(
        codes,
        candidates,
        values.budget,
        values.target,
        structures_of(values.targets, path, dry_run, "targets"),
        protocol=values.protocol,
        overrides=merge(values.overrides, changes),
        options=values.options,
        label=entry_point(values.label),
    )


def drawn(parents: dict[str, Any], perturbation: dict[str, Any], *, store: bool) -> dict[str, Any]:
    """Cells that are drawn around parents, as candidates.

    :raises InputError: settings that are wrong, or cells too large or too many.
    """
    from aiida import orm

    from aiida_deeph.workflows.dataset_inputs import check_sizes, design_of, try_design
    from aiida_deeph.workflows.draw import perturb_structures

    design = design_of(perturbation)
    if design is None:
        raise InputError("no way to draw cells", where="perturbation", found="nothing", expected="n, amplitude, ...")
    check_sizes(parents, design)
    try_design(design, parents)
    numbers = {"first": orm.Int(0), "last": orm.Int(design.n)}
    metadata = {"label": "draw candidates", "store_provenance": store}
    cells: dict[str, Any] = perturb_structures(settings=orm.Dict(perturbation), **numbers, **parents, metadata=metadata)
    return dict(cells)
