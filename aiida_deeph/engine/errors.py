"""Errors of the engine: one clear line saying what, where, found, expected and the remedy."""

from __future__ import annotations


class DeepHError(Exception):
    """A failure with a one-line message; `exit_status` is the exit status of `deeph-engine`.

    :param what: what is wrong, in a few words.
    :param where: file and field that are concerned.
    :param found: what was found there.
    :param expected: what should have been there.
    :param remedy: what the user can do about it.
    """

    exit_status = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        parts = [what]
        parts += [f"in {where}"] if where is not None else []
        parts += [f"found {found}"] if found is not None else []
        parts += [f"expected {expected}"] if expected is not None else []
        parts += [f"remedy: {remedy}"] if remedy is not None else []
        super().__init__("; ".join(parts).replace("\n", " "))


class InputError(DeepHError):
    """Wrong use: an argument, a configuration or an input file that cannot be meant."""

    exit_status = 2


class DataError(DeepHError):
    """Data that is damaged, incomplete or inconsistent."""


class DivergenceError(DeepHError):
    """The training loss became NaN or grew without bound."""

    exit_status = 3


class Interrupted(DeepHError):  # noqa: N818  (it is a verdict, not a mistake)
    """The run was told to stop (SIGTERM, time limit) and left a checkpoint to continue from."""

    exit_status = 4
