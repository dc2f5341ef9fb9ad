"""Names and paths that come from files: what they may look like, and that they stay inside their folder."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from aiida_deeph.engine.errors import DataError, InputError

# Nothing that means a folder, an option or a place elsewhere: no separators, no leading dot or dash.
NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=200)]
"""Name of a member or of a file in its folder."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith(("/", "~")) or ".." in parts or "\0" in path or "\\" in path:
        raise ValueError("a relative path that stays in its folder is expected")
    return path


RelativePath = Annotated[str, AfterValidator(_relative)]
"""Path below a folder: neither absolute nor with `..`."""


def inside(folder: Path, *parts: str) -> Path:
    """`folder/parts...`, which may not lead out of the folder, not even through a link.

    :raises DataError: it does.
    """
    path = Path(folder, *parts)
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        raise DataError("path leads out of its folder", where=folder, found="/".join(parts), expected="a file inside")
    return path


def check_output(path: Path, folder: bool | None = None) -> None:
    """Refuse to write onto what is neither a plain file nor a folder: a link, a device, a pipe.

    :param folder: whether a folder is to be written, or a file; None does not mind.
    :raises InputError: something else stands there.
    """
    try:
        mode = Path(path).lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    found = _kind(mode)
    wanted = {None: ("file", "folder"), True: ("folder",), False: ("file",)}[folder]
    if found not in wanted:
        raise InputError(
            "output cannot be written there",
            where=path,
            found=f"a {found}",
            expected=f"a {' or a '.join(wanted)}, or nothing yet",
            remedy="choose another output",
        )


def require_plain_file(path: Path) -> None:
    """Refuse to open what is no plain file: reading a pipe would wait for ever.

    :raises DataError: nothing, or something else, stands there.
    """
    try:
        found = _kind(Path(path).stat().st_mode)
    except OSError as error:
        raise DataError("file cannot be read", where=path, found=error.strerror, expected="a plain file") from None
    if found != "file":
        raise DataError("file cannot be read", where=path, found=f"a {found}", expected="a plain file")


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "folder"),
        (stat.S_ISLNK, "symbolic link"),
        (stat.S_ISFIFO, "pipe"),
        (stat.S_ISSOCK, "socket"),
    ):
        if test(mode):
            return name
    return "device"
