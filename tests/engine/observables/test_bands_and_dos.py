"""`deeph-engine bands` and `dos` from folder to file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import DataError, DeepHError, InputError
from aiida_deeph.engine.linalg.kpm import gaussian_sum
from aiida_deeph.engine.observables.bands import Bands, BandsConfig
from aiida_deeph.engine.observables.dos import DensityOfStates, DosConfig

Write = Callable[..., str]
OPENMX_HARTREE = 27.2113845
"""eV per Hartree in OpenMX 3.9."""


def bands(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    config = BandsConfig(output=str(tmp_path / "bands.json"), **settings)
    return json.loads(Bands.run(config).read_text())


def dos(tmp_path: Path, **settings: Any) -> dict[str, Any]:
    return json.loads(DensityOfStates.run(DosConfig(output=str(tmp_path / "dos.json"), **settings)).read_text())


def test_graphene_from_the_command_line(models: Any, folder: Write, tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    run = CliRunner().invoke(engine, ["bands", folder(models.graphene()), "--kpath", "G-K-M", "--output", str(output)])
    assert run.exit_code == 0, run.output
    found = json.loads(output.read_text())
    assert np.shape(found["energies"]) == (1, 81, 2)
    assert found["labels"] == [[0, "G"], [40, "K"], [80, "M"]]
    assert found["n_occupied"] == 1
    assert found["fermi_level"] == pytest.approx(
        0, abs=1e-6
    )  # where the cones touch, although no half of a band is flat
    assert found["fermi"]["insulator"] is False
    assert found["distances"][40] == pytest.approx(4 * np.pi / (3 * 2.46))
    assert found["smallest_overlap_eigenvalue"] == pytest.approx(0.7, rel=1e-3)
    assert (found["solver"], found["spin"], found["n_atoms"]) == ("dense", "none", 2)


def test_configuration_file_and_overriding_options(models: Any, folder: Write, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    settings = {"folder": folder(models.graphene()), "mesh": [3, 3, 1], "output": str(tmp_path / "b.json")}
    config.write_text(json.dumps(settings))
    run = CliRunner().invoke(engine, ["bands", str(config)])
    assert run.exit_code == 0, run.output
    found = json.loads((tmp_path / "b.json").read_text())
    assert sum(found["weights"]) == pytest.approx(1)
    assert len(found["kpoints"]) == 5
    run = CliRunner().invoke(
        engine, ["bands", str(config), "--output", str(tmp_path / "c.json"), "--mesh", "1", "1", "1"]
    )
    assert run.exit_code == 0, run.output
    assert len(json.loads((tmp_path / "c.json").read_text())["kpoints"]) == 1


def test_mesh_by_distance(models: Any, folder: Write, tmp_path: Path) -> None:
    where = folder(models.graphene())  # reciprocal vectors of 2.95 / Angstrom
    found = bands(tmp_path, folder=where, spacing=0.75)
    assert found["energies"] == bands(tmp_path, folder=where, mesh=(4, 4, 1))["energies"]
    assert dos(tmp_path, folder=where, spacing=0.75)["mesh"] == [4, 4, 1]
    with pytest.raises(ValueError, match="exactly one of"):
        BandsConfig(folder=where, mesh=(1, 1, 1), spacing=0.1)


def test_listed_kpoints_with_names(models: Any, folder: Write, tmp_path: Path) -> None:
    points = tmp_path / "k.txt"
    points.write_text("0 0 0 G\n0.5 0 0 M\n")
    output = tmp_path / "out.json"
    arguments = ["bands", folder(models.graphene()), "--kpoints", str(points), "--output", str(output)]
    assert CliRunner().invoke(engine, arguments).exit_code == 0
    assert json.loads(output.read_text())["labels"] == [[0, "G"], [1, "M"]]


def test_window_of_bands(models: Any, folder: Write, tmp_path: Path) -> None:
    where = folder(models.ssh_chain(20, -2.9, -2.5))
    full = bands(tmp_path, folder=where, mesh=(2, 1, 1))
    few = bands(tmp_path, folder=where, mesh=(2, 1, 1), num_bands=4)
    assert few["first_band"] == 8
    assert few["energies"][0] == [row[8:12] for row in full["energies"][0]]
    low = bands(tmp_path, folder=where, mesh=(2, 1, 1), num_bands=3, around=-50.0)
    assert low["first_band"] == 0


def test_domain_wall_state_lies_in_the_gap(models: Any, folder: Write, tmp_path: Path) -> None:
    t1, t2 = -2.9, -2.3
    ring = folder(models.ssh_chain(401, t1, t2, wall=True))
    found = dos(tmp_path, folder=ring, mesh=(1, 1, 1), window=(-3, 3), broadening=0.02)
    assert found["fermi_level"] == pytest.approx(0, abs=1e-3)
    grid, values = np.array(found["energies"]), np.array(found["dos"])
    middle = np.abs(grid) < 0.15
    assert np.trapz(values[middle], grid[middle]) == pytest.approx(2, abs=1e-3)  # one state, two spins
    empty = (np.abs(grid) > 0.2) & (np.abs(grid) < abs(t1 - t2) - 0.2)
    assert values[empty].max() < 1e-3
    near = np.array(found["levels_near_fermi"])
    assert np.sort(np.abs(near))[:2] == pytest.approx([0, abs(t1 - t2)], abs=0.02)


def test_dos_counts_electrons_and_elements_add_up(models: Any, folder: Write, tmp_path: Path) -> None:
    where = folder(models.random_crystal(11))
    found = dos(tmp_path, folder=where, mesh=(2, 2, 2), broadening=0.03, n_points=4001)
    grid, values = np.array(found["energies"]), np.array(found["dos"])
    assert np.trapz(values, grid) == pytest.approx(2 * found["n_orbitals"], rel=1e-6)
    assert set(found["dos_by_element"]) == {"Mo", "S"}
    assert np.sum(list(found["dos_by_element"].values()), axis=0) == pytest.approx(values, abs=1e-9)
    assert np.trapz(found["dos_by_element"]["Mo"], grid) == pytest.approx(2 * 7, rel=1e-6)  # Mulliken: all its orbitals
    below = grid < found["fermi_level"]
    assert np.trapz(values[below], grid[below]) == pytest.approx(20, abs=0.5)


def test_collinear_spins_are_apart(models: Any, folder: Write, tmp_path: Path) -> None:
    where = folder(models.random_crystal(12, SpinMode.COLLINEAR))
    found = dos(tmp_path, folder=where, mesh=(1, 2, 1))
    assert np.shape(found["dos_by_spin"]) == (2, 1001)
    assert np.sum(found["dos_by_spin"], axis=0) == pytest.approx(found["dos"])
    assert np.trapz(found["dos"], found["energies"]) == pytest.approx(2 * found["n_orbitals"], rel=1e-3)
    assert np.shape(bands(tmp_path, folder=where, kpoints=[(0.1, 0, 0)])["energies"]) == (2, 1, found["n_orbitals"])


def test_sparse_equals_exact_inside_the_window(models: Any, folder: Write, tmp_path: Path) -> None:
    where = folder(models.random_crystal(13, n_atoms=24, cutoff=3.0, stretch=4))
    common = {"folder": where, "mesh": (2, 1, 1), "window": (-1, 1.5), "n_electrons": 60, "n_points": 101}
    exact, sparse = (dos(tmp_path, **common, method=method) for method in ("exact", "sparse"))
    assert sparse["method"] == "sparse"
    assert sparse["energies"] == pytest.approx(exact["energies"], abs=1e-7)
    for name in ("dos", "levels_near_fermi"):
        assert sparse[name] == pytest.approx(exact[name], rel=1e-5, abs=1e-5)
    for element in ("Mo", "S"):
        assert sparse["dos_by_element"][element] == pytest.approx(exact["dos_by_element"][element], rel=1e-4, abs=1e-5)
    with pytest.raises(InputError, match="whole spectrum by the sparse solver"):
        dos(tmp_path, folder=where, method="sparse")


def test_gaussians_are_normalised() -> None:
    grid = np.linspace(-2, 2, 2001)
    total = gaussian_sum(grid, [0.0, 0.5], [1.0, 3.0], 0.1)
    assert np.trapz(total, grid) == pytest.approx(4)
    assert total[1250] == pytest.approx(3 / (0.1 * np.sqrt(2 * np.pi)), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kpath": "G-A"}, "leaves the Brillouin zone"),
        ({"mesh": (1, 1, 2)}, "dimensionality"),
        ({"kpoints": [(0, 0, 0.1)]}, "dimensionality"),
        ({"mesh": (1, 1, 1), "num_bands": 3}, "more bands than orbitals"),
        ({"mesh": (1, 1, 1), "solver": "sparse"}, "cannot give all bands"),
        ({"mesh": (1, 1, 1), "n_electrons": 10}, "do not fit"),
        ({"kpoints": [(0, 0, 0)], "labels": [(1, "X")]}, "k-points are wrong"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(
    models: Any, folder: Write, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    where = folder(models.graphene())
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=message) as caught:
        bands(tmp_path, folder=where, **settings)
    assert "\n" not in str(caught.value)
    assert set(tmp_path.iterdir()) == before


def test_window_around_an_unknown_fermi_level(models: Any, folder: Write, tmp_path: Path) -> None:
    where = folder(models.replace(models.graphene(), n_electrons=None, fermi_energy=0.25))
    found = bands(tmp_path, folder=where, mesh=(1, 1, 1))
    assert (found["fermi_level"], found["n_occupied"], found["dft_fermi_level"]) == (None, None, 0.25)
    with pytest.raises(InputError, match="Fermi level unknown"):
        bands(tmp_path, folder=where, mesh=(1, 1, 1), num_bands=1)
    with pytest.raises(InputError, match="window without a Fermi level"):
        dos(tmp_path, folder=where, window=(-1, 1))


def test_empty_window_and_missing_parts(models: Any, folder: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="energy window without states"):
        dos(tmp_path, folder=folder(models.graphene()), window=(40, 50))
    with pytest.raises(DataError, match="no overlap"):
        bands(tmp_path, folder=folder(models.replace(models.graphene(), overlap=None), "h"), mesh=(1, 1, 1))
    with pytest.raises(DataError, match="no Hamiltonian"):
        bands(tmp_path, folder=folder(models.replace(models.graphene(), hamiltonian=None), "s"), mesh=(1, 1, 1))
    with pytest.raises(DeepHError, match="not found"):
        bands(tmp_path, folder=str(tmp_path / "nowhere"), mesh=(1, 1, 1))


def test_too_little_memory_is_refused(
    models: Any, folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiida_deeph.engine.system.available_memory", lambda: 100)
    with pytest.raises(DataError, match=r"not enough memory.*GiB"):
        bands(tmp_path, folder=folder(models.graphene()), mesh=(1, 1, 1))
    assert not (tmp_path / "bands.json").exists()


def read_openmx_bands(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """k-points (n_k, 3) and energies (n_k, n_bands) in Hartree of a spinless .Band file."""
    lines = path.read_text().splitlines()
    numbers = " ".join(lines[3 + int(lines[2]) :]).split()
    width = int(numbers[0]) + 4
    table = np.array(numbers, dtype=float).reshape(-1, width)
    return table[:, 1:4], table[:, 4:]


def test_twisted_bilayer_equals_openmx(shared: Path, tmp_path: Path) -> None:
    where = shared / "fixtures" / "bilayer-graphene" / "twisted_28"
    kpoints, reference = read_openmx_bands(where / "openmx.Band")
    chosen = [0, 5, 11]
    found = bands(tmp_path, folder=str(where), kpoints=kpoints[chosen].tolist(), n_electrons=112, fermi_mesh=(3, 3, 1))
    difference = np.abs(np.array(found["energies"][0]) - OPENMX_HARTREE * reference[chosen])
    assert difference[:, :66].max() < 2e-6  # occupied bands and the ten lowest empty ones
    assert difference.max() < 5e-3  # the highest: rounding of H to float32 over the smallest eigenvalue of S
    assert found["fermi_level"] == pytest.approx(found["dft_fermi_level"], abs=5e-3)


def test_threads_are_known_before_the_linear_algebra_is_loaded() -> None:
    import subprocess
    import sys

    program = "import sys; import aiida_deeph.engine.cli.main; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
