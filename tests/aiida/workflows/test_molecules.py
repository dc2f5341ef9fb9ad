"""Molecules through the workchains: labels in empty space, levels instead of dispersing bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node

pytest.importorskip("pyscf")

from aiida_deeph.data.structure import from_engine
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.io.folders import read_structure
from aiida_deeph.workflows.dataset import DatasetWorkChain
from aiida_deeph.workflows.full import FullWorkChain

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
def test_everything_once(engine_code, water):
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
