"""The manifest of a dataset, who was rejected and why, and a warning where the cutoff drops too much."""

from __future__ import annotations

from aiida.engine import ExitCode

from aiida_deeph.calculations.folders import MEMBERS, OUTPUT
from aiida_deeph.calculations.preprocess import REPORT_FILE
from aiida_deeph.data.dataset import DatasetData
from aiida_deeph.data.hamiltonian import HamiltonianData
from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.io.dataset import MANIFEST_FILE, DatasetManifest
from aiida_deeph.parsers.base import EngineParser


class PreprocessParser(EngineParser):
    """Attaches the statistics also where too many members were rejected for a dataset to be made."""

    MESSAGES = (("members rejected", "ERROR_MEMBERS_REJECTED"),)

    def attach(self) -> ExitCode | None:
        report = self.read_json(f"{OUTPUT}/{REPORT_FILE}")
        rejected = {one["name"]: one["reason"] for one in report["rejected"]}
        parameters = {key: report[key] for key in ("n_members", "n_rejected", "statistics", "gates")}
        self.out_parameters({**parameters, "rejected": rejected})
        name = f"{OUTPUT}/{MANIFEST_FILE}"
        manifest = parse_config(DatasetManifest, self.read_json(name), name)
        self.out("dataset", DatasetData(manifest))
        self._attach_members(manifest)
        warnings = report["statistics"].get("warnings")
        if not warnings:
            return None
        more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
        return self.exit_codes.WARNING_GATE.format(message=f"{warnings[0]}{more}")

    def _attach_members(self, manifest: DatasetManifest) -> None:
        """H and S of the members that were made here and came back; of the rejected ones nothing."""
        if "retrieve" not in self.node.inputs or not self.node.inputs.retrieve.value:
            return
        taken = {member.name for member in self.node.inputs.extend.members} if "extend" in self.node.inputs else set()
        for member in manifest.members:
            if member.name not in taken:
                folder = self.temporary_folder(f"{OUTPUT}/{MEMBERS}/{member.name}")
                self.out(f"members.{member.name}", HamiltonianData(folder))
