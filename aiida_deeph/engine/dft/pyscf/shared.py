"""What PySCF's molecules and cells have in common: atoms and basis, functional, settings of the SCF."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from aiida_deeph.engine.dft.pyscf.config import PyscfConfig
from aiida_deeph.engine.dft.pyscf.cycles import Cycles
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.orbitals.gaussian import core_potential
from aiida_deeph.engine.units import BOHR_TO_ANGSTROM, HARTREE_TO_EV


def build(system: Any, structure: Structure, config: PyscfConfig) -> None:
    """Give a molecule or cell of PySCF its atoms, basis and pseudopotentials, and build it.

    :raises InputError: basis or pseudopotential unknown for an element.
    """
    positions = (structure.positions / BOHR_TO_ANGSTROM).tolist()
    system.atom, system.unit = list(zip(structure.symbols, positions, strict=True)), "Bohr"
    system.basis, system.pseudo = config.basis, config.pseudo
    # Any number of unpaired electrons: what is allowed is asked when their number is known.
    system.verbose, system.spin = 0, None
    try:
        if config.pseudo is None:
            cores = {symbol: core_potential(symbol, config.basis) for symbol in structure.elements}
            system.ecp = {symbol: core for symbol, core in cores.items() if core}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            system.build(dump_input=False, parse_arg=False)
    except Exception as error:  # PySCF has a class of its own for each failure
        raise InputError(
            "PySCF refuses the structure, basis or pseudopotential",
            where=f"basis {config.basis}, pseudo {config.pseudo}",
            found=f"{type(error).__name__} {error}",
            expected=f"names that PySCF knows for {', '.join(structure.elements)}",
        ) from None
    missing = [symbol for symbol in structure.elements if config.pseudo and symbol not in system._pseudo]
    if missing:
        raise InputError("element without pseudopotential", where=f"pseudo {config.pseudo}", found=", ".join(missing))


def set_functional(field: Any, config: PyscfConfig, supported: Callable[[str, Any], bool], expected: str) -> None:
    """Give a mean field its functional.

    :param supported: whether a kind (`LDA`, `GGA`, ...) will do; its second argument is PySCF's library of functionals.
    :param expected: the same in words.
    :raises InputError: the functional is unknown or unsupported.
    """
    field.xc = config.xc
    try:
        kind = field._numint._xc_type(config.xc)
    except (KeyError, ValueError, NotImplementedError) as error:  # the ways in which PySCF says so
        raise InputError("functional unknown to PySCF", where="xc", found=config.xc, expected=error) from None
    if not supported(kind, field._numint.libxc):
        raise InputError("functional is not supported", where="xc", found=config.xc, expected=expected)


def settled(field: Any, config: PyscfConfig) -> Any:
    """A mean field with the smearing and the thresholds of a configuration."""
    from pyscf import scf

    if config.smearing is not None:
        field = scf.addons.smearing(field, sigma=config.smearing / HARTREE_TO_EV, method="fermi")
    field.conv_tol, field.conv_tol_grad, field.conv_check = config.conv_tol, Cycles.GRADIENT_TOLERANCE, False
    field.max_cycle = config.max_cycle
    return field
