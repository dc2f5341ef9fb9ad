"""Eigenstates of each k-point on disk as soon as they are there, so that a killed job goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.io.files import atomic_path, write_text_atomic
from aiida_deeph.engine.linalg.dense import Eigenstates

KEY_FILE = "job.json"
EXTRA = "extra_"


class StateStore:
    """A folder `OUTPUT.partial` with one file per solution; what another job left there is thrown away.

    :param folder: made with the first solution, removed at the end.
    :param key: what identifies the job: solutions are taken over only if it is the same.
    :param earlier: such folders of jobs that were killed, or did a share, elsewhere; they are only read.
    :param beside: such folders of the other ranks of this job, which may still be filled; they are only read.
    """

    def __init__(self, folder: Path, key: str, earlier: Sequence[Path] = (), beside: Sequence[Path] = ()) -> None:
        self.folder, self.key = folder, key
        self.earlier = [other for other in earlier if _key_in(other) == key]
        self.beside = list(beside)
        self._ready = _key_in(folder) == key
        if not self._ready and not any(folder in other.parents for other in self.earlier):
            self.remove()

    def get(self, name: str) -> Eigenstates | None:
        """A solution of an earlier run, or None."""
        found = _read(self.folder / f"{name}.npz")
        if found is not None:
            return found
        for folder in (*self.earlier, *(other for other in self.beside if _key_in(other) == self.key)):
            found = _read(folder / f"{name}.npz")
            if found is not None:
                if folder in self.earlier:
                    self.put(name, found)  # a third run looks here alone
                return found
        return None

    def put(self, name: str, states: Eigenstates) -> None:
        """Keep a solution; complete or not there at all."""
        self.open()
        values = {f.name: getattr(states, f.name) for f in fields(states) if f.name != "extras"}
        arrays = {key: value for key, value in values.items() if value is not None}
        arrays |= {EXTRA + key: value for key, value in states.extras.items()}
        with atomic_path(self.folder / f"{name}.npz") as temporary:
            np.savez(temporary, **arrays)

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


def job_key(data: RealSpaceHamiltonian, settings: Mapping[str, Any]) -> str:
    """Digest of H, S and the settings that decide the eigenvalues."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for matrix in (data.hamiltonian, data.overlap):
        if matrix is not None:
            digest.update(matrix.atom_pairs.data)
            digest.update(matrix.entries.data)
    return digest.hexdigest()


def _key_in(folder: Path) -> str | None:
    """The key that a folder belongs to; None if it is no such folder."""
    try:
        return str(json.loads((folder / KEY_FILE).read_text(encoding="ascii"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(path: Path) -> Eigenstates | None:
    """The states of a file; None if there is none, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
    extras = {key.removeprefix(EXTRA): arrays.pop(key) for key in list(arrays) if key.startswith(EXTRA)}
    values: dict[str, Any] = {key: value if value.ndim else value.item() for key, value in arrays.items()}
    return Eigenstates(**{"vectors": None, **values}, extras=extras)
