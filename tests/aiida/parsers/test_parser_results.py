"""What the parsers attach, job by job, and the exit codes that the results themselves decide."""

from __future__ import annotations

import json

import numpy as np
import pytest
from aiida import orm

from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.engine.io.dataset import file_hashes

pytestmark = pytest.mark.usefixtures("aiida_profile")


def points():
    node = orm.KpointsData()
    node.set_kpoints(np.array([[0.0, 0, 0], [0, 0, 0.5]]), labels=[(0, "G"), (1, "Z")])
    return node


# -- pyscf ---------------------------------------------------------------------------------------------------------

PYSCF = {
    "converged": True,
    "energy": -20.5,
    "energy_units": "eV",
    "fermi_energy": -3.0,
    "n_electrons": 6.0,
    "scf_cycles": 9,
    "orbital_gradient": 1e-7,
    "seconds": 1.5,
}


def test_pyscf(parse, chain):
    bands = {"kpoints": [[0, 0, 0], [0, 0, 0.5]], "energies": [[-5.0, 1.0], [-4.0, 0.5]]}
    inputs = {"structure": chain, "bands_kpoints": points()}
    outputs, node = parse("deeph.pyscf", {"results.json": json.dumps({**PYSCF, "bands": bands})}, inputs=inputs)
    assert node.is_finished_ok, node.exit_message
    values = outputs["output_parameters"].get_dict()
    assert values["energy"] == -20.5 and values["energy_units"] == "eV" and values["seconds_units"] == "s"
    assert "bands" not in values
    band = outputs["output_band"]
    np.testing.assert_array_equal(band.get_bands(), bands["energies"])
    assert band.base.attributes.get("fermi_energy") == PYSCF["fermi_energy"]
    assert band.units == "eV" and band.labels == [(0, "G"), (1, "Z")]
    np.testing.assert_allclose(band.cell, chain.cell)


def test_pyscf_not_converged(parse):
    text = json.dumps({**PYSCF, "converged": False, "orbital_gradient": float("nan")})
    outputs, node = parse("deeph.pyscf", {"results.json": text})
    assert node.exit_status == 410 and "9 cycles" in node.exit_message
    assert outputs["output_parameters"]["converged"] is False
    assert outputs["output_parameters"]["orbital_gradient"] is None


def test_pyscf_without_the_bands_asked_for(parse, chain):
    inputs = {"structure": chain, "bands_kpoints": points()}
    outputs, node = parse("deeph.pyscf", {"results.json": json.dumps(PYSCF)}, inputs=inputs)
    assert node.exit_status == 320
    assert "output_parameters" in outputs


def test_pyscf_input_refused(parse):
    _, node = parse("deeph.pyscf", {"deeph.err": "deeph-engine: odd number of electrons; in structure.xyz; found 7\n"})
    assert node.exit_status == 210


# -- preprocess ------------------------------------------------------------------------------------------------------


def preprocessed(manifest, warnings=(), rejected=()):
    statistics = {"n_pairs": 10, "warnings": list(warnings)}
    report = {
        "n_members": len(manifest.members) if manifest else 0,
        "n_rejected": len(rejected),
        "rejected": list(rejected),
        "statistics": statistics,
        "gates": {},
    }
    files = {"dataset/preprocess.json": json.dumps(report)}
    return files | ({"dataset/manifest.json": manifest.model_dump_json()} if manifest else {})


def test_preprocess(parse, make_manifest):
    rejected = [{"name": "bad", "reason": "SCF not converged"}]
    outputs, node = parse("deeph.preprocess", preprocessed(make_manifest(3), rejected=rejected))
    assert node.is_finished_ok, node.exit_message
    assert outputs["dataset"].n_members == outputs["output_parameters"]["n_members"] == 3
    assert outputs["output_parameters"]["rejected"] == {"bad": "SCF not converged"}


def test_preprocess_warns_of_a_short_cutoff(parse, make_manifest):
    outputs, node = parse("deeph.preprocess", preprocessed(make_manifest(), warnings=["H beyond cutoff: 0.3 eV", "x"]))
    assert node.exit_status == 710 and "H beyond cutoff: 0.3 eV (and 1 more)" in node.exit_message
    assert isinstance(outputs["dataset"], DatasetData)


