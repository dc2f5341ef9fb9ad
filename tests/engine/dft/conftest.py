"""Real runs: PySCF's are made here, those of the other codes lie packed in fixtures."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.domain.structure import Structure

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture
def cp2k_run(tmp_path: Path) -> Callable[[str], Path]:
    """Function: unpack a CP2K run of the fixtures into a folder of its own."""

    def unpack(name: str) -> Path:
        folder = tmp_path / name
        with tarfile.open(FIXTURES / "cp2k" / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        return folder

    return unpack


@pytest.fixture
def openmx_run(tmp_path: Path) -> Callable[[str], Path]:
    """Function: unpack an OpenMX run of the fixtures into a folder of its own."""

    def unpack(name: str) -> Path:
        with tarfile.open(FIXTURES / "openmx" / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
        for path in [tmp_path / name, *(tmp_path / name).iterdir()]:
            path.chmod(0o755 if path.is_dir() else 0o644)  # they are packed read-only
        return tmp_path / name

    return unpack


@pytest.fixture
def siesta_run(tmp_path: Path) -> Callable[..., Path]:
    """Function: unpack a SIESTA run of the fixtures, with the matrices in one or more of the layouts that it has."""

    def unpack(name: str, *variants: str) -> Path:
        folder = tmp_path / "-".join([name, *variants])
        with tarfile.open(FIXTURES / "siesta" / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        for path in [folder / name, *(folder / name).rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        for variant in variants:
            label = next((folder / name).glob("*.fdf")).stem
            kind = "TSHS" if variant == "TSHS" else "HSX"
            (folder / name / "variants" / variant).rename(folder / name / f"{label}.{kind}")
        return folder / name

    return unpack


@pytest.fixture
def abacus_run(tmp_path: Path) -> Callable[..., Path]:
    """Function: unpack an ABACUS run of the fixtures, one part of it (`scf`, ..), laid out as ABACUS leaves it."""

    def unpack(name: str, part: str) -> Path:
        root = tmp_path / f"{name}-{part}"
        with tarfile.open(FIXTURES / "abacus" / f"{name}.tar.xz") as archive:
            archive.extractall(root, filter="data")
        for path in [root / name, *(root / name).rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        run, output = root / "run", root / "run" / "OUT.ABACUS"
        run.mkdir()
        (root / name / part).rename(output)
        (output / "INPUT").rename(run / "INPUT")
        stru = output / "STRU" if (output / "STRU").exists() else root / name / "STRU"
        stru.rename(run / "STRU")
        return run

    return unpack


@pytest.fixture
def qe_run(tmp_path: Path) -> Callable[[str], Path]:
    """Function: unpack a label of Quantum ESPRESSO and HPRO of the fixtures."""

    def unpack(name: str) -> Path:
        with tarfile.open(FIXTURES / "qe" / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
        return tmp_path / name

    return unpack


@pytest.fixture(scope="session")
def zigzag() -> Structure:
    """C2H2, a zigzag chain along x with a bond alternation and no symmetry."""
    positions = np.array([[0.03, 0.35, 0.02], [-0.05, 1.44, -0.03], [1.28, -0.33, 0.05], [1.21, -1.42, 0.01]])
    return Structure(("C", "H", "C", "H"), positions, np.diag([2.48, 9.0, 8.0]), (True, False, False))
