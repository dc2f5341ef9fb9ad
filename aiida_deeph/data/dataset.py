"""The manifest of a dataset as a node; the matrices themselves stay beside the GPUs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida.common.exceptions import ValidationError
from aiida.orm import Data

from aiida_deeph.engine.config import parse_config
from aiida_deeph.engine.io.dataset import MANIFEST_FILE, DatasetManifest, Member, read_manifest


class DatasetData(Data):
    """`manifest.json` of a dataset: members by content uuid and sha256, rejected names with reasons, statistics.

    The members' files lie in the remote folder of the preprocess job that made the manifest; a job that reads them gets
    this manifest beside them, so files that changed since are refused. Nothing here depends on the profile (no uuid
    of a node, no host path): equal data give equal hashes. Attributes: n_members, elements, spin, pair_cutoffs
    (Angstrom), gauge, rejected (names).
    """

    def __init__(self, manifest: DatasetManifest | Mapping[str, Any] | Path | str | None = None, **kwargs: Any) -> None:
        """Take a manifest: the object, its plain values, its file or the folder that holds it.

        :raises InputError: not a manifest.
        """
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        if manifest is None:
            return
        if isinstance(manifest, Path | str):
            path = Path(manifest)
            manifest = read_manifest(path if path.is_dir() else path.parent)
        elif not isinstance(manifest, DatasetManifest):
            manifest = parse_config(DatasetManifest, manifest, "manifest")
        values = manifest.model_dump(mode="json")
        self.base.attributes.set_many(
            {
                "n_members": len(manifest.members),
                "elements": list(values["basis"]),
                "spin": values["spin"],
                "pair_cutoffs": values["pair_cutoffs"],
                "pair_cutoffs_units": "angstrom",
                "gauge": values["gauge"],
                "rejected": [rejected.name for rejected in manifest.rejected],
            }
        )
        text = json.dumps(values, indent=2) + "\n"
        self.base.repository.put_object_from_bytes(text.encode("utf-8"), MANIFEST_FILE)

    def _validate(self) -> bool:
        super()._validate()
        if self.base.repository.list_object_names() != [MANIFEST_FILE]:
            raise ValidationError(f"a dataset node holds {MANIFEST_FILE} and nothing else")
        return True

    @property
    def manifest(self) -> DatasetManifest:
        """The whole manifest."""
        values = json.loads(self.base.repository.get_object_content(MANIFEST_FILE, "r"))
        return parse_config(DatasetManifest, values, MANIFEST_FILE)

    @property
    def members(self) -> tuple[Member, ...]:
        """The members that passed the gates."""
        return self.manifest.members

    @property
    def n_members(self) -> int:
        """Number of members that passed the gates."""
        return int(self.base.attributes.get("n_members"))

    @property
    def elements(self) -> tuple[str, ...]:
        """Element symbols of the basis."""
        return tuple(self.base.attributes.get("elements"))
