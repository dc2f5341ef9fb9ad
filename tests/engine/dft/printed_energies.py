"""Eigenvalues and k-points that programs print, for comparison: no product reads these files."""

from __future__ import annotations

import re

import numpy as np


def istate_info(text: str) -> tuple[np.ndarray, np.ndarray]:
    """k-points (fractional) and energies of ABACUS's `istate.info`, shapes (n_k, 3) and (n_spins, n_k, n_bands), eV."""
    kpoints, energies = [], []
    for part in re.split(r"^BAND\b", text, flags=re.MULTILINE)[1:]:
        header, *lines = part.splitlines()
        kpoints.append([float(x) for x in re.search(r"\(([^()]*)\)\s*$", header)[1].split()])
        energies.append([[float(x) for x in line.split()[1::2]] for line in lines if line.strip()])
    return np.array(kpoints), np.array(energies).transpose(2, 0, 1)


def kpt_list(text: str) -> np.ndarray:
    """k-points of ABACUS's KPT with a list (`Direct`), fractional, shape (n_k, 3)."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert lines[2][0] == "Direct"
    return np.array([[float(x) for x in row[:3]] for row in lines[3 : 3 + int(lines[1][0])]])


def eig(text: str) -> tuple[float, np.ndarray]:
    """Fermi level and energies of SIESTA's `.EIG`, eV, shape (n_spins, n_k, n_bands).

    The header of a noncollinear run says 4 or 8 spins and half the bands: it holds one set per k-point all the same.
    """
    fermi, *words = text.split()
    n_bands, n_spins, n_kpoints = map(int, words[:3])
    n_sets = n_spins if n_spins <= 2 else 1
    values = np.array(words[3:], dtype=np.float64).reshape(n_kpoints, 1 + n_bands * n_sets)[:, 1:]
    return float(fermi), values.reshape(n_kpoints, n_sets, n_bands).transpose(1, 0, 2)


def kp(text: str) -> np.ndarray:
    """k-points of SIESTA's `.KP`, 1 / Bohr, shape (n_k, 3)."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert len(lines) == 1 + int(lines[0][0])
    return np.array([row[1:4] for row in lines[1:]], dtype=np.float64)
