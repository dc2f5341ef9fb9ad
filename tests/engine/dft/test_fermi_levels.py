"""Fermi levels from the electrons on the k-mesh of each run, against those of the DFT codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aiida_deeph.engine.dft.base import get_reader
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.observables.bands import Bands, BandsConfig

KELVIN = 8.617333e-5
RYDBERG = 13.605693
# Gaussian smearing of width w spreads as much as a Fermi-Dirac distribution of sqrt(3/2) / pi w: equal second moments.
GAUSSIAN = 0.38985
# Code, run: mesh, width of the Fermi-Dirac distribution in eV; None: an insulator, whose level is anywhere in the gap.
RUNS = {
    ("siesta", "graphene"): ((9, 9, 1), 300 * KELVIN),
    ("siesta", "fe"): ((6, 6, 6), 1000 * KELVIN),
    ("siesta", "fenc"): ((4, 4, 4), 1000 * KELVIN),
    ("siesta", "si"): ((4, 4, 4), None),
    ("abacus", "graphene"): ((9, 9, 1), GAUSSIAN * 0.01 * RYDBERG),
    ("abacus", "fe_nspin2"): ((6, 6, 6), GAUSSIAN * 0.01 * RYDBERG),
    ("abacus", "gaas_soc_mag"): ((3, 3, 3), GAUSSIAN * 0.01 * RYDBERG),
    ("cp2k", "bn_chain"): ((3, 1, 1), 300 * KELVIN),
}


@pytest.mark.parametrize(("code", "name"), RUNS)
def test_level_is_that_of_the_code(
    siesta_run: Callable[..., Path],
    abacus_run: Callable[..., Path],
    cp2k_run: Callable[..., Path],
    tmp_path: Path,
    code: str,
    name: str,
) -> None:
    run = {"siesta": lambda: siesta_run(name, "v2.HSX"), "abacus": lambda: abacus_run(name, "scf")}
    data = get_reader(code).read(run.get(code, lambda: cp2k_run(name))())
    write_deeph(tmp_path / "deeph", data)
    mesh, smearing = RUNS[code, name]
    settings = {} if smearing is None else {"smearing": smearing}
    config = BandsConfig(folder=str(tmp_path / "deeph"), mesh=mesh, output=str(tmp_path / "b.json"), **settings)
    found = json.loads(Bands.run(config).read_text())
    fermi = found["fermi"]
    assert fermi["insulator"] == (smearing is None)
    if smearing is None:
        assert fermi["valence_maximum"] - 1e-3 < data.fermi_energy < fermi["conduction_minimum"] + 1e-3
    else:
        assert found["fermi_level"] == pytest.approx(data.fermi_energy, abs=5e-3)
