"""Files of numerical orbitals with made-up functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


def pao_text(functions: dict[int, list[float]], end: float, valence: float) -> str:
    """Text of a `.pao` file.

    :param functions: l -> exponent of each function r^l exp(-a r^2), which a smooth step brings to zero.
    :param end: where the functions end, Bohr.
    """
    x = np.linspace(np.log(1e-3), np.log(1.3 * end), 700)
    r = np.exp(x)
    step = np.where(r < end, (1 - np.minimum(r / end, 1) ** 2) ** 3, 0.0)
    lines = [f"valence.electron {valence}", f"PAO.Lmax {max(functions)}", "PAO.Mul 2"]
    for l, exponents in functions.items():
        columns = []
        for a in exponents:
            values = r**l * np.exp(-a * r**2) * step
            columns.append(values / np.sqrt((values**2 * r**3).sum() * (x[1] - x[0])))
        lines.append(f"<pseudo.atomic.orbitals.L={l}")
        lines += [" ".join(f"{v:20.15f}" for v in row) for row in np.column_stack([x, r, *columns])]
        lines.append(f"pseudo.atomic.orbitals.L={l}>")
    return "\n".join(lines) + "\n"


@pytest.fixture
def pao_folder(tmp_path: Path) -> Path:
    """Orbitals C3.5 (s p d f, two of each) and H4.0 (s p) with their pseudopotentials' charges."""
    folder = tmp_path / "pao"
    folder.mkdir()
    carbon = {0: [0.4, 1.1], 1: [0.5, 1.2], 2: [0.7, 1.4], 3: [0.9, 1.6]}
    (folder / "C3.5.pao").write_text(pao_text(carbon, 3.5, 4.0))
    (folder / "H4.0.pao").write_text(pao_text({0: [0.3, 0.9], 1: [0.6, 1.0]}, 4.0, 1.0))
    (folder / "C_PBE19.vps").write_text("total.electron 6.0\nvalence.electron    4.0\n")
    (folder / "H_PBE19.vps").write_text("total.electron 1.0\nvalence.electron    1.0\n")
    return folder


@pytest.fixture
def write_pao() -> Callable[[dict[int, list[float]], float, float], str]:
    """Function: `pao_text`."""
    return pao_text
