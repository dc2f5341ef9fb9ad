"""Damaged DeepH folders, new and legacy: refused, caught by a gate, or without effect; seeded.

Every trial flips bits, cuts, or loses or doubles a line of one file. What is accepted although something changed are
digits that are too small for a gate, and values that nothing else tells (the Fermi level, the number of electrons,
metadata, pbc): a dataset's hashes catch them.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.domain.checks import run_gates
from aiida_deeph.engine.domain.gate import failures
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.io.deeph_legacy import write_legacy
from aiida_deeph.engine.preprocess.source import read_source
from tests.engine.chain import gaussian_chain

TRIALS = 200
# What gates cannot know of is worth this much at most, eV and without unit.
SMALL = 2e-2


def damage(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    lines = bytes(content).split(b"\n")
    how = rng.integers(4) if path.suffix != ".h5" else rng.integers(2)
    if how == 0:
        for place in rng.integers(len(content), size=rng.integers(1, 4)):
            content[place] ^= 1 << int(rng.integers(8))
    elif how == 1:
        content = content[: rng.integers(len(content))]
    else:
        place = int(rng.integers(len(lines)))
        lines[place : place + 1] = [] if how == 2 else [lines[place]] * 2
        content = bytearray(b"\n".join(lines))
    path.write_bytes(bytes(content))


def difference(found: RealSpaceHamiltonian, data: RealSpaceHamiltonian) -> float:
    """Largest change of a position or a matrix element; infinite if they cannot be compared."""
    worst = 0.0
    for name in ("hamiltonian", "overlap"):
        one, other = getattr(found, name), getattr(data, name)
        if one is None or not np.array_equal(one.atom_pairs, other.atom_pairs):
            return np.inf
        worst = max(worst, float(np.abs(one.entries - other.entries).max()))
    lengths = [np.concatenate([d.structure.positions, d.structure.cell]) for d in (found, data)]
    if found.structure.symbols != data.structure.symbols or lengths[0].shape != lengths[1].shape:
        return np.inf
    return max(worst, float(np.abs(lengths[0] - lengths[1]).max()))


@pytest.mark.parametrize("kind", ["deeph", "deeph_legacy"])
def test_a_damaged_folder_is_refused_or_caught_by_a_gate(tmp_path: Path, kind: str) -> None:
    data = replace(gaussian_chain(), fermi_energy=-3.0)
    (write_deeph if kind == "deeph" else write_legacy)(tmp_path / "good", data)
    data = read_source(kind, tmp_path / "good")
    rng = np.random.default_rng(11)
    names = sorted(path.name for path in (tmp_path / "good").iterdir())
    outcomes = {"refused": 0, "gate": 0, "no effect": 0, "small": 0}
    missed = []
    for trial in range(TRIALS):
        folder = tmp_path / "bad"
        shutil.copytree(tmp_path / "good", folder)
        name = names[int(rng.integers(len(names)))]
        damage(folder / name, rng)
        try:
            found = read_source(kind, folder)
            if failures(run_gates(found)):
                outcomes["gate"] += 1
            elif (off := difference(found, data)) == 0:
                outcomes["no effect"] += 1
            elif off < SMALL:
                outcomes["small"] += 1
            else:
                missed.append((trial, name, off))
        except DeepHError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
        shutil.rmtree(folder)
    assert outcomes["refused"] + outcomes["gate"] > TRIALS / 2, outcomes
    assert len(missed) <= TRIALS / 50, (outcomes, missed)
