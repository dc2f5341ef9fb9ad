"""What a process offers to look at: tables, figures, warnings and commands, found by what its nodes are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiida import orm
from aiida.common.links import LinkType

from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.data.structure import atom_symbols
from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.engine.observables.registry import OBSERVABLES, load_observable
from aiida_deeph.report import figures
from aiida_deeph.report.curves import aligned, bands_table, bands_values, fermi_level_of, kind_of, parts_of
from aiida_deeph.report.error_tables import distance_errors, pair_errors
from aiida_deeph.report.figures import Figure
from aiida_deeph.report.model_card import model_card
from aiida_deeph.report.rows import processes_of, rows_of

# Structures with figures of their own; of all others the table tells.
MOST_STRUCTURES = 12
# Keys of a Dict that say little to a reader.
HIDDEN = ("seconds", "failed", "warnings", "split", "levels_near_fermi", "atoms_outside", "expected_mae_by_atom_eV")
# Exit codes from here on are of processes that finished with a warning.
WARNINGS = 700
X_AXES = ("epoch", "energies", "round", "iteration", "step")


@dataclass(frozen=True)
class Report:
    """:param facts: what the process is; :param rows: of structures; :param tables: title -> key -> value;
    :param failures: processes that failed -> why; :param commands: what to type next, and what it does.
    """

    title: str
    facts: Mapping[str, Any]
    warnings: list[str]
    rows: list[dict[str, Any]]
    figures: list[Figure]
    tables: Mapping[str, Mapping[str, Any]]
    card: Mapping[str, Mapping[str, Any]]
    failures: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)


def gather(process: orm.ProcessNode) -> Report:
    """Everything of a report; an output of a kind that is not known is shown as what it is."""
    outputs = outputs_of(process)
    rows = rows_of(processes_of([process]))
    drawn = list(_figures(process, outputs, rows))
    failures = {
        f"{node.process_label}<{node.pk}>": str(node.exit_message or node.exception or f"[{node.exit_status}]")
        for node in process.called_descendants
        if node.is_terminated and not node.is_finished_ok and (node.exit_status or 0) < WARNINGS
    }
    tables = {
        label.replace("__", ", "): _told(node)
        for label, node in outputs.items()
        if isinstance(node, orm.Dict | DatasetData) and _told(node)
    }
    model = outputs.get("model") or _input_model(process)
    formulas = sorted({row["formula"] for row in rows if row["formula"]})
    names = ", ".join(formulas[:3]) + (f" and {len(formulas) - 3} more" if len(formulas) > 3 else "")
    return Report(
        title=f"{process.label or process.process_label}{': ' if names else ''}{names}",
        facts={
            "process": f"{process.process_label}<{process.pk}>",
            "state": _state(process),
            "description": process.description or None,
            "uuid": process.uuid,
            "begun": process.ctime.isoformat(" ", "minutes"),
            "last change": process.mtime.isoformat(" ", "minutes"),
        },
        warnings=_warnings(process, outputs, rows),
        rows=rows,
        figures=drawn,
        tables=tables,
        card={} if model is None else model_card(model),
        failures=failures,
        commands=_commands(process, outputs, rows),
    )


def outputs_of(process: orm.ProcessNode) -> dict[str, orm.Data]:
    """Outputs by label; those of a namespace as `bands__NAME`."""
    links = process.base.links.get_outgoing(link_type=(LinkType.CREATE, LinkType.RETURN)).all()
    return {link.link_label: link.node for link in links}


def _input_model(process: orm.ProcessNode) -> DeepHModelData | None:
    links = process.base.links.get_incoming(link_type=(LinkType.INPUT_CALC, LinkType.INPUT_WORK)).all()
    return next((link.node for link in links if isinstance(link.node, DeepHModelData)), None)


def _state(process: orm.ProcessNode) -> str:
    if not process.is_terminated:
        state = process.process_state.value if process.process_state else "created"
        return f"{state}: not finished, this is what is there"
    return "finished well" if process.is_finished_ok else f"{process.process_state.value} [{process.exit_status}]"


def _warnings(process: orm.ProcessNode, outputs: Mapping[str, orm.Data], rows: list[dict[str, Any]]) -> list[str]:
    """What a reader should know before he believes a number, each once."""
    found = [str(process.exit_message)] if process.exit_message else []
    for node in outputs.values():
        if isinstance(node, orm.Dict):
            found += [str(text) for text in node.get("warnings", None) or []]
            found += [f"{name}: {reason}" for name, reason in (node.get("failed", None) or {}).items()]
        elif isinstance(node, DatasetData):
            found += [f"{entry.name} was rejected: {entry.reason}" for entry in node.manifest.rejected]
    found += [f"{row['name']}: {text}" for row in rows for text in row["warnings"]]
    return list(dict.fromkeys(found))


def _told(node: orm.Data) -> dict[str, Any]:
    """Values of a Dict, or what a dataset is, that fit into a table."""
    if isinstance(node, DatasetData):
        kept = {key: value for key, value in node.base.attributes.all.items() if key != "rejected"}
        return kept | {"n_rejected": len(node.base.attributes.get("rejected"))}
    values = node.base.attributes.all
    return {
        key: value
        for key, value in values.items()
        if isinstance(value, int | float | str | bool) and key not in HIDDEN and not key.endswith("_units")
    }


def _figures(process: orm.ProcessNode, outputs: Mapping[str, orm.Data], rows: list[dict[str, Any]]) -> Iterator[Figure]:
    """Those of the structures, one after the other, then those of the training, then all else that is an array."""
    names = list(dict.fromkeys(row["name"] for row in rows)) or [""]
    for row in rows[:MOST_STRUCTURES]:
        yield from _of_structure(row)
    drawn = {row.get(key) for row in rows for key in row if isinstance(row.get(key), int)}
    errors = outputs.get("errors")
    if isinstance(errors, orm.Dict):
        yield from _of_errors(errors.get_dict(), outputs.get("model"))
    for label, node in outputs.items():
        if node.pk in drawn or not isinstance(node, orm.ArrayData) or isinstance(node, orm.KpointsData):
            if isinstance(node, orm.BandsData) and node.pk not in drawn:
                yield _bands(label, names[0] or label, node, None, None)
            continue
        yield from _of_arrays(label, node)


def _of_structure(row: Mapping[str, Any]) -> Iterator[Figure]:
    """Bands, all other observables with an axis, and a picture of the atoms."""
    name, nodes = row["name"], {key: orm.load_node(row[key]) for key in _nodes(row)}
    if "bands" in nodes:
        compared = nodes.get("comparison")
        yield _bands(f"bands-{row['process']}", f"{name}: bands", nodes["bands"], nodes.get("dft_bands"), compared)
    for key, entry in OBSERVABLES.items():
        if key in nodes and entry.drawn and key != "bands":
            yield from _observable(key, f"{name}: {entry.help.lower()}", nodes[key])
    if isinstance(nodes.get("hamiltonian"), HamiltonianData):
        figure = _atoms(name, nodes["hamiltonian"])
        if figure is not None:
            yield figure


def _nodes(row: Mapping[str, Any]) -> list[str]:
    wanted = ("hamiltonian", "dft_bands", "comparison", *OBSERVABLES)
    return [key for key in wanted if isinstance(row.get(key), int)]


def _bands(key: str, title: str, node: Any, reference: Any, compared: Any) -> Figure:
    values, level = bands_values(node), fermi_level_of(node)
    energies = np.array(values["energies"]) - (level or 0.0)
    other, errors = None, None
    if reference is not None:
        try:
            moved, _ = aligned(node, reference, absolute=False)
        except DeepHError:
            moved = None  # bands on other k-points, or on a zero of energy that is not known
        if moved is not None:
            other = figures.BandLines(moved - (level or 0.0), kind_of(reference))
            errors = _band_errors(energies, other.energies, compared)
    return figures.bands_figure(
        key,
        title,
        figures.Path(values["kpoints"], values["cell"], values["labels"]),
        figures.BandLines(energies, "predicted" if reference is not None else "bands"),
        reference=other,
        errors=errors,
        zero=level is not None,
        data=bands_table(values, level),
    )


def _band_errors(predicted: np.ndarray, reference: np.ndarray, compared: Any) -> np.ndarray | None:
    """Mean |error| at each k-point of the occupied bands and the lowest conduction band, meV."""
    if compared is None:
        return None
    n_bands = int(np.max(compared["n_occupied"])) + int(compared.get("n_conduction", 1))
    n_bands = min(n_bands, predicted.shape[2], reference.shape[2])
    errors: np.ndarray = 1000.0 * np.abs(predicted - reference)[:, :, :n_bands].mean(axis=(0, 2))
    return errors


def _observable(name: str, title: str, node: Any) -> Iterator[Figure]:
    """The curves of an observable with an axis, and what they are made of."""
    observable = load_observable(name)
    arrays = {key: node.get_array(key) for key in node.get_arraynames()}
    if not observable.ABSCISSA or observable.IS_BANDS or not {observable.ABSCISSA, name} <= set(arrays):
        return
    level, spins = fermi_level_of(node), arrays.get(f"{name}_by_spin")
    curves = {"total": arrays[name]} if spins is None else {"up": spins[0], "down": -spins[1]}
    yield figures.curve_figure(
        f"{name}-{node.pk}",
        title,
        arrays[observable.ABSCISSA] - (level or 0.0),
        {**curves, **(parts_of(name, arrays, "element") if spins is None else {})},
        x_title="E - E_F (eV)" if level is not None else "E (eV)",
        y_title=f"{observable.title} ({observable.ARRAYS[name]})",
        error=arrays.get(f"{name}_error"),
        fermi=level is not None,
    )


def _atoms(name: str, node: HamiltonianData) -> Figure | None:
    """A picture of the structure, coloured by the error to expect where the model knows it."""
    if node.n_atoms > figures.MOST_ATOMS:
        return None
    structure = node.get_structure()
    maker = node.creator
    told = maker.outputs.output_parameters.get_dict() if maker and "output_parameters" in maker.outputs else {}
    expected = told.get("expected_mae_by_atom_eV")
    known = expected is not None and len(expected) == node.n_atoms
    title = f"{name}: expected error by atom" if known else f"{name}: structure"
    return figures.structure_figure(
        f"atoms-{node.pk}",
        title,
        atom_symbols(structure),
        [site.position for site in structure.sites],
        1000.0 * np.array(expected) if known else None,
        "expected |ΔH| (meV)",
    )


def _of_errors(errors: Mapping[str, Any], model: Any) -> Iterator[Figure]:
    if "distances" in errors:
        yield figures.distance_figure(distance_errors(errors))
    if "shell_mae_eV" in errors and isinstance(model, DeepHModelData):
        yield figures.pair_figure(pair_errors(errors, model.model_description.basis))


def _of_arrays(label: str, node: orm.ArrayData) -> Iterator[Figure]:
    """Curves of an array of any kind: all that have the length of its axis."""
    arrays = {key: np.asarray(node.get_array(key)) for key in node.get_arraynames()}
    axis = next((key for key in X_AXES if key in arrays), None)
    if axis is None or arrays[axis].ndim != 1 or len(arrays[axis]) < 2:
        return
    x = arrays.pop(axis)
    same = {key: y for key, y in arrays.items() if y.shape == x.shape and y.dtype.kind in "fi"}
    errors = {key.replace("_", " "): 1000.0 * y for key, y in same.items() if "mae" in key}
    curves = errors or {key.replace("_", " "): y for key, y in same.items() if key not in ("seconds", "learning_rate")}
    curves = {key: y for key, y in curves.items() if np.isfinite(y).any()}
    if curves:
        yield figures.curve_figure(
            f"{label}-{node.pk}",
            label.replace("__", ", "),
            x,
            curves,
            x_title=axis,
            y_title="mean |ΔH| (meV)" if errors else "value",
            logarithmic=all((y[np.isfinite(y)] > 0).all() for y in curves.values()),
        )


def _commands(process: orm.ProcessNode, outputs: Mapping[str, orm.Data], rows: list[dict[str, Any]]) -> dict[str, str]:
    """What to type next, and what it does."""
    pk, found = process.pk, {}
    found[f"verdi process status {pk}"] = "every step below"
    found[f"verdi process report {pk}"] = "what it said while it ran"
    if rows:
        found[f"aiida-deeph results {pk} --format csv"] = "the numbers of all structures"
        found[f"verdi process show {rows[0]['process']}"] = f"inputs and outputs of {rows[0]['name']}"
    for key in (name for name, entry in OBSERVABLES.items() if entry.drawn):
        node = next((row[key] for row in rows if isinstance(row.get(key), int)), None)
        if node is not None:
            found[f"aiida-deeph {key} plot {node} --output {key}.pdf"] = "a figure for a paper (png, svg, pdf)"
            found[f"aiida-deeph {key} export {node}"] = "its data"
    if "model" in outputs:
        found[f"aiida-deeph model export {outputs['model'].pk} model"] = "the model, for `deeph-engine predict`"
        found[f"aiida-deeph model export {outputs['model'].pk} --archive model.aiida"] = "with all that is behind it"
    found[f"aiida-deeph graph {pk}"] = "the provenance graph as a picture"
    found[f"aiida-deeph reproduce {pk}"] = "once more from its recorded inputs, results compared"
    return found
