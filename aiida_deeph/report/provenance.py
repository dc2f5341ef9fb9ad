"""The provenance of a finished process, condensed: one box per kind of calculation and of data between them."""

from __future__ import annotations

from collections.abc import Iterable

from aiida import orm
from aiida.common.links import LinkType

from aiida_deeph.report.graph_svg import Box

# Settings and bookkeeping would hide the flow of the science.
HIDDEN_DATA = (orm.Code, orm.Dict, orm.Int, orm.Float, orm.Bool, orm.Str, orm.List, orm.FolderData)


def is_visible(node: orm.Node) -> bool:
    """Whether a data node is drawn."""
    return isinstance(node, orm.Data) and not isinstance(node, HIDDEN_DATA) and type(node) is not orm.KpointsData


def calculations_of(process: orm.ProcessNode) -> list[orm.CalculationNode]:
    """Calculations below a process and those that made its inputs, however far back."""
    found = {node.pk: node for node in process.called_descendants if isinstance(node, orm.CalculationNode)}
    if isinstance(process, orm.CalculationNode):
        found[process.pk] = process
    waiting: list[orm.ProcessNode] = [process, *found.values()]
    while waiting:
        node = waiting.pop()
        links = node.base.links.get_incoming(link_type=(LinkType.INPUT_CALC, LinkType.INPUT_WORK)).all()
        for data in (link.node for link in links):
            creator = data.creator
            if creator is not None and creator.pk not in found:
                found[creator.pk] = creator
                waiting.append(creator)
    return sorted(found.values(), key=lambda node: node.pk)


def short_label(node: orm.CalculationNode) -> str:
    """`TrainCalculation` becomes `Train`; a calcfunction keeps its name."""
    return str(node.process_label or node.process_type or "calculation").removesuffix("Calculation").replace("_", " ")


def data_label(node: orm.Data) -> str:
    """The class of a data node without `Data`; of a plain array, what its maker calls it."""
    if type(node) is orm.ArrayData and node.creator is not None:
        return str(node.base.links.get_incoming(link_type=LinkType.CREATE).one().link_label)
    return type(node).__name__.removesuffix("Data")


def condensed(process: orm.ProcessNode) -> tuple[dict[str, Box], list[tuple[str, str]]]:
    """Boxes and edges for `graph_svg.draw`."""
    members: dict[str, set[int]] = {}
    boxes: dict[str, tuple[str, str]] = {}
    edges: set[tuple[str, str]] = set()

    def box(name: str, text: str, kind: str, pk: int) -> str:
        boxes.setdefault(name, (text, kind))
        members.setdefault(name, set()).add(pk)
        return name

    def data_box(node: orm.Data) -> str:
        creator = node.creator
        maker = short_label(creator) if creator is not None else "input"
        return box(f"data/{maker}/{data_label(node)}", data_label(node), "data", node.pk)

    def visible(nodes: Iterable[orm.Node]) -> list[orm.Data]:
        return [node for node in nodes if is_visible(node)]

    def inputs_of(node: orm.CalculationNode) -> list[orm.Data]:
        return visible(node.base.links.get_incoming(link_type=LinkType.INPUT_CALC).all_nodes())

    calculations = calculations_of(process)
    used = {data.pk for calculation in calculations for data in inputs_of(calculation)}
    for calculation in calculations:
        sources = inputs_of(calculation)
        made = visible(calculation.base.links.get_outgoing(link_type=LinkType.CREATE).all_nodes())
        if not isinstance(calculation, orm.CalcJobNode) and not made and len(sources) < 2:
            continue  # a function that reports on one node
        name = box(f"process/{short_label(calculation)}", short_label(calculation), "process", calculation.pk)
        for node in sources:
            edges.add((data_box(node), name))
        for node in made:
            # A remote folder that nothing reads on is bookkeeping.
            if node.pk in used or not isinstance(node, orm.RemoteData):
                edges.add((name, data_box(node)))
    drawn = {
        name: Box(text, kind, len(members[name]), tuple(sorted(members[name]))) for name, (text, kind) in boxes.items()
    }
    return drawn, sorted(edges)
