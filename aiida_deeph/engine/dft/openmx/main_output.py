"""OpenMX's main output `.out`: version, SCF history, energies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from aiida_deeph.engine.dft.openmx.input_file import parse_input
from aiida_deeph.engine.errors import DataError, InputError

# What OpenMX takes where the input is silent, Hartree.
DEFAULT_CRITERION = 1e-6

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
_STEP = re.compile(rf"^\s+SCF=\s*\d+\s+NormRD=\s*{_NUMBER}\s+Uele=\s*({_NUMBER})", re.MULTILINE)


@dataclass(frozen=True)
class MainOutput:
    """What the `.out` of one run says of its last geometry.

    :param band_energies: Uele after each SCF step, Hartree.
    :param criterion: |change of Uele| at which the density counts as converged, Hartree.
    :param total_energy: Hartree; None if it is not printed.
    :param fermi_energy: Hartree; None if it is not printed.
    """

    path: Path
    version: str
    band_energies: tuple[float, ...]
    criterion: float
    total_energy: float | None
    fermi_energy: float | None

    @property
    def converged(self) -> bool:
        """The last step changed Uele by less than the criterion.

        The first two steps share one density, so that their equal energies prove nothing.
        """
        return len(self.band_energies) > 2 and self.last_change < self.criterion

    @property
    def last_change(self) -> float:
        """|change of Uele| in the last step, Hartree."""
        return abs(self.band_energies[-1] - self.band_energies[-2]) if len(self.band_energies) > 1 else float("inf")


def read_main_output(path: Path) -> MainOutput:
    """Read a `.out`; of several geometries the last counts, to which the `.scfout` belongs.

    :raises InputError: the file is missing or was not written by OpenMX.
    :raises DataError: it ends before the SCF history.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(
            "main output cannot be read", where=path, found=error, expected="NAME.out beside NAME.scfout"
        ) from None
    version = re.search(r"performed by OpenMX Ver\.\s*(\S+)", text)
    if version is None:
        raise InputError("not an OpenMX output", where=path, expected="`performed by OpenMX Ver.`")
    begin = text.rfind("SCF history at MD=")
    if begin < 0:
        raise DataError("OpenMX output is incomplete", where=path, expected="`SCF history at MD=`")
    steps = tuple(float(match.group(1)) for match in _STEP.finditer(text, begin))
    settings = parse_input(text[version.end() : text.find("SCF history at MD=")])
    words = settings.word("scf.criterion", str(DEFAULT_CRITERION)).lower().replace("d", "e")
    energy = re.compile(rf"^\s+Utot\.\s+({_NUMBER})", re.MULTILINE).search(text, begin)
    fermi = re.compile(rf"Chemical potential \(Hartree\)\s+({_NUMBER})").search(text, begin)
    try:
        criterion = float(words)
    except ValueError:
        raise DataError("scf.criterion is no number", where=path, found=words) from None
    return MainOutput(
        path=path,
        version=version.group(1),
        band_energies=steps,
        criterion=criterion,
        total_energy=float(energy.group(1)) if energy else None,
        fermi_energy=float(fermi.group(1)) if fermi else None,
    )
