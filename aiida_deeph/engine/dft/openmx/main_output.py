"""OpenMX's main output `.out`: version, SCF history, energies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from aiida_deeph.engine.dft.openmx.input_file import parse_input
from aiida_deeph.engine.errors import DataError, InputError

# What OpenMX takes where the input is silent: Hartree, and steps.
DEFAULT_CRITERION, DEFAULT_STEPS = 1e-6, 40

_NUMBER = r"[-+]?\d+\.\d+(?:[EeDd][-+]?\d+)?"
_STEP = re.compile(rf"^\s+SCF=\s*\d+\s+NormRD=\s*({_NUMBER})\s+Uele=\s*({_NUMBER})", re.MULTILINE)


@dataclass(frozen=True)
class MainOutput:
    """What the `.out` of one run says of its last geometry.

    :param band_energies: Uele after each SCF step, Hartree.
    :param residuals: NormRD, what the step changed in the density, after each SCF step.
    :param criterion: |change of Uele| at which the density counts as converged, Hartree.
    :param max_steps: SCF steps that the input allows.
    :param total_energy: Hartree; None if it is not printed.
    :param fermi_energy: Hartree; None if it is not printed.
    """

    path: Path
    version: str
    band_energies: tuple[float, ...]
    residuals: tuple[float, ...]
    criterion: float
    max_steps: int
    total_energy: float | None
    fermi_energy: float | None

    @property
    def converged(self) -> bool:
        """The last step changed Uele by less than the criterion, and OpenMX stopped by itself, not by `scf.maxIter`.

        OpenMX also asks that NormRD be below ten times the criterion, but what it prints under that name is another
        quantity with some kinds of mixing (Simple, GR-Pulay): it counts only at the last step that was allowed. The
        first two steps share one density, so that their equal energies prove nothing.
        """
        steady = len(self.band_energies) > 2 and self.last_change < self.criterion
        return steady and (len(self.band_energies) < self.max_steps or self.residual < 10 * self.criterion)

    @property
    def last_change(self) -> float:
        """|change of Uele| in the last step, Hartree."""
        return abs(self.band_energies[-1] - self.band_energies[-2]) if len(self.band_energies) > 1 else float("inf")

    @property
    def residual(self) -> float:
        """NormRD of the last step."""
        return self.residuals[-1] if self.residuals else float("inf")


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
    return parse_main_output(text, path)


def parse_main_output(text: str, path: Path) -> MainOutput:
    """Parse the text of a `.out`.

    :param path: of the file, for messages.
    :raises InputError: it was not written by OpenMX.
    :raises DataError: it ends before the SCF history.
    """
    version = re.search(r"performed by OpenMX Ver\.\s*(\S+)", text)
    if version is None:
        raise InputError("not an OpenMX output", where=path, expected="`performed by OpenMX Ver.`")
    begin = text.rfind("SCF history at MD=")
    if begin < 0:
        raise DataError("OpenMX output is incomplete", where=path, expected="`SCF history at MD=`")
    steps = [(float(match.group(1)), float(match.group(2))) for match in _STEP.finditer(text, begin)]
    settings = parse_input(text[version.end() : text.find("SCF history at MD=")])
    words = settings.word("scf.criterion", str(DEFAULT_CRITERION)).lower().replace("d", "e")
    energy = re.compile(rf"^\s+Utot\.\s+({_NUMBER})", re.MULTILINE).search(text, begin)
    fermi = re.compile(rf"Chemical potential \(Hartree\)\s+({_NUMBER})").search(text, begin)
    steps_allowed = settings.word("scf.maxiter", str(DEFAULT_STEPS))
    try:
        criterion, max_steps = float(words), int(steps_allowed)
    except ValueError:
        found = f"{words}, {steps_allowed}"
        raise DataError("scf.criterion or scf.maxIter is no number", where=path, found=found) from None
    return MainOutput(
        path=path,
        version=version.group(1),
        band_energies=tuple(energy for _, energy in steps),
        residuals=tuple(residual for residual, _ in steps),
        criterion=criterion,
        max_steps=max_steps,
        total_energy=float(energy.group(1)) if energy else None,
        fermi_energy=float(fermi.group(1)) if fermi else None,
    )
