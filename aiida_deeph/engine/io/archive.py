"""Folders that lie packed in a tar archive, whoever packed them."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiida_deeph.engine.errors import DataError, raise_if_machine_failed

# An archive may grow by this factor when it is unpacked, or to `SMALL` bytes: text of runs packs 5 to 30 times.
GROWTH = 200
SMALL = 2**30
MAX_FILES = 1_000_000


@contextmanager
def as_folder(path: Path) -> Iterator[Path]:
    """The folder itself, or an archive unpacked for the time of the context.

    Archives hold the folder at any depth; names that lead out of it, links to outside and devices are refused, and so
    is what would fill the disk.

    :raises DataError: a file that is no archive, or one that is damaged, empty, too large or leads outside.
    """
    if not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="unpacked-") as scratch:
        try:
            with tarfile.open(path) as archive:
                _check_size(archive, path, Path(scratch))
                archive.extractall(scratch, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise_if_machine_failed(error)
            raise DataError("archive cannot be read", where=path, found=error, expected="a tar archive") from None
        folder = Path(scratch)
        # Working directories of AiiDA lie some levels deep: ab/cd/ef...
        while len(inside := sorted(folder.iterdir())) == 1 and inside[0].is_dir():
            folder = inside[0]
        if not inside:
            raise DataError("archive is empty", where=path)
        yield folder


def _check_size(archive: tarfile.TarFile, path: Path, scratch: Path) -> None:
    """Look at the sizes in the headers, and stop at the first that is too much."""
    limit = min(max(GROWTH * path.stat().st_size, SMALL), shutil.disk_usage(scratch).free)
    total = 0
    for count, entry in enumerate(archive, start=1):
        total += entry.size
        if total > limit or count > MAX_FILES:
            raise DataError(
                "archive is too large",
                where=path,
                found=f"{count} files of {total / 2**30:.1f} GiB and more",
                expected=f"at most {MAX_FILES} files of {limit / 2**30:.1f} GiB",
                remedy="unpack it yourself if it is meant so, and give the folder",
            )
