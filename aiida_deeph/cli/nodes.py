"""Codes and nodes by what a user writes: label, PK or UUID."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.common.exceptions import MultipleObjectsError, NotExistent

from aiida_deeph.engine.errors import InputError


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
