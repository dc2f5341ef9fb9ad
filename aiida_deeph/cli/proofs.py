"""How a tiny job proves a code, and that of the engine; those of DFT codes stand with their labels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from aiida import engine, orm
from aiida.cmdline.utils import echo
from aiida.plugins import CalculationFactory, DataFactory

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import DeepHError
from aiida_deeph.engine.io.deeph import write_deeph

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
    builder.kpoints = orm.KpointsData()
    builder.kpoints.set_kpoints([[0.0, 0, 0], [0.5, 0, 0]])
    return builder
