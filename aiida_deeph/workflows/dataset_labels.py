"""The labels of a dataset: cells drawn, labelled a bounded number at a time, failures recovered from or named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
from aiida import orm

from aiida_deeph.codes.label import LabelWorkChain
from aiida_deeph.codes.registry import label_class
from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.io.dataset import DatasetManifest, member_uuid
from aiida_deeph.processes.folders import Keep, folders_of_children, kept_options
from aiida_deeph.processes.pool import PoolMixin, at_most
from aiida_deeph.processes.resumable import reason_of
from aiida_deeph.workflows.dataset_inputs import cell_names
from aiida_deeph.workflows.draw import perturb_structures

# Cells that one calcfunction makes: short enough not to keep the other processes of a daemon worker waiting.
BATCH = 50
# Labels of the calls of a first job, of one that follows it, and of the workchain that recovers from a failure: what a
# later one leaves is the label.
CALLS = LABEL, NEXT, RECOVERY = "label_", "next_", "recover_"
# Slots of the daemon that a label takes: its workchain and its job.
SLOTS_PER_LABEL = 2


def batch_name(first: int) -> str:
    """Name of the call that draws the cells from a number on."""
    return f"perturb_{first:04d}"


class DatasetLabelsMixin(PoolMixin):
    """The steps of a dataset's workchain from its structures to their raw output.

    The jobs of a label are submitted as they are; only where one fails, the workchain of the code recovers from it. A
    member is called as its cell, unless the dataset that is extended has another one of that name.
    """

    def has_perturbation(self) -> bool:
        """Whether cells are drawn around the structures."""
        return "perturbation" in self.inputs

    def cells_missing(self) -> bool:
        """Whether more cells are to be drawn."""
        return self.ctx.n_drawn < self.inputs.perturbation["n"]

    def perturb(self) -> None:
        """Draw the next batch of cells."""
        first = self.ctx.n_drawn
        self.call_once(
            perturb_structures,
            batch_name(first),
            settings=self.inputs.perturbation,
            first=orm.Int(first),
            last=orm.Int(first + BATCH),
            **self.inputs.structures,
        )
        self.ctx.n_drawn = min(first + BATCH, self.inputs.perturbation["n"])

    # What the steps read at every label: looked up once in the life of this process, for each look at a node of the
    # database costs as much as a step of its own.

    @cached_property
    def cells(self) -> list[str]:
        """Names of all cells, in their order."""
        return cell_names(self.inputs.get("structures", {}), self.inputs.get("perturbation"))

    @cached_property
    def members(self) -> dict[str, str]:
        """Member to label -> its cell."""
        if "extend" not in self.inputs:
            return {cell: cell for cell in self.cells}
        structures = {cell: self.structure(cell) for cell in self.cells}
        return new_cells(structures, self.inputs.extend.manifest, set(self.inputs.get("labels", {})))

    @cached_property
    def drawn(self) -> dict[str, int]:
        """Cell -> pk of its structure; all cells have been drawn when it is asked for."""
        return drawn_cells(self.node)

    @cached_property
    def limits(self) -> tuple[int, int]:
        """Labels in flight, and labels that may fail."""
        in_flight = at_most(self.inputs.max_concurrent.value, SLOTS_PER_LABEL)
        return in_flight, math.floor(self.inputs.max_failed_fraction.value * len(self.members) + 1e-9)

    @cached_property
    def common(self) -> tuple[type[LabelWorkChain], dict[str, Any]]:
        """The workchain that labels, and its inputs without the structure."""
        workchain = label_class(self.inputs.label_workchain.value)
        inputs = dict(self.exposed_inputs(LabelWorkChain, namespace="label"))
        options = kept_options(inputs.get("options", {}), workchain.record.raw_files, Keep(self.inputs.keep.value))
        return workchain, {**inputs, "options": options}

    def structure(self, cell: str) -> orm.StructureData:
        """A structure to label, by its name before the dataset that is extended had a say."""
        drawn = "perturbation" in self.inputs
        structure: orm.StructureData = orm.load_node(self.drawn[cell]) if drawn else self.inputs.structures[cell]
        return structure

    def pool_members(self) -> list[str]:
        """Names of the members to label."""
        return list(self.members)

    def pool_size(self) -> int:
        """Labels in flight."""
        return self.limits[0]

    def submit_member(self, name: str) -> orm.ProcessNode:
        """Submit one label."""
        workchain, common = self.common
        structure = self.structure(self.members[name])
        process, inputs = workchain.first_job({**common, "structure": structure})
        number = f"{list(self.members).index(name) + 1} of {len(self.members)}"
        return self.submit_once(
            process,
            inputs,
            name=f"{LABEL}{name}",
            label=f"label {name}",
            description=f"DFT ({workchain.record.name}) of {structure.get_formula()}, {number}",
            told=False,
        )

    def member_ended(self, name: str, node: orm.ProcessNode) -> orm.ProcessNode | None:
        """Let a workchain recover from a first job that failed; note why a label failed for good."""
        workchain, common = self.common
        if isinstance(node, orm.CalcJobNode):
            inputs = {**common, "structure": self.structure(self.members[name])}
            if workchain.has_succeeded(node):
                following = workchain.next_job(inputs, node)
                if following is None:
                    return None
                names = {"label": f"label {name}", "description": f"goes on from {node.process_label}<{node.pk}>"}
                return self.submit_once(*following, name=f"{NEXT}{name}", told=False, **names)
            return self.submit_once(
                workchain,
                {**inputs, "first_job": node.uuid},
                name=f"{RECOVERY}{name}",
                label=f"label {name}",
                description=f"goes on from {node.process_label}<{node.pk}>, {reason_of(node)}",
            )
        if not node.is_finished_ok:
            self.ctx.first_failed = self.ctx.get("first_failed") or name
            self.ctx.failed[name] = f"{node.process_label}<{node.pk}> {reason_of(node)}"
            self.report(f"label {name} failed: {self.ctx.failed[name]}")
        return None

    def pool_stopped(self) -> bool:
        """No further label once too many have failed."""
        return self._too_many_failed()

    def _too_many_failed(self) -> bool:
        others = bool(self.inputs.get("labels")) or "extend" in self.inputs
        none_left = len(self.ctx.failed) == len(self.members) and not others
        return len(self.ctx.failed) > self.limits[1] or none_left

    def first_failure(self) -> str:
        """Name of the first label that failed, and the reason."""
        # A checkpoint keeps names in the order of the alphabet.
        name = self.ctx.get("first_failed") or next(iter(self.ctx.failed))
        return f"{name}: {self.ctx.failed[name]}"

    def pool_status(self) -> str:
        """Labels done, running, failed."""
        return f"labels: {super().pool_status()}, {len(self.ctx.failed)} failed"

    def _label_report(self) -> orm.Dict:
        n_extended = self.inputs.extend.n_members if "extend" in self.inputs else 0
        return orm.Dict(
            {
                "n_labels": len(self.members),
                "n_known": len(self.inputs.get("labels", {})),
                "n_extended": n_extended,
                "n_not_labelled_again": len(self.cells) - len(self.members),
                "failed": dict(sorted(self.ctx.failed.items())),
            }
        )

    def label_folders(self) -> dict[str, orm.Data]:
        """Where the raw output of each label lies: its stash if it has one, of the recovery if there was one."""
        found: dict[str, dict[tuple[int, bool], orm.Data]] = {}
        for call, output, folder in folders_of_children(self.node):
            prefix = next((known for known in CALLS if call.startswith(known)), "")
            name = call.removeprefix(prefix)
            if prefix and name in self.members and name not in self.ctx.failed:
                found.setdefault(name, {})[CALLS.index(prefix), output == "remote_stash"] = folder
        return {name: folders[max(folders)] for name, folders in sorted(found.items())}


def drawn_cells(process: orm.ProcessNode) -> dict[str, int]:
    """Structures that the calcfunctions of a process have drawn: name -> pk."""
    query = orm.QueryBuilder().append(orm.ProcessNode, filters={"id": process.pk}, tag="process")
    calls, names = {"label": {"like": "perturb%"}}, {"edge_tag": "name", "edge_project": "label"}
    ended = {"attributes.exit_status": 0, "attributes.sealed": True}
    query.append(orm.CalcFunctionNode, with_incoming="process", tag="call", edge_filters=calls, filters=ended)
    query.append(orm.StructureData, with_incoming="call", tag="cell", project="id", **names)
    return {row["name"]["label"]: row["cell"]["id"] for row in query.dict()}


def content_uuid(structure: orm.StructureData, manifest: DatasetManifest) -> str | None:
    """uuid that the structure has as a member of a dataset; None if the dataset does not know an element of it."""
    if manifest.kinds:  # whether a magnet is in the same state shows when its label is there
        return None
    engine, basis = to_engine(structure), manifest.orbital_basis
    if not set(engine.elements) <= set(basis.elements):
        return None
    rank = {symbol: n for n, symbol in enumerate(engine.elements)}
    order = np.argsort([rank[symbol] for symbol in engine.symbols], kind="stable")
    return member_uuid(engine.permuted(order), basis)


def new_cells(
    structures: Mapping[str, orm.StructureData], manifest: DatasetManifest, taken: set[str]
) -> dict[str, str]:
    """Name of each member that is to be labelled -> name of its cell.

    A cell whose atoms and lattice stand in the dataset is left out; another one that only has the name of a member gets
    a number behind it.

    :param taken: further names that are no longer free.
    """
    known = {member.uuid for member in manifest.members}
    names = {member.name for member in manifest.members} | taken | set(structures)
    result: dict[str, str] = {}
    for cell, structure in structures.items():
        uuid = content_uuid(structure, manifest)
        if uuid in known:
            continue
        name = cell
        if any(cell == member.name for member in manifest.members):
            name = next(f"{cell}_{n}" for n in count(2) if f"{cell}_{n}" not in names)
            names.add(name)
        result[name] = cell
    return result
