"""The model card: all that a model and the graph behind it tell of its data, training, errors, cost and origin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiida import orm
from aiida.common.exceptions import NotExistent, NotExistentAttributeError

from aiida_deeph.engine.dft.base import records
from aiida_deeph.engine.nn.config import NETWORKS, network_config

# Besides those of networks and DFT codes, which stand with these.
CITATIONS = {
    "deeph": "DeepH: Li et al., Nat. Comput. Sci. 2, 367 (2022), doi:10.1038/s43588-022-00265-6",
    "aiida": "AiiDA: Huber et al., Sci. Data 7, 300 (2020), doi:10.1038/s41597-020-00638-4",
}


def model_card(model: Any) -> dict[str, Any]:
    """Sections of the card; those about which nothing is known (of an imported model, say) are short.

    :param model: a DeepHModelData.
    """
    description = model.model_description
    training = description.training
    labels = description.data.get("labels", {})
    settings = training.get("config", {})
    codes = description.data.get("codes", [])
    names = [str(code) for code in (codes if isinstance(codes, list) else [codes])]
    if isinstance(labels.get("code"), str) and labels["code"] not in names:
        names.append(labels["code"])
    card = {
        "model": {
            "node": f"{model.uuid} ({model.pk})",
            "label": model.label or None,
            "created": model.ctime.isoformat(timespec="seconds"),
            "origin": description.origin or "own training",
            "weights sha256": description.weights_sha256,
        },
        "data": {
            "codes": ", ".join(names) or None,
            "code version": labels.get("version"),
            "settings": labels.get("settings"),
            **_of_labels(model),
            "cells": description.data.get("n_members"),
            "failed": _failed(model),
            "basis (l of the shells)": {symbol: list(ls) for symbol, ls in description.basis.items()},
            "pair cutoffs (Angstrom)": description.pair_cutoffs,
            "bands moved by the cutoff (meV)": _milli(description.data.get("band_error_of_cutoff_eV")),
            "spin": description.spin.value,
            "gauge": description.gauge,
        },
        "network": {
            "name": description.network,
            "parameters": training.get("parameters"),
            **settings.get("network", {}),
        },
        "training": {
            **{key: training.get(key) for key in ("epochs", "best_epoch")},
            **{key: settings.get(key) for key in ("batch_size", "learning_rate", "precision", "seed")},
            **{f"{part} cells": len(names) for part, names in training.get("split", {}).items()},
            "history": _node_of(model, "history"),
        },
        "errors": {**description.metrics, **_test_errors(model)},
        "cost": {
            "training (s)": training.get("seconds"),
            "device": training.get("device"),
            "processes": training.get("world_size"),
            "DFT (s)": _dft_seconds(model),
        },
        "environment": {
            "torch": training.get("torch"),
            "aiida-deeph": description.data.get("version"),
            **_versions(model),
        },
        "cite": {str(n): text for n, text in enumerate(citations([description.network, "deeph", "aiida", *names]), 1)},
    }
    return {
        title: {key: value for key, value in section.items() if value not in (None, {}, [])}
        for title, section in card.items()
    }


def citations(names: list[str]) -> list[str]:
    """What a method or DFT code asks to be cited by; nothing of those that are not known."""
    known = {name: network_config(name).citation for name in NETWORKS}
    known |= {**CITATIONS, **{name: record.citation for name, record in records().items()}}
    return [known[name] for name in names if known.get(name)]


def preprocess_of(model: Any) -> orm.CalcJobNode | None:
    """The job that made the dataset of a model; None if the graph does not hold it."""
    try:
        return model.creator.inputs.dataset.creator
    except (AttributeError, NotExistent, NotExistentAttributeError):
        return None


def dft_runs(model: Any) -> Iterator[orm.CalcJobNode]:
    """The DFT jobs whose output the training read."""
    preprocess = preprocess_of(model)
    if preprocess is None:
        return
    for link in preprocess.base.links.get_incoming(node_class=orm.RemoteData).all():
        if link.link_label.startswith("labels__") and link.node.creator is not None:
            yield link.node.creator


def workflows_behind(model: Any) -> list[orm.WorkflowNode]:
    """The training's and the dataset's workchain."""
    jobs = [model.creator, preprocess_of(model)]
    return [job.caller for job in jobs if job is not None and job.caller is not None]


def _milli(value: float | None) -> float | None:
    return None if value is None else round(1000 * value, 3)


def _of_labels(model: Any) -> dict[str, Any]:
    """Code, k-points and pseudopotentials of the DFT runs: each distinct value once."""
    found: dict[str, set[str]] = {"program": set(), "k-points": set(), "pseudopotentials": set()}
    for run in dft_runs(model):
        for link in run.base.links.get_incoming().all():
            node, name = link.node, link.link_label
            if isinstance(node, orm.AbstractCode):
                found["program"].add(node.full_label)
            elif isinstance(node, orm.KpointsData) and name == "kpoints" and "mesh" in node.base.attributes.all:
                found["k-points"].add(" x ".join(map(str, node.get_kpoints_mesh()[0])))
            elif name.startswith(("pseudos", "file__pseudo", "basissets")):
                found["pseudopotentials"].add(node.label or node.base.attributes.get("filename", str(node.pk)))
    return {key: ", ".join(sorted(values)) for key, values in found.items() if values}


def _failed(model: Any) -> dict[str, str]:
    """Members that failed or were rejected, with the reason."""
    preprocess = preprocess_of(model)
    if preprocess is None:
        return {}
    failed: dict[str, str] = {}
    if preprocess.caller is not None and "output_parameters" in preprocess.caller.outputs:
        failed.update(preprocess.caller.outputs.output_parameters.get("failed", {}))
    failed.update({entry.name: entry.reason for entry in model.creator.inputs.dataset.manifest.rejected})
    return failed


def _test_errors(model: Any) -> dict[str, float]:
    """Errors on cells that the training never saw, from the jobs that tested the model."""
    for link in model.base.links.get_outgoing(node_class=orm.CalcJobNode).all():
        job = link.node
        if job.process_type == "aiida.calculations:deeph.evaluate" and job.is_finished_ok:
            values = job.outputs.output_parameters.get_dict()
            return {f"test_{key}": values[key] for key in ("mae_eV", "rmse_eV", "max_eV") if key in values}
    return {}


def _node_of(model: Any, name: str) -> str | None:
    outputs = () if model.creator is None else model.creator.outputs
    return f"{outputs[name].uuid} ({outputs[name].pk})" if name in outputs else None


def _dft_seconds(model: Any) -> float | None:
    seconds = [
        run.outputs.output_parameters.get("seconds")
        for run in dft_runs(model)
        if "output_parameters" in run.outputs and run.outputs.output_parameters.get("seconds") is not None
    ]
    return round(sum(seconds), 1) if seconds else None


def _versions(model: Any) -> dict[str, str]:
    if model.creator is None:
        return {}
    versions = model.creator.base.attributes.get("version", {})
    return {f"AiiDA {name}": str(version) for name, version in versions.items() if isinstance(version, str)}
