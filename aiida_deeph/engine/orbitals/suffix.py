"""Files of numerical orbitals by the ending of their names."""

from __future__ import annotations

from collections.abc import Mapping

from aiida_deeph.engine.errors import InputError

# Ending of a file's name -> code. SIESTA writes both of its kinds; the first is taken where both are.
SUFFIXES: Mapping[str, str] = {".pao": "openmx", ".ion.xml": "siesta", ".ion": "siesta", ".orb": "abacus"}


def suffix_of(file_name: str) -> str:
    """The ending of a file of orbitals.

    :raises InputError: it is none.
    """
    suffix = next((one for one in SUFFIXES if file_name.endswith(one)), None)
    if suffix is None or len(suffix) == len(file_name):
        raise InputError(
            "not a name of a file of orbitals", found=file_name, expected=f"one that ends in {', '.join(SUFFIXES)}"
        )
    return suffix
