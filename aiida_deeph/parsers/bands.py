"""Bands of a DeepH folder."""

from __future__ import annotations

from aiida.engine import ExitCode
from aiida.orm import SinglefileData

from aiida_deeph.calculations.bands import OUTPUT, WAVEFUNCTIONS
from aiida_deeph.parsers.bandsdata import make_bands
from aiida_deeph.parsers.base import EngineParser, InvalidOutputError

ARRAYS = (
    "energies",
    "kpoints",
    "weights",
    "labels",
    "distances",
    "cell",
    "ghost_states",
    "spectral_weights",
    "folder",
)


class BandsParser(EngineParser):
    """Attaches the bands; what is no array becomes output_parameters."""

    UNITS = {"fermi_level": "eV", "dft_fermi_level": "eV", "seconds": "s", "peak_memory_GiB": "GiB"}

    def attach(self) -> ExitCode | None:
        values = self.read_json(OUTPUT)
        if "share" in values:  # its solutions stay where they are until they are joined
            self.out_parameters({key: value for key, value in values.items() if key not in ARRAYS})
            return None
        try:
            bands = make_bands(
                values["energies"],
                values["kpoints"],
                weights=values.get("weights"),
                labels=values.get("labels"),
                cell=values.get("cell"),
                like=self.node.inputs.kpoints if "kpoints" in self.node.inputs else None,
                spectral_weights=values.get("spectral_weights"),
                ghosts=values.get("ghost_states"),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidOutputError(f"{OUTPUT}: {type(error).__name__} {error}") from None
        self.out("bands", bands)
        if "parameters" in self.node.inputs and self.node.inputs.parameters.get_dict().get("wavefunctions"):
            self.out("wavefunctions", SinglefileData(self.temporary_file(WAVEFUNCTIONS)))
        parameters = {key: value for key, value in values.items() if key not in ARRAYS}
        self.out_parameters({**parameters, "n_ghost_states": len(values.get("ghost_states") or ())})
        return None
