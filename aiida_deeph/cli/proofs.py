"""Tiny jobs that prove a code: each ends within seconds, and touches what the workflows will need."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida import engine, orm
from aiida.cmdline.utils import echo
from aiida.plugins import CalculationFactory, DataFactory, WorkflowFactory

from aiida_deeph.codes.lcao import LcaoLabelConfig
from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.dft.cp2k.required_input import required_input
from aiida_deeph.engine.dft.qe.gth import STEP as GTH_STEP
from aiida_deeph.engine.dft.qe.gth import GthPotential, gth_upf, orb_text
from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.processes.builder import filled_builder
from aiida_deeph.processes.protocol import merge

OPTIONS = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}, "max_wallclock_seconds": 600}


def prove(what: str, builder: Any) -> orm.CalcJobNode:
    """Run a job, say how it ended and return its node.

    :raises DeepHError: it did not succeed.
    """
    echo.echo_report(f"{what} ...")
    builder.metadata.options = {**OPTIONS, "withmpi": False}
    builder.metadata.label = f"setup: {what}"
    _, node = engine.run_get_node(builder)
    if not node.is_finished_ok:
        raise DeepHError(
            f"tiny job failed: {what}",
            where=f"{node.process_label}<{node.pk}> with {node.inputs.code.full_label}",
            found=f"exit status {node.exit_status}: {node.exit_message or node.exception}",
            remedy=f"`verdi process report {node.pk}` and `verdi calcjob outputcat {node.pk}` tell more",
        )
    echo.echo_success(f"{what}: {node.process_label}<{node.pk}> ended well")
    return node


def bands_job(code: orm.AbstractCode) -> Any:
    """Bands of a chain with two s orbitals: starts the engine, reads and writes HDF5, brings files back."""
    structure = Structure(
        ("H", "H"), np.array([[0.0, 0, 0], [1.0, 0, 0]]), np.diag([2.5, 8.0, 8.0]), (True, False, False)
    )
    pairs = np.array(
        [[0, 0, 0, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [-1, 0, 0, 0, 1], [1, 0, 0, 1, 0]]
    )
    blocks = BlockSparseMatrix.from_pairs(pairs, np.array([1, 1]))
    data = RealSpaceHamiltonian(
        structure,
        OrbitalBasis({"H": (0,)}),
        hamiltonian=blocks.with_entries(np.array([0.0, 0, -2, -2, -1, -1])),
        overlap=blocks.with_entries(np.array([1.0, 1, 0, 0, 0, 0])),
        n_electrons=2.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_deeph(Path(folder) / "chain", data)
        node = DataFactory("deeph.hamiltonian")(Path(folder) / "chain")
    builder = CalculationFactory("deeph.bands").get_builder()
    builder.code = code
    builder.hamiltonian = node
    builder.kpoints = kpoints_list([[0.0, 0, 0], [0.5, 0, 0]])
    return builder


def kpoints_list(points: list[list[float]]) -> orm.KpointsData:
    """k-points one by one."""
    node = orm.KpointsData()
    node.set_kpoints(points)
    return node


def kpoints_mesh(mesh: list[int]) -> orm.KpointsData:
    """A Gamma-centred mesh."""
    node = orm.KpointsData()
    node.set_kpoints_mesh(mesh)
    return node


def pyscf_job(code: orm.AbstractCode) -> Any:
    """A helium atom in a box."""
    builder = CalculationFactory("deeph.pyscf").get_builder()
    builder.code = code
    structure = orm.StructureData(cell=np.diag([6.0, 6.0, 6.0]).tolist())
    structure.append_atom(symbols="He", position=(3.0, 3.0, 3.0))
    builder.structure = structure
    builder.kpoints = kpoints_mesh([1, 1, 1])
    builder.parameters = orm.Dict({"basis": "gth-szv", "ke_cutoff": 30.0, "threads": 1})
    return builder


def cp2k_job(code: orm.AbstractCode) -> Any:
    """A hydrogen molecule whose real-space matrices are written."""
    builder = CalculationFactory("cp2k").get_builder()
    builder.code = code
    structure = orm.StructureData(cell=np.diag([5.0, 5.0, 5.0]).tolist())
    for x in (-0.37, 0.37):
        structure.append_atom(symbols="H", position=(x, 0.0, 0.0))
    builder.structure = structure
    dft = {
        "BASIS_SET_FILE_NAME": "BASIS_MOLOPT",
        "POTENTIAL_FILE_NAME": "GTH_POTENTIALS",
        "MGRID": {"CUTOFF": 100, "REL_CUTOFF": 30},
        "XC": {"XC_FUNCTIONAL": {"_": "PBE"}},
    }
    kind = {"_": "H", "BASIS_SET": "SZV-MOLOPT-SR-GTH", "POTENTIAL": "GTH-PBE"}
    parameters = {"GLOBAL": {"RUN_TYPE": "ENERGY"}, "FORCE_EVAL": {"DFT": dft, "SUBSYS": {"KIND": [kind]}}}
    builder.parameters = orm.Dict(merge(parameters, required_input([1, 1, 1])))
    return builder


# Keywords that make the tiny job of a program with numerical orbitals tiny.
QUICK = {
    "openmx": {"scf": {"energycutoff": 80.0, "criterion": 1e-6}},
    "siesta": {"MeshCutoff": "80 Ry"},
    "abacus": {"ecutwfc": 40.0, "scf_thr": 1e-6},
}


def numeric_job(code: orm.AbstractCode, family: str) -> Any:
    """A hydrogen molecule whose real-space matrices are written, by OpenMX, SIESTA or ABACUS.

    :param family: label of the families of its orbitals and pseudopotential.
    :raises InputError: they are not installed.
    """
    plugin = code.default_calc_job_plugin
    name = plugin.removeprefix("deeph.")
    workchain = WorkflowFactory(f"deeph.label.{name}")
    structure = orm.StructureData(cell=np.diag([6.0, 6.0, 6.0]).tolist())
    for x in (-0.37, 0.37):
        structure.append_atom(symbols="H", position=(x, 0.0, 0.0))
    families = {"pseudos_family": family}
    if workchain.orbitals_prefix is not None:
        families["orbitals_family"] = family
    overrides = {"kpoints": [1, 1, 1], "parameters": {**families, "keywords": QUICK[name]}}
    values = workchain.label_inputs(code, [structure], "fast", overrides)
    settings = parse_config(LcaoLabelConfig, values["parameters"], "parameters")
    inputs = workchain.calculation_inputs(settings, values["files"], structure)
    return filled_builder(CalculationFactory(plugin), {**inputs, "code": code, "kpoints": values["kpoints"]})


def prove_quantum_espresso(codes: Mapping[str, orm.AbstractCode]) -> None:
    """A hydrogen molecule with pw.x, its potential by pw2bgw.x, and both projected by HPRO, as far as there are codes.

    :param codes: `pw`, `pw2bgw`, `hpro`.
    :raises DeepHError: a job did not succeed.
    """
    if "pw" not in codes:
        raise InputError(
            "pw.x is missing", where="setup codes", found=", ".join(codes), remedy="give --pw-path as well"
        )
    # GTH's hydrogen in closed form, and a Gaussian: nothing has to be installed.
    potential = GthPotential("H", "gth-pbe", 1, 0.2, (-4.17890044, 0.72446331), ())
    r = np.arange(601) * GTH_STEP
    orbitals = orb_text("H", 6.0, [(0, np.exp(-0.4 * r**2) * np.clip(1 - (r / 6.0) ** 4, 0, None) ** 2)])
    structure = orm.StructureData(cell=np.diag([6.0, 5.0, 5.0]).tolist())
    for x in (-0.37, 0.37):
        structure.append_atom(symbols="H", position=(x, 0.0, 0.0))
    common = {
        "structure": structure,
        "pseudos": {"H": DataFactory("pseudo.upf")(io.BytesIO(gth_upf(potential).encode()), filename="H.gth-pbe.upf")},
    }
    namelists = {"SYSTEM": {"ecutwfc": 20.0}, "ELECTRONS": {"conv_thr": 1e-6}}
    inputs = {**common, "code": codes["pw"], "parameters": orm.Dict(namelists), "kpoints": kpoints_mesh([1, 1, 1])}
    if "pw2bgw" in codes:
        inputs["pw2bgw"] = codes["pw2bgw"]
    node = prove("pw.x run of a hydrogen molecule", filled_builder(CalculationFactory("deeph.pw"), inputs))
    if "pw2bgw" not in codes or "hpro" not in codes:
        return
    inputs = {
        **common,
        "code": codes["hpro"],
        "parameters": orm.Dict({"cutoff": 20.0, "n_kpoints": 1, "max_error": 1000.0}),
        "orbitals": {"H": DataFactory("deeph.pao")(io.BytesIO(orbitals.encode()), filename="H_proof.orb")},
        "pw_folder": node.outputs.remote_folder,
    }
    prove("projection by HPRO", filled_builder(CalculationFactory("deeph.hpro"), inputs))
