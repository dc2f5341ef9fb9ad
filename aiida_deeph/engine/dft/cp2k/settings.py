"""What a CP2K run says of its settings, to be compared with those of other runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from aiida_deeph.engine.dft.cp2k.input_file import Section
from aiida_deeph.engine.dft.cp2k.kinds import PrintedKind

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
HARTREE_IN_RYDBERG = 2.0


def printed_settings(text: str) -> dict[str, Any]:
    """Functional, k-mesh, cutoffs and smearing as the output tells them; less at PRINT_LEVEL LOW."""

    def last(pattern: str, convert: Callable[[str], Any]) -> Any:
        found = re.findall(pattern, text, re.MULTILINE)
        return convert(found[-1]) if found else None

    cutoff = rf"^ QS\| {{}}ensity cutoff \[a\.u\.\]:\s+({_NUMBER})"
    functionals = dict.fromkeys(re.findall(r"^ FUNCTIONAL\|\s+(\S+):\s*$", text, re.MULTILINE))
    values = {
        "functional": "+".join(functionals) or None,
        "k_grid": last(r"^ BRILLOUIN\| K-Point grid\s+(\d+\s+\d+\s+\d+)", lambda s: [int(n) for n in s.split()]),
        "energy_cutoff_Ry": last(cutoff.format("D"), lambda s: round(HARTREE_IN_RYDBERG * float(s), 4)),
        "relative_cutoff_Ry": last(cutoff.format("Relative d"), lambda s: round(HARTREE_IN_RYDBERG * float(s), 4)),
        "smearing": last(r"^\s+Smear method:\s+(\S+)", str),
        "temperature_K": last(rf"^\s+Electronic temperature \[K\]:\s+({_NUMBER})", float),
    }
    return {name: value for name, value in values.items() if value is not None}


def stated_settings(root: Section | None) -> dict[str, Any]:
    """The functional and k-mesh that the input names, for outputs that do not tell them."""
    values: dict[str, Any] = {}
    functional = root.get("FORCE_EVAL", "DFT", "XC", "XC_FUNCTIONAL") if root else None
    if functional is not None:
        named = functional.parameter if functional.parameter.upper() not in ("", "T", ".TRUE.", "NO_SHORTCUT") else ""
        values["functional"] = named or "+".join(section.name for section in functional.sections) or None
    kpoints = root.get("FORCE_EVAL", "DFT", "KPOINTS") if root else None
    scheme = ((kpoints.keyword("SCHEME") if kpoints else None) or "").split()
    if len(scheme) == 4 and all(word.isdigit() for word in scheme[1:]):
        values["k_grid"] = [int(word) for word in scheme[1:]]
    return {name: value for name, value in values.items() if value}


def settings_of_kinds(kinds: Mapping[int, PrintedKind], numbers: Mapping[int, str]) -> dict[str, Any]:
    """Basis set and pseudopotential of each element by name, and digests of their numbers.

    :param numbers: number of a kind -> its element.
    """
    fields = {
        "basis": "basis",
        "basis_sha256": "basis_digest",
        "pseudopotentials": "potential",
        "pseudopotentials_sha256": "potential_digest",
    }
    values: dict[str, Any] = {}
    for name, field in fields.items():
        found: dict[str, set[str]] = {}
        for number, symbol in numbers.items():
            value = getattr(kinds[number], field)
            if value is not None:
                found.setdefault(symbol, set()).add(value)
        if found:
            values[name] = {symbol: " ".join(sorted(known)) for symbol, known in sorted(found.items())}
    return values
