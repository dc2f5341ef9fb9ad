"""What the SCF jobs of all DFT programs with numerical orbitals share: ports and checks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from aiida.orm import (
    Bool,
    Dict,
    RemoteData,
    Str,
    to_aiida_type,
)

from aiida_deeph.calculations.kpoints import labels_of, mesh_of
from aiida_deeph.codes.job import ProgramCalculation, define_scf
from aiida_deeph.data.structure import MOMENTS_OF_KINDS, atom_moments, to_engine
from aiida_deeph.engine.dft.keywords import KeywordTable
from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.errors import DeepHError, InputError


class DftCalculation(ProgramCalculation):
    """One SCF of one structure; H(R) and S(R) stay in the remote folder, numbers and bands return.

    A subclass names the program, its files, its keywords and its kinds of pseudopotentials, adds the ports of its basis
    in `define`, says what the input files say (`run_of`), and writes the job in `prepare_for_submission`.
    """

    KEYWORDS: ClassVar[KeywordTable]
    EXAMPLE: ClassVar[str]
    PSEUDOS: ClassVar[tuple[type, ...]]
    # Text of the input, or of several files by name, from what `run_of` returns.
    RENDER: ClassVar[Callable[[Any], Any]]

    @classmethod
    def define(cls, spec) -> None:
        super().define(spec)
        define_scf(spec)
        spec.input(
            "parameters",
            valid_type=Dict,
            validator=cls._validate_keywords,
            help=f"Keywords of {cls.PROGRAM}'s input, e.g. {cls.EXAMPLE}; what other inputs decide is refused.",
        )
        spec.input_namespace("pseudos", valid_type=cls.PSEUDOS, dynamic=True, help="Pseudopotential of each element.")
        spec.input(
            "spin",
            valid_type=Str,
            serializer=to_aiida_type,
            default=lambda: Str(SpinMode.NONE.value),
            validator=check_spin,
            help="`none`, `collinear` or `noncollinear`.",
        )
        spec.input(
            "spin_orbit",
            valid_type=Bool,
            serializer=to_aiida_type,
            default=lambda: Bool(False),
            help="Whether spin-orbit coupling is taken into account; needs noncollinear spins.",
        )
        spec.input("moments", valid_type=Dict, serializer=to_aiida_type, required=False, help=MOMENTS_OF_KINDS)
        spec.input(
            "restart_folder",
            valid_type=RemoteData,
            required=False,
            help="Folder of an earlier run of the same atoms, whose density the run starts from.",
        )

    @classmethod
    def _validate_keywords(cls, node: Dict, _: Any = None) -> str | None:
        """Every keyword is known, is the user's, and has a value that it can have."""
        try:
            cls.KEYWORDS.checked(node.get_dict())
        except DeepHError as error:
            return str(error)
        return None

    @classmethod
    def run_of(cls, inputs: Mapping[str, Any]) -> Any:
        """What the input files say.

        :raises InputError: inputs that do not fit each other.
        """
        raise NotImplementedError

    @classmethod
    def check_run(cls, inputs: Mapping[str, Any]) -> None:
        """Refuse inputs that do not fit each other, by writing the input files.

        :raises InputError: they do not.
        """
        cls.RENDER(cls.run_of(inputs))

    @classmethod
    def run_fields(cls, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a ScfRun.

        :raises InputError: inputs that do not fit each other.
        """
        bands = inputs.get("bands_kpoints")
        return {
            "structure": to_engine(inputs["structure"]),
            "kmesh": tuple(mesh_of(inputs["kpoints"])),
            "keywords": cls.KEYWORDS.checked(inputs["parameters"].get_dict()),
            "spin": SpinMode(inputs["spin"].value),
            "spin_orbit": inputs["spin_orbit"].value,
            "moments": _moments(inputs),
            "band_kpoints": None if bands is None else bands.get_kpoints(),
            "band_labels": () if bands is None else labels_of(bands) or (),
            "restart": "restart_folder" in inputs,
        }


# What a pseudopotential file says that was made without spin-orbit coupling.
_SCALAR = re.compile(
    r"""has_so\s*=\s*["']\s*\.?[Ff]|relativity\s*=\s*["'](?:no|scalar)|\A\s*[A-Z][a-z]?\s+\S+\s+(?:nrl|isp)\s"""
)


def check_spin_orbit(inputs: Mapping[str, Any], symbols: tuple[str, ...]) -> None:
    """Spin-orbit coupling is in the pseudopotentials: of those without it a program would make nothing of it.

    :raises InputError: one says that it has none.
    """
    for symbol in symbols if inputs["spin_orbit"].value else ():
        node = inputs["pseudos"][symbol]
        found = _SCALAR.search(node.get_content(mode="rb").decode("utf-8", errors="replace")[:20000])
        if found:
            raise InputError(
                "pseudopotential without spin-orbit coupling",
                where=f"{symbol}: {node.filename}",
                found=" ".join(found[0].split()),
                expected="a fully relativistic one",
                remedy="choose another family: parameters.pseudos_family",
            )


def _moments(inputs: Mapping[str, Any]) -> np.ndarray | None:
    """Moments of the atoms, shape (n_atoms, 3), Bohr magnetons."""
    if "moments" not in inputs:
        return None
    given = inputs["moments"].get_dict()
    moments = np.array(atom_moments(inputs["structure"], given))
    if inputs["spin"].value == SpinMode.COLLINEAR.value and moments[:, :2].any():
        raise InputError(
            "moment is not along z", where="moments", found=given, expected="numbers, or noncollinear spins"
        )
    return moments


def check_spin(node: Str, _: Any = None) -> str | None:
    """A known treatment of spin."""
    known = [mode.value for mode in SpinMode]
    return None if node.value in known else f"unknown spin `{node.value}`, expected one of {', '.join(known)}"
