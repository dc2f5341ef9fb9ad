"""What each job uploads, links, runs and retrieves."""

from __future__ import annotations

import numpy as np
import pytest
from aiida import orm

from aiida_deeph.calculations.space import reserving, room
from aiida_deeph.calculations.train import seconds_within
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.data.model import DeepHModelData
from aiida_deeph.engine.io.folders import read_structure

pytestmark = pytest.mark.usefixtures("aiida_profile")


def mesh(*divisions):
    node = orm.KpointsData()
    node.set_kpoints_mesh(divisions)
    return node


def points(*rows, labels=None):
    node = orm.KpointsData()
    node.set_kpoints(np.array(rows, dtype=float), labels=labels)
    return node


def test_pyscf(prepare, chain, tmp_path):
    job = prepare(
        "deeph.pyscf",
        {
            "structure": chain,
            "kpoints": mesh(1, 1, 5),
            "bands_kpoints": points([0, 0, 0], [0, 0, 0.5], labels=[(0, "G"), (1, "Z")]),
            "parameters": orm.Dict({"basis": "gth-dzvp", "threads": 1}),
        },
    )
    assert job.config["kmesh"] == [1, 1, 5]
    assert job.config["bands"] == [[0, 0, 0], [0, 0, 0.5]]
    assert job.config["basis"] == "gth-dzvp" and job.config["xc"] == "pbe"
    assert job.info.codes_info[0].cmdline_params == ["pyscf", "config.json"]
    assert "results.json" in job.retrieved
    (tmp_path / "structure.xyz").write_text(job.files["structure.xyz"])
    structure = read_structure(tmp_path / "structure.xyz")
    assert structure.symbols == ("C", "H")
    np.testing.assert_array_equal(structure.positions, [site.position for site in chain.sites])
    np.testing.assert_array_equal(structure.cell, chain.cell)
    assert structure.pbc == chain.pbc


def test_preprocess(prepare, make_remote):
    labels = {name: make_remote(name) for name in ("cell_b", "cell_a")}
    job = prepare(
        "deeph.preprocess", {"labels": labels, "reader": orm.Str("pyscf"), "parameters": orm.Dict({"cutoff": 8.0})}
    )
    assert job.config["members"] == [
        {"name": name, "path": f"members/{name}", "code": "pyscf"} for name in ("cell_a", "cell_b")
    ]
    assert job.config["cutoff"] == 8.0
    assert job.links == {f"members/{name}": remote.get_remote_path() for name, remote in labels.items()}
    assert "dataset/manifest.json" in job.retrieved and "dataset/preprocess.json" in job.retrieved


def test_preprocess_of_labels_in_the_database(prepare, make_remote, deeph_folder):
    known, remote = HamiltonianData(deeph_folder), make_remote("cell_a")
    inputs = {"hamiltonians": {"known": known}, "parameters": orm.Dict({})}
    job = prepare("deeph.preprocess", inputs)
    assert job.config["members"] == [{"name": "known", "path": "members/known", "code": "deeph"}]
    assert job.links == {} and job.copies == [(".", "members/known")]
    both = prepare("deeph.preprocess", {**inputs, "labels": {"cell_a": remote}, "reader": orm.Str("pyscf")})
    assert [member["code"] for member in both.config["members"]] == ["pyscf", "deeph"]
    assert list(both.links) == ["members/cell_a"]


@pytest.fixture
def dataset(make_manifest, make_remote):
    return {"dataset": DatasetData(make_manifest()), "dataset_folder": make_remote("preprocessed")}


def test_train(prepare, dataset, make_model_folder, make_remote):
    before = make_remote("before")
    job = prepare(
        "deeph.train",
        {
            **dataset,
            "restart_folder": before,
            "initial_model": DeepHModelData(make_model_folder()),
            "parameters": orm.Dict({"epochs": 7, "network": {"lmax": 2}}),
            "metadata": {"options": {"max_wallclock_seconds": 3600}},
        },
    )
    assert job.config["dataset"] == "dataset" and job.config["restart"] == "restart"
    assert job.config["initial_model"] == "initial_model"
    assert job.config["epochs"] == 7 and job.config["network"]["lmax"] == 2
    assert job.config["max_seconds"] == seconds_within(3600) == 3420
    assert job.links == {
        "dataset/members": dataset["dataset_folder"].get_remote_path() + "/dataset/members",
        "restart": before.get_remote_path() + "/checkpoint",
    }
    assert job.copies == [("manifest.json", "dataset/manifest.json"), (".", "initial_model")]
    assert {"train.json", "metrics.jsonl"} <= set(job.retrieved)
    assert job.temporary == ["model/model.json", "model/weights.safetensors"]


