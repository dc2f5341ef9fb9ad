"""What CP2K printed of its runs."""

from __future__ import annotations

import re

import numpy as np

from aiida_deeph.engine.orbitals.gaussian import GaussianBasis, GaussianShells


def basis_of_output(text: str) -> GaussianBasis:
    """The basis as the main output prints it, with six decimals."""
    from pyscf.gto.mole import gto_norm

    shells: dict[str, tuple[GaussianShells, ...]] = {}
    for part in re.split(r"\n +\d+\. Atomic kind: ", text[text.index("BASIS SET INFORMATION") :])[1:]:
        symbol = part.split()[0]
        if symbol in shells:
            break
        tables: list[tuple[int, list[list[float]]]] = []
        for line in part.splitlines():
            words = line.split()
            if re.fullmatch(r"(\s+\d+){4}(\s+-?\d+\.\d+){2}", line):
                tables.append((int(words[3]), []))
            if re.fullmatch(r"(\s+\d+){0,4}(\s+-?\d+\.\d+){2}", line) and tables:
                tables[-1][1].append([float(w) for w in words[-2:]])
        shells[symbol] = tuple(
            GaussianShells(l, np.array(t)[:, 0], np.array(t)[:, 1:] / gto_norm(l, np.array(t)[:, 0])[:, None])
            for l, t in tables
        )
    return GaussianBasis(shells)
