"""What one structure of a full run has otherwise than the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from pydantic import Field

from aiida_deeph.engine.config import Config, parse_config
from aiida_deeph.engine.errors import DeepHError


class TargetSettings(Config):
    """Changes of the inputs that all targets and validation structures share.

    :param bands: parameters of the bands on top of `bands.bands.parameters`, e.g. `{num_bands: 24}`; false: H(R) alone.
    :param dos: the same for the density of states; false: none.
    :param predict: parameters of the prediction on top of `predict.predict.parameters`.
    :param kpath: path of the bands, e.g. `G-K-M-G`.
    :param points_per_segment: of the path.
    :param retrieve: whether H(R) comes back into the database; large ones may stay where they are.
    """

    bands: bool | dict[str, Any] = True
    dos: bool | dict[str, Any] = True
    predict: dict[str, Any] = Field(default_factory=dict)
    kpath: str | None = None
    points_per_segment: int | None = Field(default=None, ge=2)
    retrieve: bool | None = None

    def applied(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs of a TargetWorkChain with these changes; the argument stays as it is."""
        result = {**inputs, "predict": {**inputs["predict"]}, "bands": {**inputs["bands"]}}
        if self.predict:
            result["predict"]["predict"] = _with_parameters(result["predict"]["predict"], self.predict)
        if self.retrieve is not None:
            result["predict"]["predict"] = {**result["predict"]["predict"], "retrieve": orm.Bool(self.retrieve)}
        if self.bands is False:
            del result["bands"]
            return result
        bands = result["bands"]
        if isinstance(self.bands, dict):
            bands["bands"] = _with_parameters(bands["bands"], self.bands)
        if self.dos is False:
            bands.pop("dos", None)
        elif isinstance(self.dos, dict) and "dos" in bands:
            bands["dos"] = _with_parameters(bands["dos"], self.dos)
        if self.kpath is not None:
            bands["kpath"] = orm.Str(self.kpath)
        if self.points_per_segment is not None:
            bands["points_per_segment"] = orm.Int(self.points_per_segment)
        return result


def validate_settings(settings: Mapping[str, orm.Dict] | None, _: Any) -> str | None:
    """Message if the settings of a structure are wrong."""
    for name, node in (settings or {}).items():
        try:
            parse_config(TargetSettings, node.get_dict() if isinstance(node, orm.Dict) else node, f"settings.{name}")
        except DeepHError as error:
            return str(error)
    return None


def _with_parameters(job: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of a job with some of its parameters changed."""
    known = job["parameters"].get_dict() if "parameters" in job else {}
    return {**job, "parameters": orm.Dict({**known, **changes})}
