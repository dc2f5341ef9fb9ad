"""Errors of the engine: one clear line saying what, where, found, expected and the remedy."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import PurePath


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


def nearest(word: object, known: Iterable[str]) -> str:
    """What is expected in place of an unknown name: all that there are, and the one that may be meant."""
    names = list(known)
    close = get_close_matches(str(word), names, n=1)
    return f"one of {', '.join(names)}" + (f" (nearest: {close[0]})" if close else "")


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


class MachineError(DeepHError):
    """The machine failed, not the data: a full disk, a lost file system, no memory."""


# Numbers of errors that no other input would cure; HDF5 tells them in its text.
MACHINE_ERRORS = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EFBIG: "File too large",
    errno.EIO: "Input/output error",
    errno.EROFS: "Read-only file system",
    errno.ENOMEM: "Cannot allocate memory",
    errno.EMFILE: "Too many open files",
    errno.ENFILE: "Too many open files in system",
    errno.ESTALE: "Stale file handle",
}
_ERRNO_OF_HDF5 = re.compile(r"errno = (\d+)")


def machine_failure(error: BaseException | None) -> MachineError | None:
    """What failed if it, or what it was raised from, is a failure of the machine; None if data are at fault."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MachineError):
            return error
        if isinstance(error, MemoryError):
            return MachineError("out of memory", found=str(error) or None, remedy="use a machine with more memory")
        if isinstance(error, OSError):
            told = _ERRNO_OF_HDF5.search(str(error))
            number = int(told[1]) if told else error.errno
            if number in MACHINE_ERRORS:
                where = error.filename if isinstance(error.filename, str) else None
                return MachineError(MACHINE_ERRORS[number], where=where, remedy="mend it and run again")
        error = error.__cause__ or error.__context__
    return None


def raise_if_machine_failed(error: BaseException) -> None:
    """Stop where going on with other data makes no sense.

    :raises MachineError: the disk is full, or the like.
    """
    failure = machine_failure(error)
    if failure is not None:
        raise failure from error


def as_one_line(error: BaseException) -> DeepHError:
    """Any exception as an error with a clear line: what went wrong, and where."""
    # What a reader calls unreadable may be a disk that fails.
    if isinstance(error, DeepHError) and not isinstance(error.__cause__ or error.__context__, OSError):
        return error
    failure = machine_failure(error)
    if failure is not None:
        return failure
    if isinstance(error, DeepHError):
        return error
    if isinstance(error, RecursionError):
        return InputError("input is nested too deeply", expected="a file of this program's kind")
    if isinstance(error, OSError):
        return InputError("file cannot be read or written", where=error.filename, found=error.strerror or str(error))
    # Whoever reads this line has found a fault of this package: it names the place.
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"{PurePath(place[0].filename).name}, line {place[0].lineno}" if place else None
    found = f"{type(error).__name__} {error}".strip()
    return DeepHError("the program failed", where=where, found=found, remedy="see --debug, and report it")
