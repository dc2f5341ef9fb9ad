"""The programs of a label by Quantum ESPRESSO besides pw.x: found on its computer, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.common.exceptions import NotExistent

from aiida_deeph.codes.job import check_computer
from aiida_deeph.codes.label import validate_code
from aiida_deeph.codes.qe.hpro import HproCalculation
from aiida_deeph.engine.dft.qe.code import RECORD
from aiida_deeph.engine.errors import InputError

# Inputs `codes`, and the option of `aiida-deeph setup codes` that registers each.
PROGRAMS = {program.name: program.option for program in RECORD.programs[1:]}


def find_code(name: str, pw: orm.AbstractCode, given: Any = None) -> orm.AbstractCode:
    """One of the other programs on the computer of pw.x: the given one, or the only one that is registered there.

    pw2bgw.x has no plugin of its own: it is told by its executable.

    :param given: a code, or its label, PK or UUID.
    :raises InputError: there is none, or several.
    """
    if isinstance(given, orm.AbstractCode):
        return given
    if given is not None:
        try:
            return orm.load_code(given)
        except (NotExistent, ValueError) as error:
            raise InputError("no such code", where=f"codes.{name}", found=given, expected=str(error)) from None
    query = orm.QueryBuilder().append(orm.Computer, filters={"id": pw.computer.pk}, tag="computer")
    query.append(orm.InstalledCode, with_computer="computer")
    codes = [code for code in query.all(flat=True) if not code.is_hidden and _is(code, name)]
    if len(codes) != 1:
        raise InputError(
            f"several codes could be {name}" if codes else f"no code of {name}",
            where=f"computer {pw.computer.label}",
            found=", ".join(code.full_label for code in codes) or None,
            remedy=f"name one in the overrides: `codes: {{{name}: LABEL}}`"
            if codes
            else f"`aiida-deeph setup codes --computer {pw.computer.label} {PROGRAMS[name]} PATH`",
        )
    return codes[0]


def _is(code: orm.InstalledCode, name: str) -> bool:
    if name == "hpro":
        return code.default_calc_job_plugin == HproCalculation.PLUGIN
    return str(code.filepath_executable).rpartition("/")[2].startswith("pw2bgw")


def check_codes(pw: orm.AbstractCode, codes: Mapping[str, orm.AbstractCode]) -> None:
    """All programs are there, on one computer.

    :raises InputError: one is missing, is another program, or elsewhere.
    """
    for name in PROGRAMS:
        if name not in codes:
            raise InputError("program is missing", where="codes", found=f"no {name}", expected="a code")
        check_computer(codes[name], pw, f"codes.{name}")
    message = validate_code(codes["hpro"], HproCalculation.PLUGIN)
    if message:
        raise InputError(message)