def test_train_keeps_the_time_that_the_user_gives(prepare, dataset):
    inputs = {**dataset, "metadata": {"options": {"max_wallclock_seconds": 3600}}}
    assert prepare("deeph.train", {**inputs, "parameters": orm.Dict({"max_seconds": 5.0})}).config["max_seconds"] == 5.0


def test_evaluate(prepare, dataset, make_model_folder):
    model = DeepHModelData(make_model_folder())
    job = prepare("deeph.evaluate", {**dataset, "model": model, "parameters": orm.Dict({"members": "all"})})
    assert job.config["model"] == "model" and job.config["members"] == "all"
    assert (".", "model") in job.copies
    assert "evaluate.json" in job.retrieved


def test_evaluation_of_bands(prepare, dataset, make_model_folder):
    parameters = orm.Dict({"bands": {"spacing": 0.3, "window": [-4, 2]}})
    inputs = {**dataset, "model": DeepHModelData(make_model_folder())}
    bands = prepare("deeph.evaluate", {**inputs, "parameters": parameters}).config["bands"]
    assert (bands["spacing"], bands["window"], bands["align"]) == (0.3, [-4, 2], "gauge")
    with pytest.raises(ValueError, match="exactly one of kpoints, kpath, mesh and spacing"):
        prepare("deeph.evaluate", {**inputs, "parameters": orm.Dict({"bands": {"window": [-4, 2]}})})


def test_overlap(prepare, chain, make_model_folder):
    job = prepare(
        "deeph.overlap",
        {
            "structure": chain,
            "model": DeepHModelData(make_model_folder()),
            "basis_file": orm.SinglefileData.from_string("basis sets", filename="BASIS_MOLOPT"),
            "parameters": orm.Dict({"basis": "cp2k:BASIS_MOLOPT:SZV-MOLOPT-SR-GTH"}),
        },
    )
    assert job.config["model"] == "model"
    assert job.copies == [("model.json", "model/model.json"), ("BASIS_MOLOPT", "BASIS_MOLOPT")]
    assert job.temporary == []


def test_overlap_of_numerical_orbitals(prepare, chain):
    parameters = orm.Dict({"basis": "openmx:orbitals", "orbitals": {"C": "C6.0-s2p2d1", "H": "H5.0-s2p1"}})
    files = {name[0]: orm.SinglefileData.from_string("orbitals", filename=f"{name}.pao") for name in ("C6.0", "H5.0")}
    job = prepare("deeph.overlap", {"structure": chain, "parameters": parameters, "orbitals": files})
    assert job.copies == [("C6.0.pao", "orbitals/C6.0.pao"), ("H5.0.pao", "orbitals/H5.0.pao")]
    assert job.config["basis"] == "openmx:orbitals"


def test_overlap_is_brought_back_on_request(prepare, chain):
    inputs = {"structure": chain, "parameters": orm.Dict({"basis": "pyscf:gth-szv"}), "retrieve": orm.Bool(True)}
    assert prepare("deeph.overlap", inputs).temporary == ["overlap/POSCAR", "overlap/info.json", "overlap/overlap.h5"]


def test_predict_from_a_folder(prepare, make_model_folder, make_remote, chain):
    remote = make_remote("overlap", creator="deeph.overlap", structure=chain)
    inputs = {"model": DeepHModelData(make_model_folder()), "overlap_folder": remote, "retrieve": orm.Bool(False)}
    job = prepare("deeph.predict", inputs)
    assert job.config["structure"] == "overlap" and job.config["output"] == "prediction"
    assert job.links == {"overlap": remote.get_remote_path() + "/overlap"}
    assert job.temporary == [] and "prediction/prediction.json" in job.retrieved


