"""One row per structure that a model was used on: gap, Fermi level, expected error, warnings, cost, and the nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_deeph.engine.observables.registry import OBSERVABLES

PREFIX = "aiida.workflows:deeph."
# Workflows that do one structure each, and all others, whose children are looked through.
SINGLE = tuple(PREFIX + name for name in ("target", "predict", "bands"))
STEPS = ("target_", "validate_")
CALLS = (LinkType.CALL_WORK.value, LinkType.CALL_CALC.value)
MEV = 1000.0
# Columns of the table; what else is known stands in the other formats.
COLUMNS = ("name", "formula", "n_atoms", "state", "gap_eV", "fermi_eV", "expected_mae_meV", "band_mae_meV", "warnings")
# Parameters of every job, which are no results.
COMMON = {"n_atoms", "n_orbitals", "n_electrons", "seconds", "n_ranks", "n_kpoints", "fermi_level", "dft_fermi_level"}


def single_processes(processes: Iterable[orm.ProcessNode]) -> dict[int, str]:
    """Workchains of one structure each below some processes, in their order: pk -> name of the structure."""
    found: dict[int, str] = {}
    for process in processes:
        if process.process_type in SINGLE:
            found.setdefault(process.pk, _plain(process.base.links.get_incoming(link_type=LinkType.CALL_WORK).all()))
            continue
        query = orm.QueryBuilder().append(orm.WorkChainNode, filters={"id": process.pk}, tag="parent")
        filters = {"process_type": {"in": list(SINGLE)}}
        query.append(
            orm.WorkChainNode, with_incoming="parent", filters=filters, project="id", edge_project="label", tag="child"
        )
        query.order_by({"child": "id"})
        rows = query.all()
        if rows:
            found |= {pk: label for pk, label in rows if pk not in found}
        else:
            found |= single_processes(node for node in process.called if isinstance(node, orm.WorkChainNode))
    return {pk: _without_step(name) for pk, name in found.items()}


def _plain(links: Sequence[Any]) -> str:
    return str(links[0].link_label) if links else ""


def _without_step(name: str) -> str:
    for step in STEPS:
        name = name.removeprefix(step)
    return name


def processes_of(nodes: Iterable[orm.Node]) -> list[orm.ProcessNode]:
    """Processes among some nodes, and those that made the data among them: the workchain of the whole structure."""
    found: dict[int, orm.ProcessNode] = {}
    for node in nodes:
        process = node if isinstance(node, orm.ProcessNode) else node.creator if isinstance(node, orm.Data) else None
        while process is not None and process.process_type not in SINGLE and process.caller is not None:
            if isinstance(node, orm.ProcessNode):
                break
            process = process.caller
        while process is not None and process.caller is not None and process.caller.process_type in SINGLE:
            process = process.caller
        if process is not None:
            found[process.pk] = process
    return list(found.values())


def rows_of(processes: Iterable[orm.ProcessNode]) -> list[dict[str, Any]]:
    """What is known of every structure below some processes; keys carry their unit, a few queries in all."""
    names = single_processes(processes)
    pks = list(names)
    if not pks:
        return []
    states, structures, outputs, jobs = _states(pks), _structures(pks), _outputs(pks), _jobs(pks)
    return [
        _row(pk, name, states[pk], structures.get(pk), outputs.get(pk, {}), jobs.get(pk, []))
        for pk, name in names.items()
    ]


def _row(
    pk: int,
    name: str,
    state: tuple[str, Any, str],
    structure: orm.StructureData | None,
    outputs: Mapping[str, tuple[int, Any]],
    jobs: Sequence[tuple[str, Mapping[str, Any]]],
) -> dict[str, Any]:
    """:param outputs: label -> pk and, of a Dict, its content.
    :param jobs: process type and output_parameters of the jobs below, later ones last.
    """
    by_kind = {kind.rpartition(".")[2]: values for kind, values in jobs}
    predicted = by_kind.get("predict", {})
    fermi = next((by_kind[kind] for kind in OBSERVABLES if "fermi" in by_kind.get(kind, {})), {})
    compared = outputs.get("comparison", (0, {}))[1] or {}
    status, exit_status, message = state
    row: dict[str, Any] = {
        "name": name or (structure.label if structure is not None else "") or str(pk),
        "formula": None if structure is None else structure.get_formula(),
        "n_atoms": predicted.get("n_atoms") or fermi.get("n_atoms") or (len(structure.sites) if structure else None),
        "state": "ok" if exit_status == 0 else status if exit_status is None else f"failed [{exit_status}]",
        "gap_eV": fermi.get("fermi", {}).get("gap"),
        "fermi_eV": fermi.get("fermi_level"),
        "expected_mae_meV": _milli(predicted.get("expected_mae_eV")),
        "largest_expected_error_meV": _milli(predicted.get("largest_expected_error_eV")),
        "n_atoms_outside": predicted.get("n_atoms_outside"),
        "band_mae_meV": compared.get("band_mae_meV"),
        "band_max_meV": compared.get("band_max_meV"),
    }
    for kind in OBSERVABLES:
        row |= {f"{kind}.{key}": value for key, value in _numbers(by_kind.get(kind, {})).items()}
    row |= {
        "job_s": round(sum(values.get("seconds") or 0.0 for _, values in jobs), 2),
        "peak_memory_GiB": max((values.get("peak_memory_GiB") or 0.0 for _, values in jobs), default=None),
        "warnings": _warnings(row, jobs, message if exit_status else None),
        "process": pk,
        "structure": None if structure is None else structure.pk,
        **{label: node for label, (node, _) in sorted(outputs.items()) if not label.startswith("remote")},
    }
    return row


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Results of an observable that are a number with a unit, whatever they are: the unit stands in the key."""
    found = {}
    for key, value in values.items():
        unit = values.get(f"{key}_units")
        if unit and key not in COMMON and not key.startswith("peak_") and isinstance(value, int | float):
            found[f"{key}_{unit}"] = value
    return found


