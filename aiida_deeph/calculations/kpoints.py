"""KpointsData as fields of a configuration: a Gamma-centred mesh, or a list of fractional points with labels."""

from __future__ import annotations

from typing import Any

from aiida.orm import KpointsData

from aiida_deeph.engine.errors import InputError


def mesh_of(node: KpointsData) -> list[int] | None:
    """Divisions of a mesh; None if the node holds a list."""
    try:
        return list(node.get_kpoints_mesh()[0])
    except AttributeError:
        return None


def check_mesh(node: KpointsData, _: Any = None) -> str | None:
    """The node holds a Gamma-centred mesh."""
    mesh = mesh_of(node)
    if mesh is None:
        return str(
            InputError(
                "k-points are no mesh", where="kpoints", found="a list", expected="set_kpoints_mesh([n1, n2, n3])"
            )
        )
    offset = node.get_kpoints_mesh()[1]
    if any(abs(x) > 1e-12 for x in offset):
        return str(
            InputError(
                "k-mesh is shifted", where="kpoints", found=f"offset {offset}", expected="[0, 0, 0]: Gamma-centred"
            )
        )
    return None


def check_list(node: KpointsData, _: Any = None) -> str | None:
    """The node holds a list of points."""
    if mesh_of(node) is not None:
        return str(
            InputError("k-points are no list", where="bands_kpoints", found="a mesh", expected="set_kpoints([...])")
        )
    return None


def check_mesh_or_list(node: KpointsData, _: Any = None) -> str | None:
    """A mesh, if it is one, is Gamma-centred."""
    return None if mesh_of(node) is None else check_mesh(node)


def points_of(node: KpointsData) -> list[list[float]]:
    """Fractional points of a list, shape (n_k, 3)."""
    points: list[list[float]] = node.get_kpoints().tolist()
    return points


def labels_of(node: KpointsData) -> list[tuple[int, str]] | None:
    """Names of some points by index; None if there are none."""
    return [(int(index), str(label)) for index, label in node.labels or []] or None
