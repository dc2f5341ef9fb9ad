"""Labelling with ABACUS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, ToContext, while_
from aiida.plugins import CalculationFactory

from aiida_deeph.codes.lcao import LcaoLabelWorkChain
from aiida_deeph.engine.dft.abacus.code import RECORD
from aiida_deeph.engine.dft.abacus.keywords import TABLE
from aiida_deeph.engine.errors import InputError
from aiida_deeph.processes.options import scheduler_options
from aiida_deeph.processes.orbitals import ElementFiles, orbitals_family, overlap_of
from aiida_deeph.processes.recovery import OUT_OF_WALLTIME, RETRYABLE, pause_for_room

AbacusCalculation = CalculationFactory("deeph.abacus")

SIZES = ("smallest", "largest")


class AbacusLabelWorkChain(LcaoLabelWorkChain):
    """Label a structure with ABACUS (LCAO); the CSR files of H(R) and S(R) stay in the remote folder.

    `basis` of the parameters names the file of each element, e.g. `{C: C_gga_8au_100Ry_2s2p1d}`. Bands are a job of
    their own after the SCF.
    """

    _process_class = AbacusCalculation
    _protocol_file = Path(__file__).parent / "protocol.yaml"
    record = RECORD
    files = ElementFiles("orb_", "upf_", "upf")
    quick = MappingProxyType({"ecutwfc": 40.0, "scf_thr": 1e-6})
    # Error of the density, electrons.
    max_residual = 0.5

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        spec.outline(
            cls.setup,
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            while_(cls.bands_missing)(cls.run_bands, cls.inspect_bands),
            cls.results,
        )
        spec.exit_code(340, "ERROR_BANDS_FAILED", message="The bands failed with exit status {status}: {message}")

    @classmethod
    def complete_parameters(cls, parameters: dict[str, Any], symbols: set[str]) -> dict[str, Any]:
        """`size` of the protocol as a file of the family for each element; those that are given stay.

        :raises InputError: no such size or family, or several files of that size.
        """
        size = parameters.pop("size")
        if size not in SIZES:
            expected = f"one of {', '.join(SIZES)}"
            raise InputError("unknown size of the basis", where="label.parameters.size", found=size, expected=expected)
        basis = dict(parameters.get("basis", {}))
        for symbol in sorted(symbols - set(basis)):
            nodes = orbitals_family(parameters["orbitals_family"]).of_element(symbol)
            if not nodes:
                continue
            wanted = nodes[0 if size == "smallest" else -1].n_orbitals
            names = [node.name for node in nodes if node.n_orbitals == wanted]
            if len(names) > 1:
                raise InputError(
                    "several files of orbitals",
                    where=f"PaoFamily {parameters['orbitals_family']}",
                    found=", ".join(names),
                    expected="one",
                    remedy=f"name one: label.parameters.basis.{symbol}",
                )
            basis[symbol] = names[0]
        return {**parameters, "basis": basis}

    @classmethod
    def orbitals_file(cls, symbol: str, basis: Any) -> str:
        """The name as it stands, with or without its ending."""
        return str(basis).removesuffix(".orb")

    @classmethod
    def overlap_basis(cls, parameters: Mapping[str, Any], symbols: set[str]) -> str | dict[str, str]:
        """The same files.

        :param parameters: of a label, or the settings that the reader of a run recorded.
        """
        names = parameters.get("basis") or parameters["orbitals"]
        return overlap_of("abacus", {symbol: cls.orbitals_file(symbol, names[symbol]) for symbol in symbols})

    @classmethod
    def job_inputs(cls, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs of the SCF, without bands."""
        return super().job_inputs({name: value for name, value in inputs.items() if name != "bands_kpoints"})

    def improve_scf(self, parameters: dict[str, Any], attempt: int) -> dict[str, Any] | None:
        """More cycles and smaller steps with a longer history; then still smaller ones, and twice the smearing."""
        if attempt > 2:
            return None

        def value(name: str, default: Any) -> Any:
            return TABLE.value(parameters, name, default)

        beta = min(value("mixing_beta", 0.4), 0.2 if attempt == 1 else 0.05)
        changes = {
            "scf_nmax": max(2 * value("scf_nmax", 100), 200),
            "mixing_type": "broyden",
            "mixing_beta": beta,
            "mixing_beta_mag": min(value("mixing_beta_mag", 4 * beta), 4 * beta),
            "mixing_ndim": max(value("mixing_ndim", 8), 15),
        }
        if attempt == 2 and value("smearing_method", "gaussian") != "fixed":
            changes["smearing_sigma"] = max(2 * value("smearing_sigma", 0.015), 0.004)
        return TABLE.replaced(parameters, changes)

    def setup(self) -> None:
        """Prepare the inputs of the first job."""
        super().setup()
        self.ctx.bands_attempts = 0
        self.ctx.bands = None

    def bands_missing(self) -> bool:
        """Whether bands are still to be computed."""
        return "bands_kpoints" in self.inputs and (self.ctx.bands is None or not self.ctx.bands.is_finished_ok)

    def run_bands(self) -> ToContext:
        """Bands from the density of the SCF."""
        self.ctx.bands_attempts += 1
        scf = self.ctx.children[self.ctx.iteration - 1]
        inputs = {
            **{name: value for name, value in self.ctx.inputs.items() if name != "metadata"},
            "bands_kpoints": self.inputs.bands_kpoints,
            "restart_folder": scf.outputs.remote_folder,
            "metadata": {"options": scheduler_options(self.inputs.get("options", {}), self.inputs.code)},
        }
        inputs["metadata"]["options"].pop("stash", None)
        node = self.submit_once(
            AbacusCalculation,
            inputs,
            name=f"bands_{self.ctx.bands_attempts:02d}",
            label=f"{self.node.label} bands".strip(),
            description="bands from the density of the SCF",
        )
        return ToContext(bands=node)

    def inspect_bands(self) -> ExitCode | None:
        """Go on, wait for room, try again, or give up."""
        node = self.ctx.bands
        if node.exit_status in self.no_space:
            # Waiting is no failure: the try does not count.
            self.ctx.n_waited = self.ctx.get("n_waited", 0) + 1
            pause_for_room(self, node)
            return None
        tries = self.ctx.bands_attempts - self.ctx.get("n_waited", 0)
        again = (*RETRYABLE, OUT_OF_WALLTIME, *self.out_of_walltime, *self.incomplete)
        if node.is_finished_ok or (node.exit_status in again and tries <= self.max_retries):
            return None
        return self.failure(self.exit_codes.ERROR_BANDS_FAILED, node)

    def get_outputs(self, node: orm.CalcJobNode) -> dict[str, orm.Node]:
        """The outputs of the SCF, and the bands."""
        outputs = super().get_outputs(node)
        if self.ctx.bands is not None:
            outputs["output_band"] = self.ctx.bands.outputs.output_band
        return outputs
