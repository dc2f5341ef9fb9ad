"""How a basis is named, `CODE:..`, and what the name stands for: each code's record says which kind of basis it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiida_deeph.engine.dft.base import records
from aiida_deeph.engine.dft.record import BASIS_FILE, BASIS_LIBRARY
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.orbitals.formats import FORMATS
from aiida_deeph.engine.orbitals.gaussian import GaussianBasis, library_basis, read_basis_set
from aiida_deeph.engine.orbitals.radial import RadialBasis

Spec = str | Mapping[str, str]


def numeric_names() -> tuple[str, ...]:
    """Codes with numerical orbitals, whose bases are called `CODE:FOLDER`."""
    return tuple(name for name, record in records().items() if record.basis in FORMATS)


def spec_forms() -> str:
    """How a basis may be named, for messages and help."""
    forms = {BASIS_LIBRARY: "NAME", BASIS_FILE: "FILE:NAME"}
    known = sorted((record.basis in FORMATS, name, record.basis) for name, record in records().items() if record.basis)
    return ", ".join(f"{name}:{forms.get(basis, 'FOLDER')}" for _, name, basis in known)


def is_numeric(spec: Spec) -> bool:
    """Whether a basis is one of numerical orbitals: `CODE:FOLDER`, for all elements or for one of them."""
    return any(
        text.partition(":")[0] in numeric_names() for text in ([spec] if isinstance(spec, str) else spec.values())
    )


def load_numeric(
    spec: Spec, orbitals: Mapping[str, str] | None, elements: Iterable[str], base_dir: Path
) -> RadialBasis:
    """The numerical orbitals of some elements.

    :param spec: `CODE:FOLDER` for all elements, or one such string per element; of one element also
        `CODE:FOLDER:ORBITALS`.
    :param orbitals: element -> name of its orbitals, where `spec` does not say it; formats of one file an element need
        none.
    :param base_dir: where FOLDER is looked for if its path is relative.
    :raises InputError: the specification is wrong, or an element has no such basis.
    """
    shells, valence, source = {}, {}, {}
    codes: set[str] = set()
    for symbol in elements:
        text = _of_element(spec, symbol)
        code, _, rest = text.partition(":")
        folder, _, own = rest.partition(":")
        if code not in numeric_names() or not folder:
            expected = f"{' or '.join(f'{name}:FOLDER' for name in numeric_names())} for every element"
            raise InputError("basis is not understood", where="basis", found=text, expected=expected)
        kind = FORMATS[str(records()[code].basis)]
        name = own or (orbitals or {}).get(symbol)
        if name is None and kind.named:
            raise InputError(
                "element without orbitals",
                where="orbitals",
                found=symbol,
                expected=f"names such as {symbol}=FILE-s2p2d1",
                remedy=f"give the orbitals of {symbol}",
            )
        shells[symbol], electrons = kind.load(symbol, base_dir / folder, name)
        if electrons is not None:
            valence[symbol] = electrons
        source[symbol] = f"{code}:{name or symbol}"
        codes.add(code)
    if len(codes) != 1:
        raise InputError(
            "orbitals of several codes", where="basis", found=", ".join(sorted(codes)), expected="one code"
        )
    return RadialBasis(shells, valence, source, FORMATS[str(records()[codes.pop()].basis)].bohr)


def load_basis(spec: Spec, elements: Iterable[str], base_dir: Path) -> GaussianBasis:
    """The Gaussian basis of some elements.

    :param spec: `CODE:NAME` of a library or `CODE:FILE:NAME` for all elements, or one such string per element.
    :param base_dir: where FILE is looked for if its path is relative.
    :raises InputError: the specification is wrong, or an element has no such basis.
    """
    shells, valence, source = {}, {}, {}
    for symbol in elements:
        text = _of_element(spec, symbol)
        code, _, rest = text.partition(":")
        kind = records()[code].basis if code in records() else None
        file, separator, name = rest.rpartition(":")
        if kind == BASIS_LIBRARY and rest:
            shells[symbol], electrons = library_basis(symbol, rest)
        elif kind == BASIS_FILE and separator:
            shells[symbol], electrons = read_basis_set(base_dir / file, symbol, name)
        else:
            raise InputError("basis is not understood", where="basis", found=text, expected=f"one of {spec_forms()}")
        if electrons is not None:
            valence[symbol] = electrons
        source[symbol] = text
    return GaussianBasis(shells, valence, source)


def named_basis(metadata: Mapping[str, Any]) -> Spec | None:
    """The Gaussian basis of data whose metadata tell it: of an overlap, or of a code with a library of bases."""
    given = metadata.get("basis")
    if isinstance(given, Mapping) and given and not is_numeric({str(s): str(text) for s, text in given.items()}):
        return {str(symbol): str(text) for symbol, text in given.items()}
    settings, code = metadata.get("settings"), metadata.get("code")
    record = records().get(str(code))
    if record is None or record.basis != BASIS_LIBRARY or not isinstance(settings, Mapping):
        return None
    return f"{code}:{settings['basis']}" if isinstance(settings.get("basis"), str) else None


def _of_element(spec: Spec, symbol: str) -> str:
    text = spec if isinstance(spec, str) else spec.get(symbol)
    if text is None:
        raise InputError("element without basis", where="basis", found=symbol, expected=f"one of {', '.join(spec)}")
    return text
