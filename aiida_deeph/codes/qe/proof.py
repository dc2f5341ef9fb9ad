"""A tiny label by Quantum ESPRESSO and HPRO, for which nothing has to be installed."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from aiida import orm
from aiida.plugins import CalculationFactory, DataFactory

from aiida_deeph.codes.proof import Run, gamma, hydrogen_molecule
from aiida_deeph.engine.dft.qe.gth import STEP, GthPotential, gth_upf, orb_text
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.builder import filled_builder


def prove(codes: Mapping[str, orm.AbstractCode], run: Run) -> None:
    """A hydrogen molecule with pw.x, its potential by pw2bgw.x, and both projected by HPRO, as far as there are codes.

    :param codes: `pw`, `pw2bgw`, `hpro`.
    :raises InputError: there is no pw.x.
    """
    if "pw" not in codes:
        found = ", ".join(codes)
        raise InputError("pw.x is missing", where="setup codes", found=found, remedy="give --pw-path as well")
    # GTH's hydrogen in closed form, and a Gaussian.
    potential = gth_upf(GthPotential("H", "gth-pbe", 1, 0.2, (-4.17890044, 0.72446331), ()))
    r = np.arange(601) * STEP
    orbitals = orb_text("H", 6.0, [(0, np.exp(-0.4 * r**2) * np.clip(1 - (r / 6.0) ** 4, 0, None) ** 2)])
    common = {
        "structure": hydrogen_molecule((6.0, 5.0, 5.0)),
        "pseudos": {"H": DataFactory("pseudo.upf")(io.BytesIO(potential.encode()), filename="H.gth-pbe.upf")},
    }
    namelists = {"SYSTEM": {"ecutwfc": 20.0}, "ELECTRONS": {"conv_thr": 1e-6}}
    inputs = {**common, "code": codes["pw"], "parameters": orm.Dict(namelists), "kpoints": gamma()}
    inputs |= {name: codes[name] for name in ("pw2bgw",) if name in codes}
    node = run("pw.x run of a hydrogen molecule", filled_builder(CalculationFactory("deeph.pw"), inputs))
    if "pw2bgw" not in codes or "hpro" not in codes:
        return
    inputs = {
        **common,
        "code": codes["hpro"],
        "parameters": orm.Dict({"cutoff": 20.0, "n_kpoints": 1, "max_error": 1000.0}),
        "orbitals": {"H": DataFactory("deeph.pao")(io.BytesIO(orbitals.encode()), filename="H_proof.orb")},
        "pw_folder": node.outputs.remote_folder,
    }
    run("projection by HPRO", filled_builder(CalculationFactory("deeph.hpro"), inputs))
