"""Every reader keeps the package's conventions on a real run of its code, and can be told from its data."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from aiida_deeph.engine.dft.base import get_reader, records
from aiida_deeph.engine.domain.checks import run_gates
from aiida_deeph.engine.domain.gate import failures
from aiida_deeph.engine.domain.transforms import from_convention, to_convention
from aiida_deeph.engine.io.deeph import read_deeph, write_deeph
from aiida_deeph.engine.preprocess.agreement import MESHES, SETTINGS, Agreement, k_width_of

FIXTURES = Path(__file__).parents[1] / "fixtures"
# Code -> archive, and where its files have to be moved for the reader.
RUNS: dict[str, tuple[str, dict[str, str]]] = {
    "abacus": ("graphene", {"STRU": "scf/STRU"}),
    "cp2k": ("bn_chain", {}),
    "openmx": ("graphene", {}),
    "qe": ("polyacetylene", {}),
    "siesta": ("graphene", {"variants/v2.HSX": "graphene.HSX"}),
}
# Runs of PySCF take seconds and are made in tests/engine/dft, like files of data sets; of FHI-aims none could be kept.
WITHOUT_FIXTURE = {"aims", "md17", "pyscf", "qh9"}


def test_every_reader_has_a_run():
    assert set(RUNS) | WITHOUT_FIXTURE == set(records())


@pytest.fixture(params=sorted(RUNS))
def data(request, tmp_path):
    """What a reader makes of the real run of its code."""
    code = request.param
    name, moves = RUNS[code]
    with tarfile.open(FIXTURES / code / f"{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    run = tmp_path / name if (tmp_path / name).is_dir() else tmp_path
    for path in [run, *run.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for source, target in moves.items():
        shutil.move(run / source, run / target)
    return get_reader(code).read(run / "scf" if code == "abacus" else run)


def test_conventions(data):
    assert not failures(run_gates(data))
    H, S = data.hamiltonian, data.overlap
    assert (H.conjugate_pairs() >= 0).all() and (S.conjugate_pairs() >= 0).all()
    on_site = [S.block((0, 0, 0), atom, atom) for atom in range(len(data.structure))]
    assert all(np.diag(block) == pytest.approx(1, abs=2e-3) for block in on_site)
    assert data.fermi_energy is not None and data.n_electrons > 0
    # Orbitals fade with distance: a wrong sign of R, or positions wrapped by somebody else, would mix near and far.
    distances = np.linalg.norm(data.structure.pair_vectors(S.atom_pairs), axis=1)
    near, far = distances < 2, distances > np.quantile(distances, 0.7)
    assert S.norms()[near].min() > 10 * S.norms()[far].max()


def test_metadata(data):
    metadata = data.metadata
    assert metadata["converged"] is True and metadata["version"] and metadata["settings"]
    assert json.loads(json.dumps(metadata)) == metadata


# Keys of the settings in which a reader may tell what members of a dataset must have in common.
TOLD = {
    "functional": SETTINGS["functional"],
    "basis": SETTINGS["basis"],
    "pseudopotential": (*SETTINGS["pseudopotential"], "species"),
    "cutoff": SETTINGS["cutoff"],
    "k_mesh": MESHES,
}


@pytest.mark.parametrize("name", sorted(TOLD))
def test_settings_that_members_are_compared_by(data, name):
    settings = data.metadata["settings"]
    assert any(settings.get(key) for key in TOLD[name]), f"{data.metadata['code']} does not tell its {name}"
    agreement = Agreement()
    agreement.learn(data)
    if name == "k_mesh":
        assert k_width_of(data)[0] > 4
    elif any(settings.get(key) for key in SETTINGS[name]):
        assert any(key.split(" ")[0] == name for key in agreement.settings)


def test_order_of_orbitals_can_be_turned_back(data):
    convention = records()[data.metadata["code"]].convention
    back = from_convention(to_convention(data, convention), convention)
    assert np.array_equal(back.hamiltonian.entries, data.hamiltonian.entries)


def test_deeph_folder(data, tmp_path):
    write_deeph(tmp_path / "deeph", data)
    read = read_deeph(tmp_path / "deeph")
    k = (0.1, 0.2, 0.0)
    assert np.linalg.eigvalsh(read.hamiltonian_at(k).toarray()) == pytest.approx(
        np.linalg.eigvalsh(data.hamiltonian_at(k).toarray()), abs=1e-8
    )
