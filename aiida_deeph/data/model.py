"""A trained network as a node; its repository is a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiida.common.exceptions import ValidationError

from aiida_deeph.data.folder import FolderNode
from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.io.model import DESCRIPTION_FILE, WEIGHTS_FILE, ModelDescription, read_description


class DeepHModelData(FolderNode):
    """A model folder: `model.json` and `weights.safetensors`, tensors and JSON only, so no code can hide in it.

    Attributes: network, format_version, elements, spin, pair_cutoffs (Angstrom), gauge, metrics (eV), weights_sha256.
    The whole of `model.json` is `model_description`; `description` remains AiiDA's own free text.
    """

    def __init__(self, folder: Path | str | None = None, **kwargs: Any) -> None:
        """Take the files of a model folder.

        :raises InputError: not a model folder, or one of a newer format.
        :raises DataError: the weights do not have the hash that `model.json` records.
        """
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        if folder is not None:
            folder = Path(folder)
            description = read_description(folder)
            self.base.attributes.set_many(
                {
                    "network": description.network,
                    "format_version": description.format_version,
                    "elements": list(description.basis),
                    "spin": description.spin.value,
                    "pair_cutoffs": dict(description.pair_cutoffs),
                    "pair_cutoffs_units": "angstrom",
                    "gauge": description.gauge,
                    "metrics": dict(description.metrics),
                    "weights_sha256": description.weights_sha256,
                }
            )
            self._put_files(folder, (DESCRIPTION_FILE, WEIGHTS_FILE))

    def _validate(self) -> bool:
        super()._validate()
        present = set(self.base.repository.list_object_names())
        if present != {DESCRIPTION_FILE, WEIGHTS_FILE}:
            raise ValidationError(f"not a model folder: it holds {sorted(present)}")
        return True

    @property
    def model_description(self) -> ModelDescription:
        """Everything known of the network besides its weights."""
        values = json.loads(self.base.repository.get_object_content(DESCRIPTION_FILE, "r"))
        return parse_config(ModelDescription, values, DESCRIPTION_FILE)

    @property
    def elements(self) -> tuple[str, ...]:
        """Element symbols that the model was trained on."""
        return tuple(self.base.attributes.get("elements"))