def test_preprocess_with_too_many_rejected(parse):
    rejected = [{"name": "bad", "reason": "SCF not converged"}]
    files = preprocessed(None, rejected=rejected)
    files["deeph.err"] = "deeph-engine: 1 of 1 members rejected; in dataset/preprocess.json\n"
    outputs, node = parse("deeph.preprocess", files)
    assert node.exit_status == 330 and "1 of 1 members rejected" in node.exit_message
    assert outputs["output_parameters"]["rejected"] == {"bad": "SCF not converged"}
    assert "dataset" not in outputs


# -- train -----------------------------------------------------------------------------------------------------------

ROWS = [
    {"epoch": 0, "train_loss": 2.0, "validation_loss": 3.0, "learning_rate": 0.002, "seconds": 1.0},
    {"epoch": 1, "train_loss": 1.0, "validation_loss": None, "learning_rate": 0.001, "seconds": 2.0},
]
METRICS = "".join(json.dumps(row) + "\n" for row in ROWS)


def report(status, reason="epochs"):
    return json.dumps({"status": status, "reason": reason, "epochs": 2, "best_validation_loss": 3.0, "seconds": 2.0})


@pytest.fixture
def trained(make_model_folder):
    """The folder retrieved for the parser, with a model."""
    return make_model_folder().parent


def test_train(parse, trained):
    files = {"train.json": report("finished"), "metrics.jsonl": METRICS}
    outputs, node = parse("deeph.train", files, temporary=trained)
    assert node.is_finished_ok, node.exit_message
    assert outputs["model"].elements == ("C", "H")
    history = outputs["history"]
    np.testing.assert_array_equal(history.get_array("epoch"), [0, 1])
    np.testing.assert_array_equal(history.get_array("validation_loss"), [3.0, np.nan])
    assert history.base.attributes.get("units")["train_loss"] == "eV^2"
    assert outputs["output_parameters"]["best_validation_loss_units"] == "eV^2"


@pytest.mark.parametrize(
    ("status", "exit_status", "words"), [("interrupted", 410, "2 epochs"), ("diverged", 420, "loss is nan")]
)
def test_train_that_ended_early_keeps_its_best_model(parse, trained, status, exit_status, words):
    files = {"train.json": report(status, "loss is nan"), "metrics.jsonl": METRICS, "deeph.err": "deeph-engine: x\n"}
    outputs, node = parse("deeph.train", files, temporary=trained)
    assert node.exit_status == exit_status and words in node.exit_message
    assert {"model", "history", "output_parameters"} <= set(outputs)


@pytest.mark.parametrize(
    ("stderr", "scheduler", "exit_status"),
    [("", None, 400), ("", 120, 120), ("deeph-engine: unexpected OutOfMemoryError: CUDA out of memory", None, 430)],
)
def test_train_that_was_killed_keeps_what_it_left(parse, trained, stderr, scheduler, exit_status):
    files = {"metrics.jsonl": METRICS + '{"epoch": 2, "trai', "deeph.err": stderr}
    outputs, node = parse("deeph.train", files, temporary=trained, scheduler_status=scheduler)
    assert node.exit_status == exit_status
    assert "model" in outputs
    np.testing.assert_array_equal(outputs["history"].get_array("epoch"), [0, 1])


def test_train_whose_model_is_damaged(parse, trained):
    (trained / "model" / "weights.safetensors").write_bytes(b"half")
    files = {"train.json": report("finished"), "metrics.jsonl": METRICS}
    outputs, node = parse("deeph.train", files, temporary=trained)
    assert node.exit_status == 320 and "weights do not belong" in node.exit_message
    assert "model" not in outputs and "history" in outputs


def test_train_killed_between_the_two_files_of_a_model_is_retryable(parse, trained):
    (trained / "model" / "weights.safetensors").write_bytes(b"newer")
    outputs, node = parse("deeph.train", {"metrics.jsonl": METRICS}, temporary=trained)
    assert node.exit_status == 400
    assert "history" in outputs and "model" not in outputs


