"""Which keywords of OpenMX's input the user may set, and which follow from other inputs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiida_deeph.engine.errors import InputError

# Keyword (or its beginning, up to a dot) in lower case -> what decides it.
OWNED: Mapping[str, str] = {
    "system.": "the plugin",
    "data.path": "the plugin",
    "level.of.stdout": "the plugin",
    "hs.fileout": "the plugin: H(R) and S(R) are always written",
    "md.": "the plugin: one geometry, no dynamics",
    "geoopt.": "the plugin: one geometry",
    "species.": "the inputs basis, orbitals and pseudos",
    "definition.of.atomic.species": "the inputs basis, orbitals and pseudos",
    "atoms.": "the input structure",
    "scf.kgrid": "the input kpoints",
    "scf.eigenvaluesolver": "the plugin: `band`, whose H(R) is complete",
    "scf.spinpolarization": "the input spin",
    "scf.spinorbit.coupling": "the input spin",
    "scf.restart": "the input restart_folder",
    "scf.restart.filename": "the input restart_folder",
    "band.": "the input bands_kpoints",
}

Check = Callable[[Any], str]


def _number(low: float | None = None, strict: bool = False) -> Check:
    def text(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise ValueError("a number")
        if low is not None and (value < low or (strict and value == low)):
            raise ValueError(f"a number {'above' if strict else 'of at least'} {low:g}")
        return repr(value)

    return text


def _integer(low: int) -> Check:
    def text(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"an integer of at least {low}")
        return str(value)

    return text


def _logical(value: Any) -> str:
    known = {"on": "on", "off": "off", "yes": "on", "no": "off", "true": "on", "false": "off"}
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, str) or value.lower() not in known:
        raise ValueError("true or false")
    return known[value.lower()]


def _one_of(*names: str) -> Check:
    def text(value: Any) -> str:
        # YAML reads `on` and `off` as true and false.
        word = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        found = [name for name in names if isinstance(word, str) and name.lower() == word.lower()]
        if not found:
            raise ValueError(f"one of {', '.join(names)}")
        return found[0]

    return text


def _several(count: int, check: Check) -> Check:
    def text(value: Any) -> str:
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
            raise ValueError(f"a list of {count} numbers")
        return " ".join(check(item) for item in value)

    return text


def _block(value: Any) -> str:
    """Lines of a block, each a string or a list of words."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError("a list of lines")
    lines = [" ".join(map(str, line)) if isinstance(line, list | tuple) else line for line in value]
    if any(not isinstance(line, str) or not line.strip() or re.search(r"[\n<>]", line) for line in lines):
        raise ValueError("a list of lines without < and >")
    return "\n".join(lines)


_positive, _share, _real = _number(0, strict=True), _number(0), _number()
_MIXING = ("Simple", "Rmm-Diis", "Gr-Pulay", "Kerker", "Rmm-Diisk", "Rmm-Diisv", "Rmm-Diish")

