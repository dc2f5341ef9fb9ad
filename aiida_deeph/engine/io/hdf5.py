"""The one door to HDF5 files of DeepH folders: what a stranger's file may hold, and how much of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from aiida_deeph.engine.errors import DataError, raise_if_machine_failed
from aiida_deeph.engine.io.paths import require_plain_file
from aiida_deeph.engine.system import require_memory

# No filter of HDF5 makes data smaller than by this factor (deflate: 1032); a larger claim is no honest file.
COMPRESSION = 1100
# Arrays beyond this many bytes are compared with the free memory before they are read.
LARGE = 2**28


@contextmanager
def open_h5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file, open for reading.

    :raises DataError: it is no plain file, is truncated or no HDF5.
    """
    require_plain_file(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, ValueError) as error:
        raise_if_machine_failed(error)
        raise DataError(
            "HDF5 file cannot be read",
            where=path,
            found=str(error),
            remedy="it is truncated or no HDF5: copy or compute it again",
        ) from None


def open_dataset(file: h5py.File, name: str) -> h5py.h5d.DatasetID:
    """A dataset whose values lie in this very file, all of them.

    :raises KeyError: there is no such dataset.
    :raises DataError: it lies in another file, is virtual, has no values, or claims more than the file can hold.
    """
    key = name.encode()
    try:
        link = file.id.links.get_info(key).type
        dataset = h5py.h5d.open(file.id, key) if link == h5py.h5l.TYPE_HARD else None
    except (KeyError, TypeError, RuntimeError):
        raise KeyError(name) from None
    plan = None if dataset is None else dataset.get_create_plist()
    if dataset is None or plan is None or plan.get_external_count() or plan.get_layout() == h5py.h5d.VIRTUAL:
        raise _refused(file, name, "values that lie in another file or place", "values in the file itself")
    if dataset.get_space().get_simple_extent_type() != h5py.h5s.SIMPLE:
        raise _refused(file, name, "no array", "an array")
    declared = prod(dataset.shape) * dataset.get_type().get_size()
    stored = dataset.get_storage_size()
    if plan.get_layout() == h5py.h5d.CHUNKED:
        chunks = prod(ceil(n / step) for n, step in zip(dataset.shape, plan.get_chunk(), strict=True))
        whole = dataset.get_num_chunks() == chunks and declared <= COMPRESSION * max(stored, 1)
    else:
        whole = stored >= declared
    if not whole or stored > file.id.get_filesize():
        raise _refused(file, name, f"{declared} bytes declared, {stored} stored", "all of its values")
    return dataset


def read_array(file: h5py.File, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    """All values of a dataset.

    :raises KeyError: there is no such dataset.
    :raises DataError: `open_dataset` refuses it, it holds no numbers, or it does not fit into memory.
    """
    dataset = h5py.Dataset(open_dataset(file, name))
    if dataset.dtype.kind not in "iufc":
        raise _refused(file, name, str(dataset.dtype), "numbers")
    size = dataset.size * dataset.dtype.itemsize
    if size > LARGE:
        require_memory(size, file.filename, "use a machine with more memory")
    return np.asarray(dataset[...])


def _refused(file: h5py.File, name: str, found: str, expected: str) -> DataError:
    return DataError("HDF5 dataset is refused", where=f"{file.filename}, {name}", found=found, expected=expected)
