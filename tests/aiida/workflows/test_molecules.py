"""Molecules through the workchains: labels in empty space, levels instead of dispersing bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.manage import get_manager
from click.testing import CliRunner

pytest.importorskip("pyscf")

from aiida_deeph.cli.main import command
from aiida_deeph.codes.pyscf.accelerate import AccelerateWorkChain
from aiida_deeph.data.structure import from_engine
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.folders import read_structure
from aiida_deeph.workflows.dataset import DatasetWorkChain
from aiida_deeph.workflows.full import FullWorkChain
from aiida_deeph.workflows.predict import PredictWorkChain
from aiida_deeph.workflows.train import TrainWorkChain

QHNET = {"name": "qhnet", "channels": 4, "bottleneck": 2, "n_layers": 2, "first_pair_layer": 1, "all_pairs": True}
WATER = """3
water
O  0.000  0.000  0.119
H  0.000  0.763 -0.477
H  0.000 -0.763 -0.477
"""


@pytest.fixture
def water(tmp_path: Path) -> orm.StructureData:
    (tmp_path / "water.xyz").write_text(WATER)
    return from_engine(read_structure(tmp_path / "water.xyz"))


def full(engine_code, water, network: dict, epochs: int = 1):
    overrides = {
        "dataset": {"perturbation": {"n": 8, "amplitude": 0.04}, "max_concurrent": 2},
        "train": {"train": {"parameters": {"network": network, "epochs": epochs, "threads": 1}}},
        "bands": {"levels": {"parameters": {"cubes": True}}},
    }
    return FullWorkChain.get_builder_from_protocol(
        {"engine": engine_code},
        {"water": water},
        targets={"other": water},
        validation={"held_out": water},
        protocol="fast",
        overrides=overrides,
    )


def test_protocol_of_molecules(engine_code, water, hydrogen_chain):
    """All electrons and all pairs where no structure is periodic; overrides win."""
    builder = full(engine_code, water, {"name": "closed-form"})
    label = builder.dataset.label.parameters.get_dict()
    assert (label["basis"], label["pseudo"]) == ("def2-svp", None)
    assert builder.dataset.preprocess.parameters["cutoff"] is None
    assert builder.predict.overlap.parameters["basis"] == "pyscf:def2-svp"
    assert builder.dataset.label.kpoints.get_kpoints_mesh()[0] == [1, 1, 1]
    both = DatasetWorkChain.get_builder_from_protocol(
        {"engine": engine_code}, {"water": water, "chain": hydrogen_chain()}, protocol="fast"
    )
    assert both.label.parameters["pseudo"] == "gth-pbe"
    with pytest.raises(InputError, match="pseudopotential with a basis of all electrons"):
        FullWorkChain.get_builder_from_protocol(
            {"engine": engine_code},
            {"water": water},
            overrides={"dataset": {"label": {"parameters": {"pseudo": "gth-pbe"}}}},
        )


@pytest.mark.slow
@pytest.mark.integration
def test_everything_once(engine_code, water, tmp_path):
    results, node = run_get_node(full(engine_code, water, {"name": "closed-form"}))
    assert node.is_finished_ok, node.exit_message
    numbers = results["output_parameters"].get_dict()
    assert numbers["n_members"] == 8 and numbers["test_mae_meV"] < 20
    levels = results["levels_parameters"]["other"]
    label = node.base.links.get_outgoing(link_label_filter="validate_held_out").one().node
    dft = label.base.links.get_outgoing(link_label_filter="label").one().node.outputs.output_parameters
    assert levels["homo"] == pytest.approx(dft["homo"], abs=0.1) and levels["gap"] > 1
    assert np.linalg.norm(np.subtract(levels["dipole"], dft["dipole"])) < 0.1
    assert "cube" in results["homo_orbital"]["other"].filename
    assert results["levels"]["other"].get_array("levels").shape == (1, 24)
    assert results["bands"]["held_out"].get_bands().shape == (1, 24)
    assert results["comparison"]["held_out"]["occupied_mean"] < 0.05
    # Another network on the same data, and what a model tells and takes along.
    overrides = {"train": {"parameters": {"network": QHNET, "epochs": 1, "threads": 1, "batch_size": 4}}}
    data, folder = results["dataset"], results["dataset_folder"]
    trained, process = run_get_node(
        TrainWorkChain.get_builder_from_protocol(engine_code, data, folder, "fast", overrides)
    )
    assert process.is_finished_ok, process.exit_message
    means = trained["errors"]["mean_of_molecules"]
    assert means["n_members"] == numbers["n_test"] and 0 < means["orbitals_by_overlap"] <= 1
    predict = PredictWorkChain.get_builder_from_protocol(engine_code, water, trained["model"], "fast")
    predicted, process = run_get_node(predict)
    assert process.is_finished_ok, process.exit_message
    assert predicted["hamiltonian"].n_pairs == 9
    profile = get_manager().get_profile().name
    card = invoke(profile, "model", "show", results["model"].pk)
    assert "def2-svp" in card and "PySCF" in card
    invoke(profile, "model", "export", results["model"].pk, "--archive", tmp_path / "model.aiida")
    assert (tmp_path / "model.aiida").stat().st_size > 0
    again = invoke(profile, "reproduce", process.pk)
    assert "hamiltonian" in again


def invoke(profile: str, *arguments: object) -> str:
    result = CliRunner().invoke(command, ["-p", profile, *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def accelerated(engine_code, tmp_path):
    """Function that makes a builder for H of H2, off by a given noise (eV) from the converged one."""
    from dataclasses import replace

    from aiida.plugins import DataFactory

    from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
    from aiida_deeph.engine.dft.pyscf.reader import PyscfReader
    from aiida_deeph.engine.dft.pyscf.runner import run_pyscf
    from aiida_deeph.engine.io.deeph import write_deeph

    settings = {"basis": "6-31g", "pseudo": None, "xc": "lda,vwn", "grid_level": 1, "threads": 1}

    def make(noise: float, **changes):
        (tmp_path / "structure.xyz").write_text(WATER)
        run_pyscf(PyscfConfig(**settings), tmp_path, report=lambda line: None)
        data = PyscfReader().read(tmp_path)
        off = np.random.default_rng(0).normal(scale=noise, size=len(data.hamiltonian.entries))
        H = data.hamiltonian + data.hamiltonian.with_entries(off).hermitian_part()
        write_deeph(tmp_path / "predicted", replace(data, hamiltonian=H))
        node = DataFactory("deeph.hamiltonian")(tmp_path / "predicted")
        overrides = {"scf": {"parameters": {**settings, **changes}}}
        return AccelerateWorkChain.get_builder_from_protocol(engine_code, {"water": node}, "fast", overrides)

    return make


@pytest.mark.slow
def test_scf_from_a_prediction(accelerated):
    results, node = run_get_node(accelerated(2e-3))
    assert node.is_finished_ok, node.exit_message
    report = results["output_parameters"].get_dict()
    water = report["structures"]["water"]
    assert report["n_structures"] == 1 and water["cycles_prediction"] < water["cycles_minao"]
    assert report["mean_ratio_of_cycles"] == pytest.approx(water["cycles_prediction"] / water["cycles_minao"])
    assert report["mean_ratio_of_cycles"] < 0.8
    assert report["largest_energy_difference_eV"] < 1e-6
    # The energy of the density that the prediction gives lies above, that of Harris and Foulkes close by.
    step = water["first_step"]
    assert 0 < step["energy"] - water["energy_eV"] < 1e-3
    assert abs(step["harris_energy"] - water["energy_eV"]) < step["energy"] - water["energy_eV"]


@pytest.mark.slow
def test_scf_from_h_of_another_basis(accelerated):
    _, node = run_get_node(accelerated(2e-3, basis="sto-3g"))
    assert node.exit_status == 310 and "H is of another basis" in node.exit_message