def test_predict_from_a_node(prepare, make_model_folder, deeph_folder):
    job = prepare(
        "deeph.predict", {"model": DeepHModelData(make_model_folder()), "overlap": HamiltonianData(deeph_folder)}
    )
    assert job.copies == [(".", "model"), (".", "overlap")]
    assert "prediction/hamiltonian.h5" in job.temporary


def test_bands_of_a_list(prepare, deeph_folder):
    kpoints = points([0, 0, 0], [0, 0, 0.25], [0, 0, 0.5], labels=[(0, "G"), (2, "Z")])
    job = prepare("deeph.bands", {"hamiltonian": HamiltonianData(deeph_folder), "kpoints": kpoints})
    assert job.config["folder"] == "hamiltonian"
    assert job.config["kpoints"][1] == [0, 0, 0.25] and job.config["labels"] == [[0, "G"], [2, "Z"]]
    assert job.config["mesh"] is None and "bands.json" in job.retrieved


def test_bands_of_a_supercell_to_unfold(prepare, deeph_folder):
    from ase.build import bulk

    inputs = {
        "primitive": orm.StructureData(ase=bulk("Al")),
        "parameters": orm.Dict({"kpath": "G-X", "wavefunctions": [0]}),
    }
    job = prepare("deeph.bands", {"hamiltonian": HamiltonianData(deeph_folder), **inputs})
    assert (job.config["unfold"], job.config["wavefunctions_output"]) == ("primitive.xyz", "wavefunctions.h5")
    assert "Al" in job.files["primitive.xyz"]


def test_bands_of_a_job_that_was_killed(prepare, make_remote, deeph_folder):
    remote = make_remote("killed", creator="deeph.bands")
    inputs = {"hamiltonian": HamiltonianData(deeph_folder), "kpoints": mesh(1, 1, 3), "restart_folder": remote}
    job = prepare("deeph.bands", inputs)
    assert job.config["restart"] == "restart"
    assert job.links == {"restart": remote.get_remote_path() + "/bands.json.partial"}


def test_bands_joined_from_shares(prepare, make_remote, deeph_folder):
    remotes = {name: make_remote(name, creator="deeph.bands") for name in ("s1", "s0", "killed")}
    shares = {name: remotes[name] for name in ("s1", "s0")}
    inputs = {"hamiltonian": HamiltonianData(deeph_folder), "kpoints": mesh(1, 1, 3), "share_folders": shares}
    job = prepare("deeph.bands", {**inputs, "restart_folder": remotes["killed"]})
    assert job.config["restart"] == ["restart", "shares/s0", "shares/s1"]
    assert job.links["shares/s1"] == remotes["s1"].get_remote_path() + "/bands.json.partial"
    assert prepare("deeph.bands", inputs).config["restart"] == ["shares/s0", "shares/s1"]


def test_bands_of_a_mesh_in_the_folder_of_a_prediction(prepare, make_remote):
    remote = make_remote("predicted", creator="deeph.predict")
    job = prepare("deeph.bands", {"hamiltonian_folder": remote, "kpoints": mesh(1, 1, 3)})
    assert job.config["mesh"] == [1, 1, 3] and job.config["kpoints"] is None
    assert job.links == {"hamiltonian": remote.get_remote_path() + "/prediction"}


def test_dos_of_a_folder_that_no_job_made(prepare, make_remote):
    remote = make_remote("elsewhere")
    job = prepare("deeph.dos", {"hamiltonian_folder": remote, "kpoints": mesh(2, 1, 1)})
    assert job.config["mesh"] == [2, 1, 1]
    assert job.links == {"hamiltonian": remote.get_remote_path()}


def test_no_config_holds_a_uuid_or_an_absolute_path(prepare, dataset, make_model_folder):
    model = DeepHModelData(make_model_folder())
    text = prepare("deeph.evaluate", {**dataset, "model": model}).files["config.json"]
    for node in (*dataset.values(), model):
        assert node.uuid not in text
    assert '"/' not in text


def test_every_job_of_the_engine_says_so_if_its_disk_is_full(prepare, deeph_folder):
    kpoints = orm.KpointsData()
    kpoints.set_kpoints([[0.0, 0.0, 0.0]])
    job = prepare("deeph.bands", {"hamiltonian": HamiltonianData(deeph_folder), "kpoints": kpoints})
    assert job.info.prepend_text == reserving() and job.info.append_text == room()
