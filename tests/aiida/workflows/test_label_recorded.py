"""Labels of SIESTA and ABACUS through a real scheduler, with stand-ins that do nothing but copy what real runs left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from aiida import orm
from aiida.engine import run_get_node
from aiida.plugins import CalculationFactory

from aiida_deeph.codes.abacus.label import AbacusLabelWorkChain
from aiida_deeph.codes.siesta.label import SiestaLabelWorkChain
from aiida_deeph.engine.dft.siesta.reader import SiestaReader
from aiida_deeph.workflows.predict import PredictWorkChain
from tests.aiida.lcao_files import graphene, iron, read_recorded, unpack_recorded

pytestmark = pytest.mark.usefixtures("lcao_families")

SIESTA = """#!/bin/bash
# Copies what a real run left, but for what the file `without` names.
cat > /dev/null
test -f siesta.DM || touch siesta.DM
cp {folder}/run/* .
for name in $(cat {folder}/without 2>/dev/null); do rm -f $name; done
cat {folder}/siesta.out
"""
ABACUS = """#!/bin/bash
# Copies what a real run left: an SCF, one that starts from a density, or bands.
kind=first
grep -q 'init_chg *file' INPUT && kind=restart && test -d RESTART
grep -q 'calculation *nscf' INPUT && kind=bands && test -f RESTART/SPIN1_CHG.cube
mkdir OUT.ABACUS && cp {folder}/$kind/* OUT.ABACUS/ && cp INPUT OUT.ABACUS/ && touch OUT.ABACUS/SPIN1_CHG.cube
echo done
"""


@pytest.fixture
def stand_in(aiida_code_installed, tmp_path):
    """Function that makes a code of a script."""

    def make(name: str, script: str) -> orm.InstalledCode:
        path = tmp_path / name
        path.write_text(script.format(folder=tmp_path))
        path.chmod(0o755)
        code = aiida_code_installed(
            label=f"{name}-{tmp_path.name}", default_calc_job_plugin=f"deeph.{name}", filepath_executable=str(path)
        )
        code.computer.set_minimum_job_poll_interval(0.2)
        return code

    return make


@pytest.fixture
def siesta_stand_in(stand_in, tmp_path):
    """A code that leaves the recorded run of iron with noncollinear spins."""
    known = unpack_recorded("siesta", "fenc", tmp_path / "recorded")
    (tmp_path / "run").mkdir()
    for path in known.glob("fenc.*"):
        if path.suffix not in (".out", ".fdf"):
            path.rename(tmp_path / "run" / f"siesta{path.suffix}")
    for variant, name in (("v2.HSX", "siesta.HSX"), ("TSHS", "siesta.TSHS")):
        (known / "variants" / variant).rename(tmp_path / "run" / name)
    (known / "Fe.ion.xml").rename(tmp_path / "run" / "Fe.ion.xml")
    (known / "fenc.out").rename(tmp_path / "siesta.out")
    return stand_in("siesta", SIESTA)


OPTIONS = {"withmpi": False, "resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}}


def iron_label(code, **extra):
    return SiestaLabelWorkChain.get_builder_from_protocol(
        code, iron(), "fast", {"parameters": {"spin": "noncollinear"}}, OPTIONS, **extra
    )


def points(rows) -> orm.KpointsData:
    node = orm.KpointsData()
    node.set_kpoints(rows)
    return node


@pytest.mark.slow
def test_siesta_label_dataset_and_overlap(siesta_stand_in, engine_code, tmp_path):
    kpoints = points([[0, 0, 0], [0.123, 0.234, 0.345], [0.5, -0.5, 0.5], [0.071, -0.21, 0.44]])
    outputs, node = run_get_node(iron_label(siesta_stand_in, bands_kpoints=kpoints))
    assert node.is_finished_ok, node.exit_message
    assert outputs["output_parameters"]["converged"] is True
    assert outputs["output_band"].get_bands().shape == (4, 18)
    run = node.called[0]
    assert run.outputs.orbitals.Fe.filename == "Fe.ion.xml"

    engine_code.computer.set_minimum_job_poll_interval(0.2)
    made, job = run_get_node(
        CalculationFactory("deeph.preprocess"),
        code=engine_code,
        labels={"iron": outputs["remote_folder"]},
        reader=orm.Str("siesta"),
    )
    assert job.is_finished_ok, job.exit_message
    settings = made["dataset"].manifest.source["labels"]["settings"]
    basis = SiestaLabelWorkChain.overlap_basis(settings, {"Fe"})
    assert settings["spin"] == "non-collinear" and basis == {"Fe": "siesta:orbitals:Fe"}

    # S of the same crystal from the orbitals that came back, without a DFT run.
    computed, job = run_get_node(
        CalculationFactory("deeph.overlap"),
        code=engine_code,
        structure=iron(),
        parameters=orm.Dict({"basis": basis}),
        orbitals={"Fe": run.outputs.orbitals.Fe},
        retrieve=orm.Bool(True),
    )
    assert job.is_finished_ok, job.exit_message
    ours = computed["overlap"].load()
    known = SiestaReader().read(Path(outputs["remote_folder"].get_remote_path()))
    pairs = ours.overlap.atom_pairs
    difference = ours.overlap - known.overlap.aligned_to(pairs, known.orbitals_per_atom)
    assert np.abs(difference.entries).max() < 1e-5
    assert ours.n_electrons == 8.0


@pytest.mark.slow
def test_siesta_run_without_its_matrices(siesta_stand_in, tmp_path, monkeypatch):
    monkeypatch.setattr(SiestaLabelWorkChain, "max_retries", 0)
    (tmp_path / "without").write_text("siesta.HSX siesta.TSHS")
    _, node = run_get_node(iron_label(siesta_stand_in))
    assert node.exit_status == 330 and "siesta.[HT]S*" in node.exit_message


@pytest.fixture
def abacus_stand_in(stand_in, tmp_path):
    """Function: a code that leaves the recorded run of graphene; its first SCF may be one that did not converge."""

    def make(converged: bool = True) -> orm.InstalledCode:
        known = unpack_recorded("abacus", "graphene", tmp_path / "recorded")
        (known / "nscf").rename(tmp_path / "bands")
        for kind in ("first", "restart"):
            (tmp_path / kind).mkdir()
            for path in (known / "scf").iterdir():
                (tmp_path / kind / path.name).write_bytes(path.read_bytes())
        if not converged:
            log = read_recorded("abacus", "gaas_soc_trs", "scf/running_scf.log")
            (tmp_path / "first" / "running_scf.log").write_text(log)
        return stand_in("abacus", ABACUS)

    return make


def graphene_label(code, **extra):
    return AbacusLabelWorkChain.get_builder_from_protocol(code, graphene(), "fast", None, OPTIONS, **extra)


@pytest.mark.slow
def test_abacus_label_with_bands_and_dataset(abacus_stand_in, engine_code):
    kpoints = points(
        [[0, 0, 0], [0.137, 0.2113, 0], [0.31, -0.173, 0], [0.5, 0.25, 0], [0.05, 0.41, 0.29], [0.2, 0, 0]]
    )
    outputs, node = run_get_node(graphene_label(abacus_stand_in(), bands_kpoints=kpoints))
    assert node.is_finished_ok, node.exit_message
    assert [child.exit_status for child in node.called] == [0, 0]
    assert outputs["output_parameters"]["energy"] == pytest.approx(-309.99230796)
    assert outputs["output_band"].get_bands().shape == (6, 20)
    assert outputs["output_band"].base.attributes.get("fermi_energy") == pytest.approx(-1.5362495995)

    engine_code.computer.set_minimum_job_poll_interval(0.2)
    made, job = run_get_node(
        CalculationFactory("deeph.preprocess"),
        code=engine_code,
        labels={"graphene": outputs["remote_folder"]},
        reader=orm.Str("abacus"),
    )
    assert job.is_finished_ok, job.exit_message
    source = made["dataset"].manifest.source["labels"]
    basis = AbacusLabelWorkChain.overlap_basis(source["settings"], {"C"})
    assert basis == {"C": "abacus:orbitals:C_gga_6au_2s1p"}
    values = PredictWorkChain.predict_inputs(engine_code, "fast", basis=basis)
    assert values["overlap"]["orbitals"]["C"].filename == "C_gga_6au_2s1p.orb"


@pytest.mark.slow
def test_abacus_run_that_did_not_converge_is_continued(abacus_stand_in):
    _, node = run_get_node(graphene_label(abacus_stand_in(converged=False)))
    assert node.is_finished_ok, node.exit_message
    assert [child.exit_status for child in node.called] == [410, 0]
    second = node.called[1]
    assert second.inputs.restart_folder.uuid == node.called[0].outputs.remote_folder.uuid
    assert second.inputs.parameters["scf_nmax"] == 200
