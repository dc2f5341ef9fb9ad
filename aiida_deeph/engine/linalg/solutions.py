"""What was solved at each k-point, on disk as soon as it is there: a killed job goes on where it stopped."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.io.files import atomic_path, write_text_atomic

KEY_FILE = "job.json"


class SolutionStore:
    """A folder with one file per solution; what another job left there is thrown away.

    :param folder: made with the first solution, removed at the end.
    :param key: what identifies the job: solutions are taken over only if it is the same.
    :param earlier: such folders of jobs that were killed, or did a share, elsewhere; they are only read.
    """

    def __init__(self, folder: Path, key: str, earlier: Sequence[Path] = ()) -> None:
        self.folder, self.key = folder, key
        self.earlier = [other for other in earlier if other != folder and _key_in(other) == key]
        self._ready = _key_in(folder) == key
        if not self._ready and not any(folder in other.parents for other in self.earlier):
            self.remove()

    def get(self, name: str) -> dict[str, NDArray[Any]] | None:
        """A solution of an earlier run, or None."""
        found = _read(self.folder / f"{name}.npz")
        for folder in self.earlier if found is None else ():
            found = _read(folder / f"{name}.npz")
            if found is not None:
                self.put(name, found)  # a third run looks here alone
                break
        return found

    def put(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep a solution; complete or not there at all."""
        self.open()
        with atomic_path(self.folder / f"{name}.npz") as temporary:
            packed = io.BytesIO()  # numpy's own file complains behind an error's back when the disk is full
            np.savez(packed, **arrays)
            temporary.write_bytes(packed.getbuffer())

    def open(self) -> None:
        """Make the folder."""
        if not self._ready:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text_atomic(self.folder / KEY_FILE, json.dumps({"key": self.key}))
            self._ready = True

    def remove(self) -> None:
        """Throw everything away."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._ready = False


def _key_in(folder: Path) -> str | None:
    """The key that a folder belongs to; None if it is no such folder."""
    try:
        return str(json.loads((folder / KEY_FILE).read_text(encoding="ascii"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file; None if there is none, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
