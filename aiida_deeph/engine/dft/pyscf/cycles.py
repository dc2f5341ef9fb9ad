"""What is kept and said of the cycles of an SCF."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from aiida_deeph.engine.units import HARTREE_TO_EV


class Cycles:
    """The callback of a mean field of PySCF: a line per cycle, and the variables of the last one.

    :param report: receives the lines.
    :cvar GRADIENT_TOLERANCE: largest entry of the orbital gradient at convergence, Hartree. The energy converges with
        its square, the density and thus H only linearly: an energy criterion alone leaves errors of 1e-4 eV in H.
    """

    GRADIENT_TOLERANCE = 1e-6

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report, self.start = report, time.perf_counter()
        self.last: dict[str, Any] = {}

    def __call__(self, variables: dict[str, Any]) -> None:
        self.last = {name: variables[name] for name in ("cycle", "norm_gorb", "h1e", "vhf", "s1e")}
        self.report(
            f"cycle {variables['cycle'] + 1:3d}  E = {variables['e_tot'] * HARTREE_TO_EV:16.8f} eV  "
            f"change {(variables['e_tot'] - variables['last_hf_e']) * HARTREE_TO_EV:10.2e} eV  "
            f"gradient {variables['norm_gorb']:8.2e} Ha  {time.perf_counter() - self.start:7.1f} s"
        )

    def numbers(self) -> dict[str, Any]:
        """For `results.json`."""
        cycles, gradient = int(self.last.get("cycle", -1)) + 1, float(self.last.get("norm_gorb", np.nan))
        return {"scf_cycles": cycles, "orbital_gradient": gradient}
