"""Inputs of active learning: from a protocol, and what is refused before anything is labelled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder

from aiida_deeph.codes.registry import DEFAULT_LABEL
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.nn.config import DEFAULT, network_config
from aiida_deeph.processes.builder import codes_of, filled_builder, job_inputs
from aiida_deeph.processes.folders import without_stash
from aiida_deeph.processes.protocol import ProtocolMixin, merge, split_overrides
from aiida_deeph.workflows.dataset import DatasetWorkChain
from aiida_deeph.workflows.dataset_inputs import elements_of, validate_dataset
from aiida_deeph.workflows.train import TrainWorkChain


def validate_active(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Message if the inputs do not fit together."""
    candidates = inputs.get("candidates", {})
    if not candidates:
        return "an empty pool: give at least one of `candidates`"
    if any(name not in inputs for name in ("first", "budget", "dataset", "train")):
        return None
    known = elements_of(candidates)
    for name, structure in inputs.get("targets", {}).items():
        unknown = sorted(structure.get_symbols_set() - known)
        if unknown:
            return f"targets.{name} holds {', '.join(unknown)}, which no candidate does: {', '.join(sorted(known))}"
    first, budget = inputs["first"].value, inputs["budget"].value
    if budget < first:
        return f"the budget of {budget} labels is smaller than the first batch of {first}: raise it, or lower `first`"
    parameters = inputs["train"]["train"].get("parameters")
    network = (parameters.get_dict() if parameters is not None else {}).get("network", {}).get("name", DEFAULT)
    if not network_config(network).has_posterior:
        return f"a model of the network {network} has no posterior to choose by: take {{name: closed-form}}"
    return validate_dataset({**inputs["dataset"], "structures": candidates}, None)


class ActiveProtocolMixin(ProtocolMixin):
    """`get_builder_from_protocol` of active learning."""

    _protocol_file = Path(__file__).parent / "protocols" / "active.yaml"

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, orm.AbstractCode],
        candidates: Mapping[str, orm.StructureData],
        budget: int,
        target: float | None = None,
        targets: Mapping[str, orm.StructureData] | None = None,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        label: str = DEFAULT_LABEL,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol.

        :param codes: `engine` (deeph-engine) and `dft`; one code that is both may stand for both.
        :param candidates: structures that may be labelled.
        :param budget: most labels.
        :param target: expected mean |error| of H at which it ends, eV; None goes on to the budget.
        :param targets: structures that shall be predicted well; without any, the candidates.
        :param overrides: mirror the ports: `batch`, `select.parameters.rule`, `dataset.label.parameters`, ...
        :param label: entry point of the labelling workchain.
        :raises InputError: anything that cannot run.
        """
        if not candidates:
            raise InputError("an empty pool", where="candidates", found="nothing", expected="at least one structure")
        engine, _ = codes_of(codes)
        own, parts = split_overrides(overrides, "dataset", "train")
        inputs = cls.get_protocol_inputs(protocol, own)
        steps = {name: merge(inputs.get(name, {}), parts.get(name, {})) for name in ("dataset", "train")}
        dataset = DatasetWorkChain.dataset_inputs(
            codes, candidates, protocol, steps["dataset"], options, label, "overrides.dataset"
        )
        options = without_stash(options)
        values = {
            **inputs,
            "candidates": dict(candidates),
            "targets": dict(targets or {}),
            "budget": budget,
            "target": target,
            "dataset": {name: value for name, value in dataset.items() if name not in ("structures", "labels")},
            "train": TrainWorkChain.train_inputs(engine, protocol, steps["train"], options, "overrides.train"),
            "select": job_inputs(engine, inputs["select"], options),
        }
        return filled_builder(cls, values)
