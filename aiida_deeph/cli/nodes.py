"""Codes and nodes by what a user writes: label, PK or UUID."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiida import orm
from aiida.common.exceptions import MultipleObjectsError, NotExistent
from aiida.common.links import LinkType

from aiida_deeph.engine.errors import InputError

# Outputs of workflows and jobs that hold bands of a DFT run.
DFT_BANDS = ("dft_bands", "output_band")


def load(identifier: int | str, kind: type[orm.Node] | tuple[type[orm.Node], ...], where: str) -> Any:
    """A node of a certain kind.

    :raises InputError: there is none, or it is of another kind.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = " or ".join(k.__name__ for k in kinds)
    try:
        node = orm.load_node(identifier)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise InputError(
            "node cannot be loaded", where=where, found=f"{identifier} ({error})", expected=f"PK or UUID of a {wanted}"
        ) from None
    if not isinstance(node, kinds):
        raise InputError(
            "node of another kind", where=where, found=f"{type(node).__name__}<{node.pk}>", expected=wanted
        )
    return node


def find_output(identifier: int | str, outputs: Sequence[str], kind: type[orm.Node], member: str | None = None) -> Any:
    """A node by its own identifier, or by that of a job or workflow that has it among its outputs.

    :param outputs: names of the output, the first that is there counts.
    :param member: which one of a workflow of several structures.
    :raises InputError: there is none, or there are several.
    """
    node = load(identifier, (kind, orm.ProcessNode), "argument")
    if not isinstance(node, orm.ProcessNode):
        return node
    where = f"{node.process_label}<{node.pk}>"
    outputs_only = (LinkType.CREATE, LinkType.RETURN)  # calls have labels, too
    labels = {link.link_label: link.node for link in node.base.links.get_outgoing(link_type=outputs_only).all()}
    several: dict[str, orm.Node] = {}
    for name in outputs:
        if isinstance(labels.get(name), kind):
            return labels[name]
        prefix = f"{name}__"
        several |= {
            label.removeprefix(prefix): found
            for label, found in labels.items()
            if label.startswith(prefix) and isinstance(found, kind) and label.removeprefix(prefix) not in several
        }
    if member is not None and member in several:
        return several[member]
    if not several:
        children = "" if node.is_terminated else "; it has not ended yet"
        raise InputError("process has no such output", where=where + children, expected=" or ".join(outputs))
    if len(several) == 1 and member is None:
        return next(iter(several.values()))
    remedy = f"add --of NAME: {', '.join(sorted(several))}"
    raise InputError("several outputs", where=where, found=member or f"{len(several)} structures", remedy=remedy)


def latest_workflow() -> orm.ProcessNode:
    """The workflow of this package that was submitted last by a user, not by another workflow.

    :raises InputError: there is none.
    """
    query = orm.QueryBuilder().append(
        orm.WorkChainNode, filters={"process_type": {"like": "aiida.workflows:deeph.%"}}, tag="process"
    )
    query.order_by({"process": {"id": "desc"}})
    for (node,) in query.iterall():
        if node.caller is None:
            found: orm.ProcessNode = node
            return found
    raise InputError("no workflow yet", expected="a PK, or one that was launched before")


def load_code(identifier: str, where: str) -> orm.AbstractCode:
    """A code.

    :raises InputError: there is none.
    """
    try:
        return orm.load_code(identifier)
    except (NotExistent, MultipleObjectsError, ValueError) as error:
        raise InputError(
            "code cannot be loaded",
            where=where,
            found=f"{identifier} ({error})",
            expected="LABEL@COMPUTER, PK or UUID",
            remedy="`verdi code list` shows the codes, `aiida-deeph setup codes` registers them",
        ) from None
