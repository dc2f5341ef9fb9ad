"""Inputs of a dataset from a protocol, and what they promise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder

from aiida_deeph.codes.registry import DEFAULT_LABEL, checked_label_class, label_class
from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.engine.structures.design import DesignConfig, draw
from aiida_deeph.processes.builder import codes_of, filled_builder, job_inputs
from aiida_deeph.processes.folders import dataset_stash, folder_of, without_stash
from aiida_deeph.processes.protocol import ProtocolMixin, split_overrides
from aiida_deeph.workflows.draw import cell_name

# Cells of a design that are drawn before it is submitted.
TRIED = 32


class DatasetProtocolMixin(ProtocolMixin):
    """`get_builder_from_protocol` of the workchain that makes a dataset."""

    _protocol_file = Path(__file__).parent / "protocols" / "dataset.yaml"

    @classmethod
    def get_builder_from_protocol(
        cls,
        codes: Mapping[str, orm.AbstractCode],
        structures: Mapping[str, orm.StructureData],
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        label: str = DEFAULT_LABEL,
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
        label: str = DEFAULT_LABEL,
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
        own, parts = split_overrides(overrides, "label")
        inputs = cls.get_protocol_inputs(protocol, own, where)
        values: dict[str, Any] = {**inputs, "structures": dict(structures), "labels": dict(labels or {})}
        if extend is not None:
            values |= {"extend": extend, "extend_folder": folder_of(extend)}
        preprocess, job_options = dict(inputs["preprocess"]), {**without_stash(options), **dataset_stash(options or {})}
        if structures:
            workchain = checked_label_class(label)
            settings = workchain.protocol_for(structures.values(), protocol, parts.get("label"), f"{where}.label")
            preprocess["parameters"] = {"cutoff": settings.get("pair_cutoff"), **preprocess.get("parameters", {})}
            design = design_of(inputs.get("perturbation"))
            check_sizes(structures, design)
            if design is not None:
                try_design(design, structures)
            values["label_workchain"] = label
            values["label"] = workchain.label_inputs(
                dft,
                list(structures.values()),
                protocol,
                parts.get("label"),
                options,
                design.supercell if design else (1, 1, 1),
                elements=design.new_elements if design else (),
            )
        if extend is not None:
            known = extend.manifest.source.get("preprocess", {})
            # Members of one dataset are cut off alike; a value that the user gives is checked against the earlier one.
            given = own.get("preprocess", {}).get("parameters", {})
            same = {
                key: known[key] for key in ("cutoff", "gauge", "subtract_start") if key in known and key not in given
            }
            preprocess["parameters"] = {**preprocess.get("parameters", {}), **same}
        return {**values, "preprocess": job_inputs(engine, preprocess, job_options)}


def design_of(perturbation: Mapping[str, Any] | None) -> DesignConfig | None:
    """How cells are drawn; None if structures are labelled as they are."""
    return parse_config(DesignConfig, dict(perturbation), "perturbation") if perturbation else None


# More cells than any data set of labels so far, and larger cells than DFT labels: mistyped, not meant.
MOST_CELLS = 200_000
MOST_ATOMS = 20_000


def check_sizes(structures: Mapping[str, orm.StructureData], design: DesignConfig | None) -> None:
    """What is drawn and labelled has a size that can be meant; nothing is built to find out.

    :raises InputError: too many cells, or too many atoms in one.
    """
    if design is None:
        return
    where = "dataset.perturbation"
    if design.n > MOST_CELLS:
        raise InputError("too many cells", where=f"{where}.n", found=design.n, expected=f"at most {MOST_CELLS}")
    repetitions = math.prod(design.supercell)
    for name, structure in structures.items():
        n_atoms = repetitions * len(structure.sites)
        if n_atoms > MOST_ATOMS:
            found = f"{n_atoms} atoms in {name} x {repetitions}"
            raise InputError(
                "cell too large for a label", where=f"{where}.supercell", found=found, expected=f"at most {MOST_ATOMS}"
            )


def try_design(design: DesignConfig, parents: Mapping[str, orm.StructureData]) -> None:
    """Draw some of the cells now: what is too close or too large is known before anything is submitted.

    :raises InputError: a cell cannot be drawn.
    """
    known = [to_engine(parents[name]) for name in sorted(parents)]
    for index in range(min(design.n, TRIED) if known else 0):
        draw(known[index % len(known)], design, index)


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


def validate_perturbation(node: orm.Dict | None, _: Any) -> str | None:
    """Message if the settings are wrong."""
    try:
        design_of(None if node is None else node.get_dict())
    except DeepHError as error:
        return str(error)
    return None


def validate_positive(node: orm.Int | None, _: Any) -> str | None:
    """Message if a count is below one."""
    return f"found {node.value}, expected at least 1" if node is not None and node.value < 1 else None


def validate_share(node: orm.Float | None, _: Any) -> str | None:
    """Message if a share is not within [0, 1)."""
    return f"found {node.value}, expected 0 <= share < 1" if node is not None and not 0 <= node.value < 1 else None


def cell_names(structures: Mapping[str, orm.StructureData], perturbation: orm.Dict | None) -> list[str]:
    """Names of the cells that are labelled, in their order."""
    return sorted(structures) if perturbation is None else [cell_name(n) for n in range(perturbation["n"])]


def validate_dataset(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Message if the inputs do not fit together."""
    structures, labels = inputs.get("structures", {}), inputs.get("labels", {})
    if not structures and not labels:
        return "no `structures` and no `labels`: give at least one"
    if "perturbation" in inputs and not structures:
        return "`perturbation` without `structures` to draw cells around"
    if structures and "label_workchain" not in inputs:
        return "`structures` without the `label_workchain` that labels them"
    try:
        check_sizes(structures, design_of(inputs["perturbation"].get_dict()) if "perturbation" in inputs else None)
    except DeepHError as error:
        return str(error)
    if ("extend" in inputs) != ("extend_folder" in inputs):
        return "`extend` and `extend_folder` belong together: give both, or none"
    twice = set(cell_names(structures, inputs.get("perturbation"))) & set(labels)
    if twice:
        return f"a name stands in both structures and labels: {', '.join(sorted(twice))}"
    if "extend" in inputs:
        twice = {member.name for member in inputs["extend"].members} & set(labels)
        if twice:
            return f"a name stands in both labels and the dataset that is extended: {', '.join(sorted(twice))}"
    if "label" not in inputs or "label_workchain" not in inputs or "code" not in inputs["label"]:
        return None
    workchain = label_class(inputs["label_workchain"].value)
    common = {name: value for name, value in inputs["label"].items() if name != "metadata"}
    checked: set[frozenset[str]] = set()
    for name, structure in structures.items():
        # The job of one structure of each set of elements is made; all others differ by their positions.
        elements = frozenset(structure.get_symbols_set())
        check = workchain._validate if elements in checked else workchain.check_inputs
        checked.add(elements)
        message = check({**common, "structure": structure}, None)
        if message:
            return f"structures.{name}: {message}"
    return None
