"""Inputs of the whole pipeline: from a protocol, and what is refused before anything is submitted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder

from aiida_deeph.codes.label import LabelWorkChain
from aiida_deeph.codes.registry import DEFAULT_LABEL, checked_label_class
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.split import check_split
from aiida_deeph.processes.builder import codes_of, filled_builder
from aiida_deeph.processes.folders import without_stash
from aiida_deeph.processes.protocol import ProtocolMixin, split_overrides
from aiida_deeph.workflows.dataset import DatasetWorkChain
from aiida_deeph.workflows.dataset_inputs import elements_of, n_members
from aiida_deeph.workflows.target import step_inputs
from aiida_deeph.workflows.target_pool import validate_targets
from aiida_deeph.workflows.train import TrainWorkChain


def validate_full(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Message if the inputs do not fit together."""
    if "dataset" not in inputs or "train" not in inputs:
        return None
    dataset = inputs["dataset"]
    design = dataset["perturbation"].get_dict() if "perturbation" in dataset else None
    known = elements_of(dataset.get("structures", {}), design, dataset.get("labels"), dataset.get("extend"))
    message = validate_targets(inputs, known, "label_workchain" in dataset)
    if message is not None:
        return message
    parameters = (
        inputs["train"]["train"]["parameters"].get_dict() if "parameters" in inputs["train"].get("train", {}) else {}
    )
    return check_split(n_members(dataset), parameters.get("split", {}))


class FullProtocolMixin(ProtocolMixin):
    """`get_builder_from_protocol` of the workchain that does everything."""

    _protocol_file = Path(__file__).parent / "protocols" / "full.yaml"

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, orm.AbstractCode],
        structures: Mapping[str, orm.StructureData],
        targets: Mapping[str, orm.StructureData] | None = None,
        validation: Mapping[str, orm.StructureData] | None = None,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        label: str = DEFAULT_LABEL,
        labels: Mapping[str, orm.Data] | None = None,
        reference_bands: Mapping[str, orm.BandsData] | None = None,
        basis: str | dict[str, str] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        extend: orm.Data | None = None,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol.

        :param codes: `engine` (deeph-engine) and `dft`; one code that is both may stand for both.
        :param structures: structures to label, or parents if the overrides hold `dataset.perturbation`.
        :param targets: large structures.
        :param validation: structures on which bands are compared with DFT.
        :param overrides: mirror the ports: `dataset.label.parameters`, `train.train.parameters`, `bands.kpath`, ...
        :param label: entry point of the labelling workchain.
        :param labels: HamiltonianData of structures that are labelled already; `structures` may be empty then.
        :param reference_bands: DFT bands of validation structures that are known already.
        :param basis: of the overlaps, in the words of `deeph-engine overlap`, if nothing is labelled here.
        :param settings: what a target or validation structure has otherwise than the rest: see TargetSettings.
        :param extend: DatasetData whose members join as they are; structures that it holds are not labelled again.
        :raises InputError: anything that cannot run.
        """
        engine, _ = codes_of(codes)
        own, parts = split_overrides(overrides, "dataset", "train", "predict", "bands")
        inputs = cls.get_protocol_inputs(protocol, own)
        dataset = DatasetWorkChain.dataset_inputs(
            codes, structures, protocol, parts.get("dataset"), options, label, "overrides.dataset", labels, extend
        )
        options = without_stash(options)
        if basis is None and structures:
            workchain: type[LabelWorkChain] = checked_label_class(label)
            symbols = elements_of(structures, dataset.get("perturbation"), labels, extend)
            basis = workchain.overlap_basis(dataset["label"]["parameters"], symbols)
        train = TrainWorkChain.train_inputs(engine, protocol, parts.get("train"), options, "overrides.train")
        message = check_split(n_members(dataset), train["train"].get("parameters", {}).get("split", {}))
        if message:
            raise InputError(message)
        values = {
            **inputs,
            **step_inputs(engine, protocol, parts, options, basis),
            "dataset": dataset,
            "train": train,
            "targets": dict(targets or {}),
            "validation": dict(validation or {}),
            "reference_bands": dict(reference_bands or {}),
            "settings": {name: orm.Dict(dict(values)) for name, values in (settings or {}).items()},
        }
        return filled_builder(cls, values)
