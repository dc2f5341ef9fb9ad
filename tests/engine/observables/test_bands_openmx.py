"""Bands and Fermi levels of four real OpenMX runs: metal, semiconductor, spin-orbit coupling, ferromagnet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.dft.openmx.band_file import parse_bands
from aiida_deeph.engine.dft.openmx.code import OPENMX
from aiida_deeph.engine.dft.openmx.reader import OpenmxReader
from aiida_deeph.engine.observables.bands import Bands, BandsConfig

MESHES = {"graphene": (9, 9, 1), "mos2": (7, 7, 1), "bi_soc": (5, 5, 1), "fe_collinear": (7, 7, 7)}


@pytest.mark.parametrize("name", MESHES)
def test_bands_and_fermi_level_equal_openmx(
    shared: Path, folder: Callable[..., str], tmp_path: Path, name: str
) -> None:
    source = shared / "fixtures" / "openmx" / name
    where = folder(OpenmxReader().read(source))
    reference = parse_bands((source / "openmx.Band").read_text())
    exact = OPENMX.hartree * reference.energies
    common = {"folder": where, "kpoints": reference.kpoints.tolist(), "output": str(tmp_path / "bands.json")}

    dense = json.loads(Bands.run(BandsConfig(**common, fermi_mesh=MESHES[name])).read_text())
    assert np.abs(np.array(dense["energies"]) - exact).max() < 1e-6
    assert dense["fermi"]["insulator"] == (name in ("mos2", "bi_soc"))
    if dense["fermi"]["insulator"]:
        assert dense["fermi"]["valence_maximum"] < dense["dft_fermi_level"] < dense["fermi"]["conduction_minimum"]
    else:
        assert dense["fermi_level"] == pytest.approx(dense["dft_fermi_level"], abs=5e-3)

    sparse = BandsConfig(**common, solver="sparse", num_bands=6, around=dense["fermi_level"], fermi_mesh=(1, 1, 1))
    found = json.loads(Bands.run(sparse).read_text())
    first = found["first_band"]
    assert np.abs(np.array(found["energies"]) - exact[:, :, first : first + 6]).max() < 1e-6
    assert found["smallest_overlap_eigenvalue"] > 0