def _warnings(row: Mapping[str, Any], jobs: Sequence[tuple[str, Mapping[str, Any]]], message: str | None) -> list[str]:
    """What a reader should know before he believes a number."""
    found = [message] if message else []
    if row["n_atoms_outside"]:
        found.append(f"{row['n_atoms_outside']} of {row['n_atoms']} atoms resemble nothing in the model's data")
    for _, values in jobs:
        found += [str(text) for text in values.get("warnings") or []]
        for key, what in (("dropped_states", "nearly dependent states dropped"), ("n_ghost_states", "ghost states")):
            if values.get(key):
                found.append(f"{values[key]} {what}")
    return list(dict.fromkeys(found))


def _states(pks: list[int]) -> dict[int, tuple[str, Any, str]]:
    """pk -> process state, exit status, exit message."""
    project = ["id", "attributes.process_state", "attributes.exit_status", "attributes.exit_message"]
    query = orm.QueryBuilder().append(orm.ProcessNode, filters={"id": {"in": pks}}, project=project)
    return {pk: (state or "created", status, message or "") for pk, state, status, message in query.all()}


def _structures(pks: list[int]) -> dict[int, orm.StructureData]:
    query = orm.QueryBuilder().append(orm.ProcessNode, filters={"id": {"in": pks}}, tag="process", project="id")
    query.append(orm.StructureData, with_outgoing="process", edge_filters={"label": "structure"}, project="*")
    return dict(query.all())


def _outputs(pks: list[int]) -> dict[int, dict[str, tuple[int, Any]]]:
    """pk -> label of the output -> its pk and, if it is a comparison, its attributes."""
    query = orm.QueryBuilder().append(orm.ProcessNode, filters={"id": {"in": pks}}, tag="process", project="id")
    edges = {"type": LinkType.RETURN.value}
    query.append(orm.Data, with_incoming="process", edge_filters=edges, edge_project="label", project="id")
    found: dict[int, dict[str, tuple[int, Any]]] = {}
    for process, node, label in query.all():
        found.setdefault(process, {})[label] = (node, None)
    query = orm.QueryBuilder().append(orm.ProcessNode, filters={"id": {"in": pks}}, tag="process", project="id")
    edges = {"type": LinkType.RETURN.value, "label": "comparison"}
    query.append(orm.Dict, with_incoming="process", edge_filters=edges, project=["id", "attributes"])
    for process, node, values in query.all():
        found[process]["comparison"] = (node, values)
    return found


def _jobs(pks: list[int]) -> dict[int, list[tuple[str, Mapping[str, Any]]]]:
    """pk -> process type and output_parameters of each job below, down to those of a workchain that it calls."""
    found: dict[int, dict[int, tuple[str, Mapping[str, Any]]]] = {}
    edges = {"type": {"in": list(CALLS)}}
    for deep in (False, True):
        query = orm.QueryBuilder().append(orm.ProcessNode, filters={"id": {"in": pks}}, tag="process", project="id")
        if deep:
            query.append(orm.WorkChainNode, with_incoming="process", edge_filters=edges, tag="step")
        above, project = "step" if deep else "process", ["id", "process_type"]
        query.append(orm.CalcJobNode, with_incoming=above, edge_filters=edges, tag="job", project=project)
        query.append(orm.Dict, with_incoming="job", edge_filters={"label": "output_parameters"}, project="attributes")
        for process, job, kind, values in query.all():
            found.setdefault(process, {})[job] = kind or "", values
    return {process: [jobs[job] for job in sorted(jobs)] for process, jobs in found.items()}


def _milli(value: float | None) -> float | None:
    return None if value is None else MEV * value
