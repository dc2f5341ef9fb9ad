"""Which codes' numerical orbitals can be read, and how a basis is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.orbitals.ion import ION_BOHR_TO_ANGSTROM, load_siesta
from aiida_deeph.engine.orbitals.orb import load_abacus
from aiida_deeph.engine.orbitals.pao import PAO_BOHR_TO_ANGSTROM, load_openmx
from aiida_deeph.engine.orbitals.radial import RadialBasis, RadialShell
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM

# Code -> function of element, folder and name of the orbitals: shells in the order of the orbitals, valence electrons.
Loader = Callable[..., tuple[tuple[RadialShell, ...], float | None]]
LOADERS: Mapping[str, Loader] = {"abacus": load_abacus, "openmx": load_openmx, "siesta": load_siesta}
# Codes one of whose files may hold more orbitals than are taken, so that a name has to say it.
NAMED = ("openmx",)
# Code -> its Bohr, Angstrom. SIESTA 5 has another one: 4e-7 of a distance.
BOHRS: Mapping[str, float] = {
    "abacus": BOHR_TO_ANGSTROM,
    "openmx": PAO_BOHR_TO_ANGSTROM,
    "siesta": ION_BOHR_TO_ANGSTROM,
}


def is_numeric(spec: str | Mapping[str, str]) -> bool:
    """Whether a basis is one of numerical orbitals: `CODE:FOLDER`, for all elements or for one of them."""
    return any(text.partition(":")[0] in LOADERS for text in ([spec] if isinstance(spec, str) else spec.values()))


def load_numeric(
    spec: str | Mapping[str, str], orbitals: Mapping[str, str] | None, elements: Iterable[str], base_dir: Path
) -> RadialBasis:
    """The basis of some elements.

    :param spec: `CODE:FOLDER` for all elements, or one such string per element; of one element also
        `CODE:FOLDER:ORBITALS`.
    :param orbitals: element -> name of its orbitals, where `spec` does not say it; SIESTA and ABACUS need none where
        the element has one file.
    :param base_dir: where FOLDER is looked for if its path is relative.
    :raises InputError: the specification is wrong, or an element has no such basis.
    """
    shells, valence, source = {}, {}, {}
    codes: set[str] = set()
    for symbol in elements:
        text = spec if isinstance(spec, str) else spec.get(symbol)
        if text is None:
            raise InputError("element without basis", where="basis", found=symbol, expected=f"one of {', '.join(spec)}")
        code, _, rest = text.partition(":")
        folder, _, own = rest.partition(":")
        if code not in LOADERS or not folder:
            raise InputError(
                "basis is not understood",
                where="basis",
                found=text,
                expected=f"{' or '.join(f'{name}:FOLDER' for name in LOADERS)} for every element",
            )
        name = own or (orbitals or {}).get(symbol)
        if name is None and code in NAMED:
            raise InputError(
                "element without orbitals",
                where="orbitals",
                found=symbol,
                expected=f"names such as {symbol}=FILE-s2p2d1",
                remedy=f"give the orbitals of {symbol}",
            )
        shells[symbol], electrons = LOADERS[code](symbol, base_dir / folder, name)
        if electrons is not None:
            valence[symbol] = electrons
        source[symbol] = f"{code}:{name or symbol}"
        codes.add(code)
    if len(codes) != 1:
        raise InputError(
            "orbitals of several codes", where="basis", found=", ".join(sorted(codes)), expected="one code"
        )
    return RadialBasis(shells, valence, source, BOHRS[codes.pop()])
