"""What the nodes share whose repository is a folder that other programs read as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiida.orm import Data

from aiida_deeph.engine.errors import InputError


class FolderNode(Data):
    """A node that holds the files of one folder, without its name, so that equal folders give equal hashes."""

    @contextmanager
    def as_path(self) -> Iterator[Path]:
        """The folder on disk, for reading, as long as the context lasts."""
        with self.base.repository.as_path() as path:
            yield Path(path)

    def export(self, folder: Path | str) -> Path:  # type: ignore[override]
        """Copy the files into a new or empty folder and return its path.

        :raises InputError: the folder holds something already.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                "cannot export", where=folder, found="a file or a folder with files", expected="a new or empty folder"
            )
        self.base.repository.copy_tree(folder)
        return folder

    def _put_files(self, folder: Path, names: Iterable[str]) -> None:
        """Take the named files of a folder into the repository."""
        for name in names:
            self.base.repository.put_object_from_file(str(folder / name), name)
