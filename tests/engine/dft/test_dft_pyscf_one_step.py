"""One step from a Hamiltonian: zero residual at self-consistency, energies around the converged one, starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyscf")

from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.one_step import Calculation, difference, one_step
from aiida_deeph.engine.dft.pyscf.reader import PyscfReader
from aiida_deeph.engine.dft.pyscf.runner import run_pyscf
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DataError
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.io.structure import write_structure

# Atoms of one element not side by side: a DeepH folder holds them in another order.
POSITIONS = np.array([[0.0, 0.76, -0.48], [0.0, 0.0, 0.12], [0.1, -0.76, -0.48]])
WATER = Structure(("H", "O", "H"), POSITIONS, np.eye(3) * 20, (False,) * 3)
SETTINGS: dict[str, dict[str, Any]] = {
    "molecule": {"basis": "6-31g", "pseudo": None, "grid_level": 1, "xc": "pbe0"},
    "ion": {"basis": "6-31g", "pseudo": None, "grid_level": 1, "charge": 1, "unpaired_electrons": 1},
    "chain": {"ke_cutoff": 20.0, "kmesh": (5, 1, 1)},
}


@pytest.fixture(scope="module", params=sorted(SETTINGS))
def run(request: Any, tmp_path_factory: pytest.TempPathFactory, zigzag: Structure) -> tuple[Path, PyscfConfig, Any]:
    folder = tmp_path_factory.mktemp("run")
    write_structure(folder / "structure.xyz", zigzag if request.param == "chain" else WATER)
    config = PyscfConfig(**SETTINGS[request.param])
    return folder, config, run_pyscf(config, folder, report=lambda line: None)


def noisy(data: RealSpaceHamiltonian, size: float) -> RealSpaceHamiltonian:
    assert data.hamiltonian is not None
    off = np.random.default_rng(0).normal(scale=size, size=len(data.hamiltonian.entries))
    off = np.where(data.hamiltonian.entries == 0, 0, off)  # no mixing of spins
    return replace(data, hamiltonian=data.hamiltonian + data.hamiltonian.with_entries(off).hermitian_part())


def test_converged_h_is_that_of_its_own_density(run: Any) -> None:
    folder, config, results = run
    step = one_step(PyscfReader().read(folder), config)
    assert step.numbers()["residual_max"] < 1e-4
    assert step.energy == pytest.approx(results["energy"], abs=1e-7)
    assert step.harris_energy == pytest.approx(results["energy"], abs=1e-7)


def test_energies_enclose_the_converged_one(run: Any) -> None:
    """A Hamiltonian that is off by 10 meV: the energy of its density lies above, Harris and Foulkes' lies nearer."""
    folder, config, results = run
    data = PyscfReader().read(folder)
    step = one_step(noisy(data, 1e-2), config)
    above, harris = step.energy - results["energy"], step.harris_energy - results["energy"]
    assert 1e-5 < above < 0.05 and abs(harris) < above
    smaller = one_step(noisy(data, 1e-3), config)
    assert smaller.energy - results["energy"] == pytest.approx(above / 100, rel=0.3)  # second order
    assert smaller.numbers()["residual_mean"] < 0.2 * step.numbers()["residual_mean"]


def test_scf_starts_from_a_folder(run: Any) -> None:
    folder, config, results = run
    write_deeph(folder / "start", noisy(PyscfReader().read(folder), 1e-4))
    again = run_pyscf(config.model_copy(update={"start": "start"}), folder, report=lambda line: None)
    assert again["scf_cycles"] < results["scf_cycles"] and again["start"] == "hamiltonian"
    assert again["energy"] == pytest.approx(results["energy"], abs=1e-7)
    assert again["first_step"]["energy"] >= results["energy"] - 1e-9
    assert again["settings"] == results["settings"]


def test_own_start_is_far_from_convergence(run: Any) -> None:
    folder, config, _ = run
    data = PyscfReader().read(folder)
    start = Calculation(data.structure, config).start_hamiltonian()
    assert start.hamiltonian is not None and data.hamiltonian is not None
    off = np.abs(difference(start.hamiltonian, data.hamiltonian, data.rows_per_atom).entries)
    assert 0.01 < off.mean() < 0.2 * np.abs(data.hamiltonian.entries).mean()


def test_refusals(run: Any) -> None:
    folder, config, _ = run
    data = PyscfReader().read(folder)
    moved = replace(data, structure=replace(data.structure, positions=data.structure.positions + 0.1))
    calculation = Calculation(data.structure, config)
    with pytest.raises(DataError, match="H is of another structure"):
        calculation.step(moved)
    with pytest.raises(DataError, match="no Hamiltonian"):
        calculation.step(replace(data, hamiltonian=None))
    other = Calculation(data.structure, config.model_copy(update={"basis": "gth-dzvp" if config.pseudo else "sto-3g"}))
    with pytest.raises(DataError, match="H is of another basis"):
        other.step(data)
