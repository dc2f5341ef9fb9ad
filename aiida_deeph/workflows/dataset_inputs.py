"""Inputs of a dataset from a protocol, and what they promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.structures.design import DesignConfig
from aiida_deeph.workflows.builder import codes_of, filled_builder, job_inputs
from aiida_deeph.workflows.keep import dataset_stash, folder_of, without_stash
from aiida_deeph.workflows.label.registry import checked_label_class
from aiida_deeph.workflows.protocol import ProtocolMixin


class DatasetProtocolMixin(ProtocolMixin):
    """`get_builder_from_protocol` of the workchain that makes a dataset."""

    _protocol = "dataset"

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, orm.AbstractCode],
        structures: Mapping[str, orm.StructureData],
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        label: str = "deeph.label.pyscf",
        labels: Mapping[str, orm.Data] | None = None,
        extend: orm.Data | None = None,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol.

        :param codes: `engine` (deeph-engine) and `dft`; one code that is both may stand for both.
        :param structures: structures to label, or parents if the overrides hold `perturbation`.
        :param label: entry point of the labelling workchain.
        :param labels: HamiltonianData of structures that are labelled already; `structures` may be empty then.
        :param extend: DatasetData whose members join as they are; structures that it holds are not labelled again.
        :raises InputError: anything that cannot run.
        """
        values = cls.dataset_inputs(
            codes, structures, protocol, overrides, options, label, labels=labels, extend=extend
        )
        return filled_builder(cls, values)

    @classmethod
    def dataset_inputs(
        cls,
        codes: Mapping[str, orm.AbstractCode],
        structures: Mapping[str, orm.StructureData],
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        label: str = "deeph.label.pyscf",
        where: str = "overrides",
        labels: Mapping[str, orm.Data] | None = None,
        extend: orm.Data | None = None,
    ) -> dict[str, Any]:
        """Inputs of a protocol as nested plain values and nodes.

        `options.stash` holds for the raw files of the labels and for the dataset itself.
        """
        engine, dft = codes_of(codes)
        if not structures and not labels:
            raise InputError("no structures", where="structures", expected="at least one, or labels")
        overrides = overrides or {}
        inputs = cls.get_protocol_inputs(protocol, {k: v for k, v in overrides.items() if k != "label"}, where)
        values: dict[str, Any] = {**inputs, "structures": dict(structures), "labels": dict(labels or {})}
        if extend is not None:
            values |= {"extend": extend, "extend_folder": folder_of(extend)}
        preprocess, job_options = dict(inputs["preprocess"]), {**without_stash(options), **dataset_stash(options or {})}
        if structures:
            workchain = checked_label_class(label)
            settings = workchain.get_protocol_inputs(protocol, overrides.get("label"), f"{where}.label")
            preprocess["parameters"] = {"cutoff": settings.get("pair_cutoff"), **preprocess.get("parameters", {})}
            design = design_of(inputs.get("perturbation"))
            values["label_workchain"] = label
            values["label"] = workchain.label_inputs(
                dft,
                list(structures.values()),
                protocol,
                overrides.get("label"),
                options,
                design.supercell if design else (1, 1, 1),
                elements=design.new_elements if design else (),
            )
        if extend is not None:
            known = extend.manifest.source.get("preprocess", {})
            # Members of one dataset are cut off alike; a value that the user gives is checked against the earlier one.
            given = overrides.get("preprocess", {}).get("parameters", {})
            same = {key: known[key] for key in ("cutoff", "gauge") if key in known and key not in given}
            preprocess["parameters"] = {**preprocess.get("parameters", {}), **same}
        return {**values, "preprocess": job_inputs(engine, preprocess, job_options)}


def design_of(perturbation: Mapping[str, Any] | None) -> DesignConfig | None:
    """How cells are drawn; None if structures are labelled as they are."""
    return parse_config(DesignConfig, dict(perturbation), "perturbation") if perturbation else None


def elements_of(
    structures: Mapping[str, orm.StructureData],
    perturbation: Mapping[str, Any] | None = None,
    labels: Mapping[str, orm.Data] | None = None,
    extend: orm.Data | None = None,
) -> set[str]:
    """Elements of a dataset: of the cells drawn around structures, or of the structures, of labels and of a dataset."""
    design = design_of(perturbation)
    known = {symbol for structure in structures.values() for symbol in structure.get_symbols_set()}
    known |= {symbol for label in (labels or {}).values() for symbol in label.elements}
    known |= set(extend.elements) if extend is not None else set()
    return known | (design.new_elements if design else set())


def n_members(dataset: Mapping[str, Any]) -> int:
    """Members that a dataset has if no label fails, from its inputs as nodes or plain values.

    Structures that the extended dataset holds already count twice: which they are is seen when it runs.
    """
    perturbation = dataset.get("perturbation")
    n_cells = int(perturbation["n"]) if perturbation else len(dataset.get("structures", {}))
    n_earlier = dataset["extend"].n_members if dataset.get("extend") is not None else 0
    return n_cells + len(dataset.get("labels", {})) + n_earlier
