"""Levels of molecules: occupations, gap, dipole and orbitals, against PySCF."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io.cube import read_cube_data
from click.testing import CliRunner

pytest.importorskip("pyscf")

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.reader import PyscfReader
from aiida_deeph.engine.dft.pyscf.runner import run_pyscf
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.io.structure import write_structure
from aiida_deeph.engine.observables.levels import Levels, LevelsConfig

POSITIONS = np.array([[0.3, 0.0, -0.1], [0.0, 0.1, 1.05]])


@pytest.fixture
def molecule(tmp_path: Path) -> Any:
    def make(**settings: Any) -> tuple[Path, dict[str, Any]]:
        structure = Structure(("O", "H"), POSITIONS, np.eye(3) * 20, (False,) * 3)
        write_structure(tmp_path / "structure.xyz", structure)
        config = PyscfConfig(**{"basis": "6-31g", "pseudo": None, "grid_level": 1, **settings})
        results = run_pyscf(config, tmp_path, report=lambda line: None)
        write_deeph(tmp_path / "deeph", PyscfReader().read(tmp_path))
        return tmp_path / "deeph", results

    return make


@pytest.mark.parametrize(
    "settings", [{"charge": -1}, {"charge": 1, "unpaired_electrons": 2}, {"unpaired_electrons": 3}]
)
def test_equals_the_run(molecule: Any, tmp_path: Path, settings: dict[str, int]) -> None:
    """Ions, open shells and excited spins: the folder records how many electrons are unpaired."""
    folder, results = molecule(**settings)
    values = json.loads(Levels.run(LevelsConfig(folder=str(folder), output=str(tmp_path / "l.json"))).read_text())
    assert values["dipole"] == pytest.approx(results["dipole"], abs=2e-5)
    assert (values["homo"], values["lumo"]) == pytest.approx((results["homo"], results["lumo"]), abs=1e-4)
    assert np.sum(values["occupations"]) == values["n_electrons"] == results["n_electrons"]
    assert values["charge"] == results["charge"]


def test_orbitals(molecule: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = molecule(charge=-1)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(engine, ["levels", str(folder), "--cubes", "--spacing", "0.2"], catch_exceptions=False)
    assert result.exit_code == 0 and "HOMO" in result.output and "dipole" in result.output
    psi, atoms = read_cube_data("lumo.cube")
    assert np.abs(atoms.positions - POSITIONS).max() < 1e-4
    assert (psi**2).sum() * 0.2**3 == pytest.approx(1.0, abs=0.1)


def test_refusals(molecule: Any, tmp_path: Path) -> None:
    folder, _ = molecule(charge=-1)
    info = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps({**info, "occupation": None}))
    with pytest.raises(InputError, match="number of electrons unknown"):
        Levels.run(LevelsConfig(folder=str(folder), output=str(tmp_path / "l.json")))
    (folder / "info.json").write_text(json.dumps({**info, "pbc": [True, True, True]}))
    with pytest.raises(InputError, match=r"levels of another kind of structure.*a molecule"):
        Levels.run(LevelsConfig(folder=str(folder), output=str(tmp_path / "l.json")))
    (folder / "info.json").write_text(json.dumps({**info, "metadata": {}}))
    config = LevelsConfig(folder=str(folder), output=str(tmp_path / "l.json"))
    assert "dipole" not in json.loads(Levels.run(config).read_text())
    with pytest.raises(InputError, match="orbitals of an unknown basis"):
        Levels.run(config.model_copy(update={"cubes": True}))