# Keyword as OpenMX's manual spells it -> how its value is checked and written.
KEYWORDS: Mapping[str, Check] = {
    "scf.XcType": _one_of("LDA", "LSDA-CA", "LSDA-PW", "GGA-PBE"),
    "scf.partialCoreCorrection": _logical,
    "scf.ElectronicTemperature": _share,
    "scf.energycutoff": _positive,
    "scf.Ngrid": _several(3, _integer(1)),
    "scf.fixed.grid": _several(3, _real),
    "scf.maxIter": _integer(1),
    "scf.criterion": _positive,
    "scf.Mixing.Type": _one_of(*_MIXING),
    "scf.Init.Mixing.Weight": _positive,
    "scf.Min.Mixing.Weight": _positive,
    "scf.Max.Mixing.Weight": _positive,
    "scf.Mixing.History": _integer(1),
    "scf.Mixing.StartPulay": _integer(1),
    "scf.Mixing.EveryPulay": _integer(1),
    "scf.Mixing.Control.Temp": _logical,
    "scf.Kerker.factor": _positive,
    "scf.system.charge": _real,
    "scf.Electric.Field": _several(3, _real),
    "scf.ProExpn.VNA": _logical,
    "scf.BufferL.VNA": _integer(0),
    "scf.RadialF.VNA": _integer(1),
    "scf.SO.factor": _block,
    "scf.Hubbard.U": _logical,
    "scf.Hubbard.Occupation": _one_of("dual", "onsite", "full"),
    "scf.DFTU.Type": _integer(1),
    "scf.dc.Type": _one_of("sFLL", "sAMF", "cFLL", "cAMF"),
    "scf.Slater.Ratio": _positive,
    "scf.Yukawa": _logical,
    "Hubbard.U.values": _block,
    "Hund.J.values": _block,
    "scf.dftD": _logical,
    "version.dftD": _integer(2),
    "DFTD.Unit": _one_of("Ang", "AU"),
    "DFTD.rcut_dftD": _positive,
    "DFTD.cncut_dftD": _positive,
    "DFTD.damp": _one_of("zero", "bj"),
    "DFTD.IntDirection": _several(3, _integer(0)),
    "ESM.switch": _one_of("off", "on1", "on2", "on3", "on4"),
    "ESM.buffer.range": _positive,
    "ESM.potential.diff": _real,
    "scf.stress.tensor": _logical,
    "1DFFT.EnergyCutoff": _positive,
    "1DFFT.NumGridK": _integer(1),
    "1DFFT.NumGridR": _integer(1),
    "Dos.fileout": _logical,
    "Dos.Erange": _several(2, _real),
    "Dos.Kgrid": _several(3, _integer(1)),
    "Voronoi.charge": _logical,
    "Energy.Decomposition": _logical,
    "memory.usage.fileout": _logical,
    "level.of.fileout": _integer(0),
}
_SPELLING = {name.lower(): name for name in KEYWORDS}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"scf": {"XcType": "LDA", "Mixing": {"Type": "Simple"}}}` as keywords with their dots."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def grouped(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords by what stands before their first dot: the keys of a node hold no dots."""
    groups: dict[str, Any] = {}
    for name, value in keywords.items():
        first, _, rest = name.partition(".")
        groups.setdefault(first, {})[rest] = value
    return groups


def checked_keywords(values: Mapping[str, Any], where: str = "parameters") -> dict[str, str]:
    """Keywords as they are written to the input, in the order of the table here.

    :param values: keyword, in any case, with its dots or nested -> value; blocks are lists of lines.
    :raises InputError: a keyword that another input decides, one that is unknown, one given twice, or a wrong value.
    """
    found: dict[str, str] = {}
    for key, value in flat(values).items():
        name = _SPELLING.get(key.lower())
        if name is None:
            raise _refusal(key, where)
        if name in found:
            raise InputError("keyword stands twice", where=where, found=key, expected=f"{name} once")
        try:
            found[name] = KEYWORDS[name](value)
        except ValueError as error:
            raise InputError(
                "wrong value of a keyword", where=f"{where}, {name}", found=repr(value)[:60], expected=error
            ) from None
    return {name: found[name] for name in KEYWORDS if name in found}


def is_block(name: str) -> bool:
    """Whether a keyword is written as `<name ... name>`."""
    return KEYWORDS[name] is _block


def _refusal(key: str, where: str) -> InputError:
    owner = next((who for own, who in OWNED.items() if _owns(own, key.lower())), None)
    if owner is not None:
        return InputError(
            "keyword is not the user's", where=where, found=key, expected=f"it to come from {owner}", remedy="remove it"
        )
    close = difflib.get_close_matches(key.lower(), _SPELLING, n=1)
    return InputError(
        "unknown keyword",
        where=where,
        found=key,
        expected=_SPELLING[close[0]] if close else f"one of {', '.join(KEYWORDS)}",
    )


def _owns(own: str, key: str) -> bool:
    return key.startswith(own) if own.endswith(".") else key == own