def test_train_without_model(parse, tmp_path):
    _, node = parse("deeph.train", {"train.json": report("finished")}, temporary=tmp_path)
    assert node.exit_status == 400 and "model is missing" in node.exit_message


def test_train_with_a_status_that_is_unknown(parse, trained):
    _, node = parse("deeph.train", {"train.json": report("paused")}, temporary=trained)
    assert node.exit_status == 320


def test_train_from_a_folder_without_checkpoint(parse):
    _, node = parse("deeph.train", {"deeph.err": "deeph-engine: no checkpoint to continue from; in restart/state.pt\n"})
    assert node.exit_status == 415


# -- evaluate, overlap, predict --------------------------------------------------------------------------------------


def test_evaluate(parse):
    values = {"mae_eV": 0.002, "max_eV": 0.1, "n_entries": 500, "members": {"a": {"mae_eV": 0.002, "max_eV": 0.1}}}
    outputs, node = parse("deeph.evaluate", {"evaluate.json": json.dumps(values)})
    assert node.is_finished_ok, node.exit_message
    assert outputs["output_parameters"].get_dict() == {
        "mae_eV": 0.002,
        "mae_eV_units": "eV",
        "max_eV": 0.1,
        "max_eV_units": "eV",
        "n_entries": 500,
    }
    assert outputs["errors"]["members"]["a"]["mae_eV"] == 0.002


def info_of(folder):
    return (folder / "info.json").read_text()


@pytest.mark.parametrize("retrieve", [True, False])
def test_overlap(parse, deeph_folder, retrieve):
    (deeph_folder / "hamiltonian.h5").unlink()
    temporary = deeph_folder.rename(deeph_folder.with_name("overlap")).parent
    outputs, node = parse(
        "deeph.overlap",
        {"overlap/info.json": info_of(temporary / "overlap")},
        inputs={"retrieve": orm.Bool(retrieve)},
        temporary=temporary,
    )
    assert node.is_finished_ok, node.exit_message
    assert outputs["output_parameters"]["n_atoms"] == 2
    assert ("overlap" in outputs) is retrieve


@pytest.mark.parametrize("retrieve", [True, False])
def test_predict(parse, deeph_folder, retrieve):
    temporary = deeph_folder.rename(deeph_folder.with_name("prediction")).parent
    outputs, node = parse(
        "deeph.predict",
        {"prediction/prediction.json": json.dumps({"n_atoms": 2, "seconds": 3.0, "peak_memory_GiB": 1.0})},
        inputs={"retrieve": orm.Bool(retrieve)},
        temporary=temporary,
    )
    assert node.is_finished_ok, node.exit_message
    assert outputs["output_parameters"]["peak_memory_GiB_units"] == "GiB"
    assert ("hamiltonian" in outputs) is retrieve
    if retrieve:
        assert outputs["hamiltonian"].base.attributes.get("files") == file_hashes(temporary / "prediction")


def test_predict_whose_matrix_did_not_come(parse, tmp_path):
    files = {"prediction/prediction.json": json.dumps({"n_atoms": 2})}
    _, node = parse("deeph.predict", files, inputs={"retrieve": orm.Bool(True)}, temporary=tmp_path)
    assert node.exit_status == 400 and "prediction is missing" in node.exit_message


