"""Which molecules of a data set become members, and in which part of a published split they stand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aiida_deeph.engine.dft.base import get_reader
from aiida_deeph.engine.dft.molecules import CollectionReader
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.preprocess.config import MemberSource


def chosen_members(
    code: str, file: Path, split: str, numbers: Sequence[int] | None = None
) -> dict[str, list[MemberSource]]:
    """Members of each part of a published split; names end with the number of the molecule in its file.

    :param numbers: so many of each part, its first ones; None takes all.
    :raises InputError: it is no data set of many molecules, or has no such split, or fewer molecules.
    """
    reader = get_reader(code)
    if not isinstance(reader, CollectionReader):
        raise InputError("no data set of many molecules", where="--code", found=code, expected="one with splits")
    result = {}
    for place, (part, indices) in enumerate(reader.split(file, split).items()):
        number = len(indices) if numbers is None else numbers[place]
        if number > len(indices):
            raise InputError("fewer molecules than asked for", where=f"{file}, {part}", found=len(indices))
        chosen = indices[:number].tolist()
        result[part] = [MemberSource(name=f"{code}_{n}", path=str(file / str(n)), code=code) for n in chosen]
    return result
