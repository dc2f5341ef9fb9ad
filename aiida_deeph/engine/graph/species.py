"""Elements as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError


def species_of(structure: Structure, elements: Sequence[str]) -> NDArray[np.int64]:
    """Place of each atom's element in `elements`, shape (n_atoms,).

    :raises InputError: an element is missing.
    """
    place = {symbol: n for n, symbol in enumerate(elements)}
    unknown = [symbol for symbol in structure.elements if symbol not in place]
    if unknown:
        raise InputError(
            "element unknown to the model",
            where="structure",
            found=", ".join(unknown),
            expected=f"only {', '.join(elements)}",
        )
    return np.array([place[symbol] for symbol in structure.symbols], dtype=np.int64)
