"""One OpenMX run that recovers from what can be recovered from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import BaseRestartWorkChain, PortNamespace, ProcessBuilder, ProcessSpec, while_
from aiida.plugins import CalculationFactory

from aiida_deeph.codes.lcao import LcaoLabelConfig
from aiida_deeph.codes.openmx.label import OpenmxLabelWorkChain
from aiida_deeph.codes.openmx.recovery import OpenmxRecoveryMixin
from aiida_deeph.engine.config import parse_config
from aiida_deeph.processes.builder import filled_builder
from aiida_deeph.processes.ports import expose_inputs
from aiida_deeph.processes.protocol import ProtocolMixin
from aiida_deeph.processes.resumable import ResumableRestartMixin

OpenmxCalculation = CalculationFactory("deeph.openmx")


class OpenmxBaseWorkChain(ProtocolMixin, OpenmxRecoveryMixin, ResumableRestartMixin, BaseRestartWorkChain):
    """Run OpenMX; an SCF that does not converge is mixed more carefully, one that ran out of time gets more of it."""

    _process_class = OpenmxCalculation
    _protocol_file = Path(__file__).parent / "protocol.yaml"

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:
        super().define(spec)
        expose_inputs(spec, OpenmxCalculation, namespace="openmx")
        spec.outline(cls.setup, while_(cls.should_run_process)(cls.run_process, cls.inspect_process), cls.results)
        spec.expose_outputs(OpenmxCalculation)
        spec.default_output_node = "output_parameters"
        cls.define_recovery(spec)

    def setup(self) -> None:
        """Prepare the inputs of the first job."""
        super().setup()
        inputs = dict(self.exposed_inputs(OpenmxCalculation, namespace="openmx"))
        metadata = inputs.get("metadata", {})
        inputs["metadata"] = {**metadata, "options": dict(metadata.get("options", {}))}
        self.ctx.inputs = inputs
        self.reset_recovery()

    @classmethod
    def protocol_ports(cls) -> PortNamespace:
        """Those of the labelling workchain, whose protocols these are."""
        return OpenmxLabelWorkChain.protocol_ports()

    @classmethod
    def get_builder_from_protocol(
        cls,
        code: orm.AbstractCode,
        structure: orm.StructureData,
        protocol: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        bands_kpoints: orm.KpointsData | None = None,
    ) -> ProcessBuilder:
        """Builder with the inputs of a protocol of the labels.

        :param overrides: mirror the ports of the labelling workchain: `parameters.keywords`, `parameters.spin`, ...
        :raises InputError: an unknown protocol or override, a code of another plugin, an element without basis.
        """
        values = OpenmxLabelWorkChain.label_inputs(code, [structure], protocol, overrides, options)
        settings = parse_config(LcaoLabelConfig, values["parameters"], "parameters")
        job = {
            **OpenmxLabelWorkChain.calculation_inputs(settings, values["files"], structure),
            "code": code,
            "kpoints": values["kpoints"],
            "bands_kpoints": bands_kpoints,
            "metadata": {"options": values["options"]},
        }
        return filled_builder(cls, {"openmx": job, "max_iterations": values.get("max_iterations")})
