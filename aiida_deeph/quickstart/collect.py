"""From the finished process to the results of the report: nodes are read, nothing is computed anew."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from aiida import orm

from aiida_deeph.quickstart.results import BandsComparison, ChainSpectrum, Results
from aiida_deeph.report.error_tables import distance_errors, pair_errors
from aiida_deeph.report.graph_svg import draw
from aiida_deeph.report.provenance import condensed

CHAIN, VALIDATION = "soliton", "unseen"
PATH_NAMES = {"G": "\N{GREEK CAPITAL LETTER GAMMA}"}


def formula(structure: orm.StructureData) -> str:
    """`C8H8`."""
    return str(structure.get_formula())


def bands_comparison(process: orm.WorkChainNode, name: str) -> BandsComparison:
    """DFT and predicted bands of a validation cell, shifted as the comparison aligned them."""
    reference, predicted = process.outputs.dft_bands[name], process.outputs.bands[name]
    compared = process.outputs.comparison[name].get_dict()
    points = reference.get_kpoints(cartesian=True) if "cell" in reference.base.attributes.all else None
    if points is None:
        points = reference.get_kpoints()
    distances = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    ticks = [(float(distances[index]), PATH_NAMES.get(label, label)) for index, label in reference.labels or ()]
    e_reference, e_predicted = reference.get_bands(), predicted.get_bands()
    n_bands = min(e_reference.shape[-1], e_predicted.shape[-1])
    return BandsComparison(
        distances,
        ticks,
        e_reference[:, :n_bands],
        e_predicted[:, :n_bands] + compared.get("shift", 0.0),
        int(np.max(compared["n_occupied"])),
        formula(process.inputs.validation[name]),
    )


def chain_spectrum(process: orm.WorkChainNode, name: str) -> ChainSpectrum:
    """Levels at Gamma and DOS of the long chain."""
    dos, bands = process.outputs.dos[name], process.outputs.bands[name]
    structure = process.inputs.targets[name]
    electrons = process.outputs.hamiltonian[name].base.attributes.get("n_electrons", None)
    if electrons is None:
        electrons = bands.creator.outputs.output_parameters["n_electrons"]
    return ChainSpectrum(
        dos.get_array("energies"),
        dos.get_array("dos"),
        np.sort(bands.get_bands()[0]),
        float(electrons),
        sum(symbol == "C" for symbol in (structure.get_kind(n).symbol for n in structure.get_site_kindnames())),
        formula(structure),
    )


def wall_times(process: orm.WorkChainNode) -> dict[str, float]:
    """Seconds of each step below the process: from the creation of its first node to the last change of its last."""
    groups: dict[str, list[orm.ProcessNode]] = {}
    targets = [node for node in process.called if node.process_label == "TargetWorkChain"]
    steps = [node for node in process.called if node not in targets]
    for node in steps + [child for target in targets for child in target.called]:
        if isinstance(node, orm.WorkflowNode):
            # Labels are made for the eye: `1 dataset`.
            step = re.sub(r"^\d+\s+", "", node.label).split(" ")[0] or node.process_label
            groups.setdefault(step, []).append(node)
    times = {
        step: (max(n.mtime for n in nodes) - min(n.ctime for n in nodes)).total_seconds()
        for step, nodes in groups.items()
    }
    return {step: round(seconds, 1) for step, seconds in times.items()}


def collect(process: orm.WorkChainNode, times: Mapping[str, float], commands: Sequence[str]) -> Results:
    """Everything of the report.

    :param process: a finished FullWorkChain of the quickstart.
    :param times: seconds of the steps outside the process; `total` closes the table.
    :param commands: what the user may type next.
    """
    parameters = process.outputs.output_parameters.get_dict()
    spectrum = chain_spectrum(process, CHAIN)
    below, above = spectrum.gap
    sizes = [len(node.sites) for node in process.inputs.dataset.structures.values()]
    steps = {**{k: v for k, v in times.items() if k != "total"}, **wall_times(process)}
    chain = process.inputs.targets[CHAIN]
    summary: dict[str, Any] = {
        "n_labels": parameters["n_labels"],
        "n_train": parameters["n_train"],
        "n_validation": parameters["n_validation"],
        "n_test": parameters["n_test"],
        "n_atoms_labels": [min(sizes), max(sizes)],
        "epochs": parameters.get("epochs"),
        "test_mae_meV": round(parameters["test_mae_meV"], 4),
        "test_max_meV": round(parameters["test_max_meV"], 3),
        "band_mae_meV": round(parameters["band_mae_meV"], 3),
        "band_max_meV": round(parameters["band_max_meV"], 3),
        "validation_structure": formula(process.inputs.validation[VALIDATION]),
        "n_atoms_predicted": len(chain.sites),
        "predicted_structure": formula(chain),
        "midgap_above_valence_eV": round(spectrum.midgap - below, 4),
        "midgap_below_conduction_eV": round(above - spectrum.midgap, 4),
        "wall_s": {**steps, "total": round(times["total"], 1)},
        "aiida_process_uuid": process.uuid,
    }
    return Results(
        summary=summary,
        distance_errors=distance_errors(process.outputs.errors.get_dict()),
        pair_errors=pair_errors(process.outputs.errors.get_dict(), process.outputs.model.model_description.basis),
        bands=bands_comparison(process, VALIDATION),
        spectrum=spectrum,
        provenance_svg=draw(*condensed(process)),
        commands=tuple(commands),
    )
