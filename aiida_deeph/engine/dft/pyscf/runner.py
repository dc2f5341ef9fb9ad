"""Run PySCF: a Kohn-Sham calculation of a crystal at k-points, or of a molecule, that leaves H and S in `pyscf.h5`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiida_deeph.engine.dft.pyscf.code import RESULTS_FILE
from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.crystal import crystal_results
from aiida_deeph.engine.dft.pyscf.cycles import Cycles
from aiida_deeph.engine.dft.pyscf.molecule import molecule_results
from aiida_deeph.engine.dft.pyscf.one_step import Calculation
from aiida_deeph.engine.dft.pyscf.output import FORMAT_VERSION, write_matrices
from aiida_deeph.engine.io.files import write_text_atomic
from aiida_deeph.engine.io.folders import read_deeph_folder, read_structure


def run_pyscf(config: PyscfConfig, directory: Path, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Converge the density and write `pyscf.h5` and `results.json` into `directory`.

    A run that does not converge is no error: both files are written and say so. With a start, `first_step` in the
    results says what the Hamiltonian given was worth (see `OneStep`), eV.

    :param directory: where the structure is found and the results are written.
    :param report: receives one line per SCF cycle.
    :return: what `results.json` holds.
    :raises InputError: a wrong structure, basis, pseudopotential or functional, or electrons that do not pair.
    :raises DataError: the start is of another structure, basis or spin.
    """
    from pyscf import __version__, lib

    wall, cpu = time.perf_counter(), time.process_time()
    lib.num_threads(config.threads or 1)
    structure = read_structure(directory / config.structure)
    calculation = Calculation(structure, config)
    density, first_step = calculation.own_start(), {}
    if config.start is not None:
        step, density = calculation.step(read_deeph_folder(directory / config.start))
        first_step = {"first_step": step.numbers()}
    calculation.field.callback = cycles = Cycles(report)
    begin = time.perf_counter()
    calculation.field.kernel(density)
    scf_seconds = time.perf_counter() - begin
    finish = crystal_results if calculation.periodic else molecule_results
    matrices, numbers = finish(calculation.field, calculation.kpoints, config, cycles, report)
    results: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "code": "pyscf",
        "version": __version__,
        "energy_units": "eV",
        "fermi_energy_units": "eV",
        "n_atoms": len(structure),
        "n_kpoints": len(matrices.kpoints),
        "converged": bool(calculation.field.converged),
        **numbers,
        **cycles.numbers(),
        **first_step,
        "start": "minao" if config.start is None else "hamiltonian",
        "scf_seconds": scf_seconds,
    }
    results["seconds"] = time.perf_counter() - wall
    results["cpu_seconds"] = time.process_time() - cpu
    results["settings"] = config.model_dump(mode="json", exclude={"bands", "start"})
    write_matrices(directory, structure, matrices, results)
    write_text_atomic(directory / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
    report(
        f"{'converged' if results['converged'] else 'NOT CONVERGED'} in {results['scf_cycles']} cycles, "
        f"E = {results['energy']:.8f} eV, {results['seconds']:.1f} s"
    )
    return results
