"""Raw output that lies in a tar archive, as a stash may leave it."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiida_deeph.engine.errors import DataError


@contextmanager
def as_folder(path: Path) -> Iterator[Path]:
    """The folder itself, or an archive unpacked for the time of the context.

    Archives hold the folder at any depth; names that lead out of it, links and devices are refused, whoever wrote it.

    :raises DataError: a file that is no archive, or one that is damaged, empty or leads outside.
    """
    if not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="unpacked-") as scratch:
        try:
            with tarfile.open(path) as archive:
                archive.extractall(scratch, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError("archive cannot be read", where=path, found=error, expected="a tar archive") from None
        folder = Path(scratch)
        # Working directories of AiiDA lie some levels deep: ab/cd/ef...
        while len(inside := sorted(folder.iterdir())) == 1 and inside[0].is_dir():
            folder = inside[0]
        if not inside:
            raise DataError("archive is empty", where=path)
        yield folder