# -- bands and dos ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_spins", [1, 2])
def test_bands(parse, n_spins):
    energies = np.arange(n_spins * 2 * 3, dtype=float).reshape(n_spins, 2, 3)
    values = {
        "energies": energies.tolist(),
        "kpoints": [[0, 0, 0], [0, 0, 0.5]],
        "labels": [[0, "G"], [1, "Z"]],
        "weights": None,
        "cell": (4 * np.eye(3)).tolist(),
        "fermi_level": 1.5,
        "seconds": 0.1,
        "ghost_states": [[0, 0, 1]],
        "spectral_weights": (energies / 12).tolist(),
    }
    outputs, node = parse("deeph.bands", {"bands.json": json.dumps(values)})
    assert node.is_finished_ok, node.exit_message
    bands = outputs["bands"]
    np.testing.assert_array_equal(bands.get_bands(), energies[0] if n_spins == 1 else energies)
    assert bands.labels == [(0, "G"), (1, "Z")] and bands.units == "eV"
    np.testing.assert_array_equal(bands.cell, 4 * np.eye(3))
    parameters = outputs["output_parameters"].get_dict()
    assert parameters["fermi_level"] == 1.5 and parameters["fermi_level_units"] == "eV"
    assert parameters["n_ghost_states"] == 1 and "energies" not in parameters and "spectral_weights" not in parameters
    np.testing.assert_array_equal(bands.get_array("ghost_states"), [[0, 0, 1]])
    np.testing.assert_array_equal(bands.get_array("spectral_weights"), bands.get_bands() / 12)


def test_wavefunctions_come_as_a_file(parse, tmp_path):
    values = json.dumps({"energies": [[[1.0], [2.0]]], "kpoints": [[0, 0, 0], [0, 0, 0.5]]})
    inputs = {"parameters": orm.Dict({"wavefunctions": [0]})}
    (tmp_path / "wavefunctions.h5").write_bytes(b"coefficients")
    outputs, node = parse("deeph.bands", {"bands.json": values}, inputs=inputs, temporary=tmp_path)
    assert node.is_finished_ok, node.exit_message
    assert outputs["wavefunctions"].get_content("rb") == b"coefficients"
    (tmp_path / "wavefunctions.h5").unlink()
    outputs, node = parse("deeph.bands", {"bands.json": values}, inputs=inputs, temporary=tmp_path)
    assert node.exit_status == 400 and "bands" in outputs


def test_bands_on_a_mesh_keep_their_weights(parse):
    values = {"energies": [[[1.0], [2.0]]], "kpoints": [[0, 0, 0], [0, 0, 0.5]], "weights": [0.25, 0.75]}
    mesh = orm.KpointsData()
    mesh.set_kpoints_mesh([1, 1, 2])
    outputs, node = parse("deeph.bands", {"bands.json": json.dumps(values)}, inputs={"kpoints": mesh})
    assert node.is_finished_ok, node.exit_message
    np.testing.assert_array_equal(outputs["bands"].get_kpoints(also_weights=True)[1], [0.25, 0.75])


DOS = {
    "energies": [-1.0, 0.0, 1.0],
    "dos": [0.0, 2.0, 0.0],
    "dos_by_element": {"C": [0.0, 1.5, 0.0], "H": [0.0, 0.5, 0.0]},
    "dos_by_shell": {"C": {"s": [0.0, 0.5, 0.0], "p": [0.0, 1.0, 0.0]}, "H": {"s": [0.0, 0.5, 0.0]}},
    "dos_by_atom": {"3": [0.0, 0.25, 0.0]},
    "dos_error": [0.0, 0.1, 0.0],
    "dos_by_spin": None,
    "fermi_level": 0.2,
    "broadening": 0.05,
}


def test_dos(parse):
    outputs, node = parse("deeph.dos", {"dos.json": json.dumps(DOS)})
    assert node.is_finished_ok, node.exit_message
    resolved = ["dos_C", "dos_C_p", "dos_C_s", "dos_H", "dos_H_s", "dos_atom_3", "dos_error"]
    assert sorted(outputs["dos"].get_arraynames()) == ["dos", *resolved, "energies"]
    np.testing.assert_array_equal(outputs["dos"].get_array("dos_H"), [0.0, 0.5, 0.0])
    np.testing.assert_array_equal(outputs["dos"].get_array("dos_C_p"), [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(outputs["dos"].get_array("dos_atom_3"), [0.0, 0.25, 0.0])
    assert outputs["output_parameters"].get_dict() == {
        "fermi_level": 0.2,
        "fermi_level_units": "eV",
        "broadening": 0.05,
        "broadening_units": "eV",
    }


def test_dos_with_curves_of_different_lengths(parse):
    _, node = parse("deeph.dos", {"dos.json": json.dumps({**DOS, "dos": [1.0]})})
    assert node.exit_status == 320
