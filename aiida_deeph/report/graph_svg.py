"""A layered graph as SVG text, drawn without any program: sources at the top, everything below what it comes from."""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LAYER_HEIGHT, BOX_HEIGHT, GAP, CHARACTER, MARGIN = 74.0, 34.0, 22.0, 7.1, 12.0
FILL = {"process": "#fde4dd", "data": "#e3eefa"}
STROKE = {"process": "#e4572e", "data": "#1f77b4"}


@dataclass(frozen=True)
class Box:
    """:param kind: `process` or `data`; :param count: how many nodes the box stands for; :param pks: theirs."""

    text: str
    kind: str
    count: int = 1
    pks: tuple[int, ...] = ()

    @property
    def caption(self) -> str:
        """What stands in the box."""
        return self.text if self.count == 1 else f"{self.count} x {self.text}"

    @property
    def width(self) -> float:
        """In SVG units."""
        return max(70.0, CHARACTER * len(self.caption) + 22.0)


def layers_of(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Length of the longest path from a source to each node; edges that would close a circle are ignored."""
    below: dict[str, list[str]] = {name: [] for name in names}
    above: dict[str, set[str]] = {name: set() for name in names}
    for source, target in edges:
        if source != target and not _reaches(below, target, source):
            below[source].append(target)
            above[target].add(source)
    layer = dict.fromkeys(names, 0)
    waiting = {name: len(above[name]) for name in names}
    ready = [name for name in names if not waiting[name]]
    while ready:
        name = ready.pop()
        for target in below[name]:
            layer[target] = max(layer[target], layer[name] + 1)
            waiting[target] -= below[name].count(target)
            if waiting[target] <= 0:
                ready.append(target)
    # A source is drawn just above what uses it, so that its line stays short.
    for name in names:
        if not above[name] and below[name]:
            layer[name] = min(layer[target] for target in below[name]) - 1
    return layer


def _reaches(below: Mapping[str, Sequence[str]], start: str, goal: str) -> bool:
    seen, stack = {start}, [start]
    while stack:
        name = stack.pop()
        if name == goal:
            return True
        new = [target for target in below[name] if target not in seen]
        seen.update(new)
        stack.extend(new)
    return False


def ordered(layer: Mapping[str, int], edges: Sequence[tuple[str, str]], sweeps: int = 6) -> list[list[str]]:
    """Names of each layer from left to right, near the mean place of their neighbours (barycentre heuristic)."""
    rows: list[list[str]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
    for name, level in layer.items():
        rows[level].append(name)
    neighbours: dict[str, list[str]] = {name: [] for name in layer}
    for source, target in edges:
        neighbours[source].append(target)
        neighbours[target].append(source)
    for _ in range(sweeps):
        place = {name: (n + 0.5) / len(row) for row in rows for n, name in enumerate(row)}
        for row in rows:
            row.sort(key=lambda name: sum(place[n] for n in neighbours[name]) / max(1, len(neighbours[name])))
    return rows


def routed(
    layer: Mapping[str, int], edges: Sequence[tuple[str, str]]
) -> tuple[dict[str, int], list[list[str]], dict[str, int]]:
    """Edges as chains of names from layer to layer.

    :returns: layers of all names with the bends of long edges, the chain of each edge, the layers of the bends alone.
    """
    everything, bends, chains = dict(layer), {}, []
    for source, target in edges:
        chain = [source]
        for level in range(layer[source] + 1, layer[target]):
            bend = f"bend/{source}/{target}/{level}"
            everything[bend] = bends[bend] = level
            chain.append(bend)
        chains.append([*chain, target])
    return everything, chains, bends


def draw(boxes: Mapping[str, Box], edges: Sequence[tuple[str, str]], links: Mapping[str, str] | None = None) -> str:
    """The SVG element.

    :param links: where boxes lead to.
    """
    layer = layers_of(list(boxes), sorted(set(edges)))
    edges = [(source, target) for source, target in sorted(set(edges)) if layer[source] < layer[target]]
    everything, chains, bends = routed(layer, edges)
    rows = ordered(everything, [pair for chain in chains for pair in itertools.pairwise(chain)])

    def width(name: str) -> float:
        return 1.0 if name in bends else boxes[name].width

    widths = [sum(width(name) for name in row) + GAP * max(0, len(row) - 1) for row in rows]
    total = max(widths, default=0.0) + 2 * MARGIN
    height = len(rows) * LAYER_HEIGHT - (LAYER_HEIGHT - BOX_HEIGHT) + 2 * MARGIN
    centre: dict[str, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        x = (total - widths[level]) / 2
        for name in row:
            centre[name] = (x + width(name) / 2, MARGIN + level * LAYER_HEIGHT + BOX_HEIGHT / 2)
            x += width(name) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {total:.0f} {height:.0f}" font-family="system-ui, sans-serif" font-size="13">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#8a959e"/></marker></defs>',
    ]
    for chain in chains:
        path = ""
        for source, target in itertools.pairwise(chain):
            (x1, y1), (x2, y2) = centre[source], centre[target]
            y1, y2 = y1 + BOX_HEIGHT / 2, y2 - BOX_HEIGHT / 2 - (0 if target in bends else 1)
            bend = (y2 - y1) / 2
            path += f"{'L' if path else 'M'}{x1:.1f} {y1:.1f} "
            path += f"C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f} "
        parts.append(
            f'<path d="{path.strip()}" fill="none" stroke="#8a959e" stroke-width="1.2" marker-end="url(#arrow)"/>'
        )
    for name, box in boxes.items():
        x, y = centre[name]
        radius = 4 if box.kind == "process" else BOX_HEIGHT / 2
        pks = ", ".join(map(str, box.pks[:20])) + (", ..." if len(box.pks) > 20 else "")
        title = f"<title>{html.escape(box.caption)}{': PK ' if pks else ''}{pks}</title>"
        drawn = (
            f'{title}<rect x="{x - box.width / 2:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" width="{box.width:.1f}" '
            f'height="{BOX_HEIGHT}" rx="{radius}" fill="{FILL[box.kind]}" stroke="{STROKE[box.kind]}"/>'
            f'<text x="{x:.1f}" y="{y + 4.5:.1f}" text-anchor="middle" fill="#22303c">{html.escape(box.caption)}</text>'
        )
        target = (links or {}).get(name)
        parts.append(f"<g>{drawn}</g>" if target is None else f'<a href="{html.escape(target)}">{drawn}</a>')
    return "\n".join([*parts, "</svg>"])
