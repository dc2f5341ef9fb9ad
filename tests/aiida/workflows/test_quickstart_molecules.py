"""`aiida-deeph quickstart --molecules`: what it submits, and what it says; the runs are in test_molecules.py."""

from __future__ import annotations

import pytest
from aiida import orm
from click.testing import CliRunner

from aiida_deeph.cli.quickstart import command
from aiida_deeph.quickstart import molecules


def test_what_is_submitted(engine_code, monkeypatch):
    monkeypatch.setattr(molecules, "codes", lambda engine: {"engine": engine_code, "dft": engine_code})
    builder = molecules.builder_of(8, "pyscf")
    assert set(builder.dataset.structures) == {"water", "formaldehyde"}
    assert builder.dataset.label.parameters["pseudo"] is None and builder.dataset.perturbation["n"] == 8
    unseen = builder.validation["water_unseen"]
    assert unseen.get_formula() == "H2O" and not any(unseen.pbc)
    assert unseen.creator.process_label == "displaced"
    assert "dos" not in builder.bands or not builder.bands.dos.get("code")


def test_only_where_the_engine_labels(tmp_path):
    result = CliRunner().invoke(command, ["--molecules", "--engine", "cp2k", "--workdir", str(tmp_path)])
    assert result.exit_code == 2 and "--molecules are labelled by pyscf alone" in result.output


class Ended:
    """A process that has ended with these outputs."""

    def __init__(self, **outputs):
        self.outputs = type("Outputs", (), outputs)()


def test_summary():
    means = {"n_members": 2, "hamiltonian_uHartree": 4.0, "occupied_levels_uHartree": 9.0, "gap_uHartree": 7.0}
    full = Ended(
        errors={"mean_of_molecules": means},
        output_parameters={"n_labels": 8},
        comparison={"water_unseen": orm.Dict({"band_mae_meV": 0.2})},
    )
    one = {"cycles_minao": 9, "cycles_prediction": 4}
    found = molecules.collected(full, {"structures": {"water_unseen": one}, "mean_ratio_of_cycles": 4 / 9})
    assert found["hamiltonian_uHartree"] == 4.0 and found["levels_mae_meV"] == {"water_unseen": 0.2}
    assert found["scf_cycles"] == {"water_unseen": [9, 4]} and found["ratio_of_cycles"] == pytest.approx(
        0.444, abs=1e-3
    )
