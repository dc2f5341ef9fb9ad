"""Numbers that explode, places that must not be written, folders of every format: before any work, in one line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.domain.kpoints import automatic_mesh
from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.engine.io.deeph_legacy import write_legacy
from aiida_deeph.engine.observables.dos import DensityOfStates, DosConfig

Write = Callable[..., str]


def refused(arguments: list[str], message: str) -> None:
    started = time.monotonic()
    run = CliRunner().invoke(engine, arguments)
    assert isinstance(run.exception, DeepHError), run.output or run.exception
    assert message in str(run.exception) and "\n" not in str(run.exception)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bands", "--mesh", "1000000", "1", "1"], "far too many k-points"),
        (["bands", "--mesh", "1000000", "1000000", "1"], "far too many k-points"),
        (["bands", "--spacing", "1e-9"], "far too many k-points"),
        (["bands", "--kpath", "G-K-M-G", "--points", "1000000000"], "points_per_segment"),
        (["bands", "--kpath", "G-K", "--workers", "1000000000"], "workers"),
        (["dos", "--mesh", "1000000", "1000000", "1"], "far too many k-points"),
        (["dos", "--points", "1000000000"], "n_points"),
        (["dos", "--method", "kpm", "--vectors", "1000000000"], "n_vectors"),
        (["dos", "--method", "kpm", "--broadening", "1e-9"], "far too many moments"),
        (["dos", "--points", "1000000", "--vectors", "100000"], "not enough memory"),
        (["compare", "{folder}", "--mesh", "1000000", "1", "1"], "far too many k-points"),
    ],
)
def test_numbers_that_explode_are_refused_before_work(
    models: Any, folder: Write, tmp_path: Path, arguments: list[str], message: str
) -> None:
    where = folder(models.graphene())
    name, *options = [word.format(folder=where) for word in arguments]
    refused([name, where, *options, "--output", str(tmp_path / "out.json")], message)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("name", ["bands", "dos", "compare", "unfold"])
@pytest.mark.parametrize("kind", ["link", "device", "folder"])
def test_output_replaces_no_link_device_or_folder(
    models: Any, folder: Write, tmp_path: Path, name: str, kind: str
) -> None:
    where, output = folder(models.graphene()), tmp_path / "out.json"
    (tmp_path / "precious").write_text("mine")
    if kind == "link":
        output.symlink_to(tmp_path / "precious")
    elif kind == "folder":
        output.mkdir()
    else:
        output = Path(os.devnull)
    more = {"compare": [where], "unfold": ["--unfold", where, "--kpath", "G-K"], "bands": ["--kpath", "G-K"], "dos": []}
    refused([name, where, *more[name], "--output", str(output)], "cannot be written there")
    assert (tmp_path / "precious").read_text() == "mine" and Path(os.devnull).is_char_device()


@pytest.mark.parametrize("name", ["bands", "dos", "compare"])
def test_legacy_folders_are_read(models: Any, folder: Write, tmp_path: Path, name: str) -> None:
    data = models.graphene()
    legacy, modern = str(tmp_path / "legacy"), folder(data)
    (tmp_path / "legacy").mkdir()
    write_legacy(Path(legacy), data)
    more = {
        "bands": ["--kpath", "G-K-M"],
        "dos": ["--mesh", "3", "3", "1"],
        "compare": [modern, "--mesh", "3", "3", "1"],
    }
    found = []
    for where in (legacy, modern):
        output = tmp_path / f"{Path(where).name}.json"
        run = CliRunner().invoke(engine, [name, where, *more[name], "--output", str(output)])
        assert run.exit_code == 0, run.exception
        found.append(json.loads(output.read_text()))
    keys = {"bands": ("energies", "fermi_level"), "dos": ("dos", "fermi_level"), "compare": ("bands", "gauge_shift")}
    for key in keys[name]:
        assert found[0][key] == found[1][key]


def test_legacy_folder_of_a_real_run(shared: Path, tmp_path: Path) -> None:
    where = shared / "cases" / "bands_of_legacy_folder" / "graphene_legacy"
    output = tmp_path / "bands.json"
    run = CliRunner().invoke(engine, ["bands", str(where), "--kpath", "G-K", "--points", "2", "--output", str(output)])
    assert run.exit_code == 0, run.exception
    found = json.loads(output.read_text())
    assert (found["n_orbitals"], found["n_occupied"]) == (26, 4)
    assert found["fermi_level"] == pytest.approx(-1.536, abs=0.1)  # where the cones touch, at K
    assert abs(found["energies"][0][-1][3] - found["energies"][0][-1][4]) < 1e-3


def test_density_of_states_is_never_that_of_gamma_alone(models: Any, folder: Write, tmp_path: Path) -> None:
    where, output = folder(models.graphene()), tmp_path / "dos.json"
    found = json.loads(DensityOfStates.run(DosConfig(folder=where, output=str(output))).read_text())
    assert found["mesh"] == list(automatic_mesh(models.graphene(), 2))
    assert min(found["mesh"][:2]) > 9 and found["mesh"][2] == 1
    # A cell so large that no spacing asks for more than one point, and one whose finer mesh would cost too much.
    long = models.ssh_chain(60, -2.9, -2.5)
    config = DosConfig(folder=folder(long, "long"), output=str(tmp_path / "long.json"))
    assert json.loads(DensityOfStates.run(config).read_text())["mesh"] == [2, 1, 1]
    assert automatic_mesh(models.graphene(), 100_000, least=2) == (2, 2, 1)
    # A molecule has no more than one.
    pairs = long.hamiltonian.atom_pairs[:, :3]
    inside = ~pairs.any(axis=1)
    parts = {name: getattr(long, name).selected(inside) for name in ("hamiltonian", "overlap")}
    molecule = models.replace(long, structure=models.replace(long.structure, pbc=(False, False, False)), **parts)
    config = DosConfig(folder=folder(molecule, "molecule"), output=str(tmp_path / "m.json"))
    assert json.loads(DensityOfStates.run(config).read_text())["mesh"] == [1, 1, 1]
    assert np.all(pairs[inside] == 0)
