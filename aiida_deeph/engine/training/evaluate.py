"""`deeph-engine evaluate`: predictions of a model against the labels of a dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aiida_deeph.engine.dft.start import is_subtracted, settings_of, with_start
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.channels import merged, separated
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.ranges import outside_ranges
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.engine.io.dataset import DatasetManifest, Member, load_member, read_manifest
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.storage import load_model
from aiida_deeph.engine.observables.compare import compare_hamiltonians
from aiida_deeph.engine.observables.orbital_errors import mean_errors, orbital_errors
from aiida_deeph.engine.system import track
from aiida_deeph.engine.system_torch import find_device
from aiida_deeph.engine.training.config import EvaluateConfig
from aiida_deeph.engine.training.data import GraphSettings, labelled_graph
from aiida_deeph.engine.training.error_tables import ErrorTables
from aiida_deeph.engine.training.report import write_json_atomic


def chosen_members(config: EvaluateConfig, manifest: DatasetManifest, description: ModelDescription) -> list[Member]:
    """Members to evaluate: all of the dataset, or a part of the split that the model was trained with.

    :raises InputError: the model has no recorded split, or the dataset lacks members of it.
    """
    if config.members == "all":
        return list(manifest.members)
    recorded = description.training.get("split", {}).get(config.members)
    if recorded is None:
        raise InputError(
            "model without a recorded split",
            where=config.model,
            expected="a model trained here",
            remedy='set members to "all"',
        )
    known = {member.uuid: member for member in manifest.members}
    missing = [entry["name"] for entry in recorded if entry["uuid"] not in known]
    if missing:
        raise InputError(
            f"dataset lacks {len(missing)} {config.members} member(s) of the model",
            where=config.dataset,
            found=f"no {', '.join(missing[:5])}",
            remedy='give the dataset that the model was trained on, or set members to "all"',
        )
    if not recorded:
        raise InputError(
            f"the model's split has no {config.members} member", where=config.model, remedy="choose other members"
        )
    return [known[entry["uuid"]] for entry in recorded]


def bands_of_member(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """What the table of bands says about one member: all energies in eV, velocities in eV Angstrom."""
    bands, velocities, theory = (comparison[name] for name in ("bands", "velocities", "perturbation"))
    return {
        "mean_eV": bands["mean"],
        "max_eV": bands["max"],
        **{f"{name}_eV": bands[name] for name in ("gap", "reference_gap", "gap_difference") if name in bands},
        "gauge_shift_eV": comparison["gauge_shift"],
        "velocity_mean_eV_A": velocities["mean"],
        "velocity_max_eV_A": velocities["max"],
        "expected_from_H_eV": theory["expected_mean"],
        "unexplained_eV": theory["unexplained_mean"],
        "explained": theory["explained"],
        **{name: comparison[name] for name in ("n_kpoints", "n_states", "smallest_overlap_eigenvalue")},
    }


def bands_summary(bands: Mapping[str, Mapping[str, Any]]) -> dict[str, float | int | None]:
    """Mean and largest deviation over the members, how many of them the errors of H do not explain, and how many could
    not be compared."""
    done = [entry for entry in bands.values() if "error" not in entry]
    return {
        "bands_mean_eV": sum(entry["mean_eV"] for entry in done) / len(done) if done else None,
        "bands_max_eV": max((entry["max_eV"] for entry in done), default=None),
        "n_unexplained": sum(not entry["explained"] for entry in done),
        "n_bands_failed": len(bands) - len(done),
    }


def _as_labelled(predicted: BlockSparseMatrix, data: RealSpaceHamiltonian) -> BlockSparseMatrix:
    """A prediction in the spin mode of its label."""
    return merged(predicted, len(data.structure)) if data.spin is SpinMode.COLLINEAR else predicted


def _or_error(judge: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What is judged of one member, or why it cannot be: the others, and the errors of H, are worth having."""
    try:
        return judge(*arguments)
    except DeepHError as error:
        return {"error": str(error)}


def _band_errors(*arguments: Any) -> dict[str, Any]:
    """See `compare_hamiltonians` and `bands_of_member`."""
    return bands_of_member(compare_hamiltonians(*arguments))


@torch.no_grad()
def evaluate(config: EvaluateConfig, *, show_progress: bool | None = None) -> dict[str, Any]:
    """Predict the members and write the errors (`config.output`), energies in eV.

    :param show_progress: None shows a bar when stderr is a terminal.
    :return: the content of the file.
    :raises InputError: model and dataset do not fit.
    """
    start = time.monotonic()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = find_device(config.device)
    dataset = Path(config.dataset)
    manifest = read_manifest(dataset)
    network, description = load_model(Path(config.model), dtype=torch.float32, device=device)
    description.require_elements(tuple(manifest.basis))
    for field, found, expected in (
        ("spin", manifest.spin.value, description.spin.value),
        ("gauge", manifest.gauge, description.gauge),
    ):
        if found != expected:
            raise InputError(
                "dataset does not fit the model", where=f"{dataset}, {field}", found=found, expected=expected
            )
    members = chosen_members(config, manifest, description)
    settings = GraphSettings.of_network(network, "float32")
    tables = ErrorTables(description.network_basis, max(description.pair_cutoffs.values(), default=0.0))
    network.eval()
    bands: dict[str, dict[str, Any]] = {}
    molecules: dict[str, dict[str, Any]] = {}
    outside: dict[str, dict[str, Any]] = {}
    for member in track(members, "evaluation", show=show_progress):
        data = load_member(dataset, member)
        learnt = separated(data) if data.spin is SpinMode.COLLINEAR else data
        graph = labelled_graph(learnt, settings).to(device)
        assert learnt.hamiltonian is not None  # labelled_graph has refused such a member
        label = learnt.hamiltonian.sorted()
        predicted = label.with_entries(network(graph).cpu().numpy().astype(label.entries.dtype))
        if not config.strict:
            predicted = predicted.hermitian_part()
        tables.add(member.name, learnt.structure, predicted, label)
        if "distances_A" in description.training:
            outside[member.name] = outside_ranges(
                description.training["distances_A"], learnt.structure, label.atom_pairs
            )
        if any(data.structure.pbc) and config.bands is None:
            continue
        found, reference = (
            replace(data, hamiltonian=_as_labelled(matrix, data)) for matrix in (predicted.hermitian_part(), label)
        )
        if is_subtracted(manifest.source):
            found, reference = (with_start(one, settings_of(manifest.source)) for one in (found, reference))
        if not any(data.structure.pbc):
            molecules[member.name] = _or_error(orbital_errors, found, reference)
        if config.bands is not None:
            names = (f"prediction of {member.name}", member.name)
            bands[member.name] = _or_error(_band_errors, found, reference, config.bands, names)
    report = {
        **tables.as_json(),
        **({"bands": bands, **bands_summary(bands)} if bands else {}),
        **({"molecules": molecules, "mean_of_molecules": mean_errors(molecules)} if molecules else {}),
        "outside_trained_distances": {name: found for name, found in outside.items() if found["n_pairs"]},
        "members_of": config.members,
        "n_members": len(members),
        "strict": config.strict,
        "seconds": time.monotonic() - start,
        "device": str(device),
    }
    write_json_atomic(Path(config.output), report)
    return report
