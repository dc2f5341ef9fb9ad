"""What every registered observable keeps, and that a new one needs one file and one line."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from aiida.plugins import ParserFactory
from click.testing import CliRunner

from aiida_deeph.calculations import observable as calculations
from aiida_deeph.engine.cli.main import engine
from aiida_deeph.engine.cli.observable import field_texts
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.domain.kpoints import mesh_kpoints
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.linalg import kpoint_loop
from aiida_deeph.engine.linalg.kpoint_loop import Loop
from aiida_deeph.engine.observables.base import MAIN, Observable, ObservableConfig
from aiida_deeph.engine.observables.registry import OBSERVABLES, Entry, load_observable

ROOT = Path(__file__).parents[2] / "aiida_deeph"
# What an observable needs besides the folder, in words of its command.
ARGUMENTS = {
    "bands": ["--kpath", "G-X", "--points", "4"],
    "dos": ["--mesh", "4", "1", "1", "--points", "21"],
    "compare": ["{folder}", "--kpath", "G-X", "--points", "4"],
    "unfold": ["--unfold", "{folder}", "--kpath", "G-X", "--points", "4"],
    "levels": [],
    "toy": ["--power", "2"],
}


class ToyConfig(ObservableConfig):
    """Mean of a power of all eigenvalues of H at Gamma.

    :param power: of the eigenvalues.
    """

    power: int = 1
    output: str = "toy.json"


class Toy(Observable):
    """An observable as the next person adds it."""

    name = "toy"
    title = "toy"
    Config = ToyConfig
    ARRAYS = {"diagonal": "eV"}
    UNITS = {"mean": "eV"}
    config: ToyConfig

    def __init__(self, config: ToyConfig, data) -> None:
        super().__init__(config, data)
        self.points = mesh_kpoints(data, (4, 1, 1))

    def solve(self, loop: Loop):
        def diagonal(channel: int, index: int):
            h, _ = self.matrices.at(self.points.fractional[index], channel)
            return {"diagonal": h.diagonal().real}

        return loop.run(MAIN, self.tasks, diagonal)

    def result(self, solved, loop: Loop):
        values = np.array([arrays["diagonal"] for arrays in solved.values()])
        return {"mean": float((values**self.config.power).mean()), "diagonal": values.ravel().tolist()}


@pytest.fixture(autouse=True)
def _with_toy(monkeypatch, aiida_profile):
    """The registry with the toy in it: the one line that an observable costs."""
    monkeypatch.setitem(OBSERVABLES, "toy", Entry(f"{__name__}:Toy", "A toy", drawn=False))
    monkeypatch.setattr("aiida_deeph.engine.observables.registry.resolve_name", _resolve)


def _resolve(name: str):
    from pkgutil import resolve_name

    return Toy if name.endswith(":Toy") else resolve_name(name)


NAMES = [*OBSERVABLES, "toy"]


@pytest.fixture
def system(name, deeph_folder, hamiltonian) -> Path:
    """A DeepH folder of a kind that the observable is for; that of a molecule has two spins, to be solved apart."""
    if not load_observable(name).OF_MOLECULES:
        return deeph_folder
    home = np.flatnonzero(~hamiltonian.hamiltonian.atom_pairs[:, :3].any(axis=1))
    H, S = (matrix.selected(home) for matrix in (hamiltonian.hamiltonian, hamiltonian.overlap))
    molecule = replace(hamiltonian, structure=replace(hamiltonian.structure, pbc=(False,) * 3), overlap=S)
    spinless = replace(molecule, hamiltonian=None, spin=SpinMode.COLLINEAR)
    both = replace(spinless, overlap=H).overlap_with_spin  # H of both spins, the same
    spinful = replace(spinless, hamiltonian=both.with_entries(both.entries.astype(complex)))
    write_deeph(deeph_folder.parent / "molecule", spinful)
    return deeph_folder.parent / "molecule"


def run(name: str, folder: Path, output: Path, *more: str) -> dict:
    arguments = [word.format(folder=folder) for word in ARGUMENTS[name]]
    result = CliRunner().invoke(engine, [name, str(folder), *arguments, "--output", str(output), *more])
    if result.exception is not None:
        raise result.exception
    return json.loads(output.read_text())


def results_of(values: dict) -> dict:
    """Without what differs from run to run."""
    return {key: value for key, value in values.items() if key not in ("seconds", "peak_memory_GiB")}


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_explained(name):
    observable = load_observable(name)
    assert observable.name == name
    curves = observable.IS_BANDS or bool(observable.ABSCISSA)
    assert OBSERVABLES[name].drawn == curves
    texts = field_texts(observable.Config)
    unexplained = [field for field in observable.Config.model_fields if not texts.get(field)]
    assert not unexplained
    help_text = CliRunner().invoke(engine, [name, "--help"]).output
    assert "--workers" in help_text and "--share" in help_text


@pytest.mark.parametrize("name", NAMES)
def test_arrays_have_units(name, system, tmp_path):
    observable, values = load_observable(name), run(name, system, tmp_path / "result.json")
    assert values["peak_memory_GiB"] > 0 and values["n_ranks"] == 1
    arrays = observable.arrays(values)
    assert set(observable.UNITS) >= {key for key in ("fermi_level",) if values.get(key) is not None}
    assert bool(arrays) == bool(observable.ARRAYS)
    assert all(isinstance(array.unit, str) for array in arrays.values())


@pytest.mark.parametrize("name", NAMES)
def test_what_was_killed_goes_on_and_is_the_same(name, system, tmp_path, monkeypatch):
    whole = run(name, system, tmp_path / "whole.json")
    monkeypatch.setattr(kpoint_loop, "WORTH_KEEPING", 0.0)
    put, count = kpoint_loop.SolutionStore.put, 0

    def killed(self, *arguments):
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        put(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(kpoint_loop.SolutionStore, "put", killed)
        result = CliRunner().invoke(engine, _command(name, system, tmp_path / "again.json"))
        assert result.exit_code == 1 and not (tmp_path / "again.json").exists()
    assert len(list((tmp_path / "again.json.partial").glob("*.npz"))) == 1
    again = run(name, system, tmp_path / "again.json")
    assert results_of(again) == results_of(whole)
    assert not (tmp_path / "again.json.partial").exists()


def _command(name: str, folder: Path, output: Path) -> list[str]:
    return [name, str(folder), *(word.format(folder=folder) for word in ARGUMENTS[name]), "--output", str(output)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_shares_join_to_the_whole(name, system, tmp_path):
    whole = run(name, system, tmp_path / "whole.json")
    for n in range(2):
        part = run(name, system, tmp_path / f"part{n}.json", "--share", str(n), "2")
        n_tasks = part["n_kpoints"] * (2 if load_observable(name).OF_MOLECULES else 1)
        assert part["share"] == [n, 2] and 0 < part["n_solved"] < n_tasks
    partial = [word for n in range(2) for word in ("--restart", str(tmp_path / f"part{n}.json.partial"))]
    shutil.rmtree(tmp_path / "whole.json.partial", ignore_errors=True)
    assert results_of(run(name, system, tmp_path / "joined.json", *partial)) == results_of(whole)


@pytest.mark.parametrize("name", NAMES)
def test_job_and_parser_are_there(name, parse):
    job = calculations.observable_calculation(name)
    assert getattr(calculations, job.__name__) is job and job.__module__ == calculations.__name__
    spec = job.spec()
    observable = load_observable(name)
    assert {"hamiltonian", "hamiltonian_folder", "restart_folder", "share_folders"} <= set(spec.inputs)
    assert (name in spec.outputs) == bool(observable.ARRAYS)
    parser = spec.inputs["metadata"]["options"]["parser_name"].default
    assert ParserFactory(parser) is ParserFactory("deeph.observable")


def test_parser_of_a_new_observable(prepare, deeph_folder, tmp_path, aiida_localhost, monkeypatch):
    """From the inputs of its job to the node of its arrays, with nothing written for it."""
    from aiida import orm

    from aiida_deeph.parsers.observable import arrays_of

    values = run("toy", deeph_folder, tmp_path / "toy.json")
    node = arrays_of(Toy, values)
    assert node.base.attributes.get("units") == {"diagonal": "eV"}
    assert isinstance(node, orm.ArrayData) and len(node.get_array("diagonal")) > 1


def test_an_observable_is_named_in_few_places():
    """Its files, the registry, one protocol key; entry points of older profiles and the quickstart's picture apart."""
    word = re.compile(r"(?<![A-Za-z])(dos|DosConfig|DosCalculation|DensityOfStates)(?![A-Za-z])")
    places = {
        path.relative_to(ROOT).as_posix()
        for kind in ("*.py", "*.yaml")
        for path in ROOT.rglob(kind)
        if word.search(path.read_text(encoding="utf-8"))
    }
    # Its file, the groups it is resolved by, and the moments' estimate of the Fermi level, which has it as a key.
    own = {f"engine/observables/{name}.py" for name in ("dos", "projection", "fermi")}
    once = {"engine/observables/registry.py", "workflows/protocols/bands.yaml", "__init__.py"}
    elsewhere = {place for place in places - own - once if not place.startswith("quickstart/")}
    assert elsewhere <= {"engine/structures/coincidence.py"}  # an author's name
    assert len(places & once) <= 4
