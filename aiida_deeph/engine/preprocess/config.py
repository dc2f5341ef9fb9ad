"""What `deeph-engine preprocess` reads."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from aiida_deeph.engine.config import Config
from aiida_deeph.engine.io.paths import Name
from aiida_deeph.engine.preprocess.agreement import Difference


class MemberSource(Config):
    """One labelled structure.

    :param name: name of the member in the dataset; letters, digits, `.`, `_`, `-`.
    :param path: its raw output, relative to the configuration file: a folder, or a tar archive of one.
    :param code: reader that understands it: a code of the registry, `deeph` or `deeph_legacy`.
    """

    name: Name
    path: str
    code: str


class PreprocessConfig(Config):
    """Turn raw DFT output into a dataset: `OUTPUT/manifest.json`, `OUTPUT/members/NAME/` (DeepH folders).

    Each member passes the gates or is rejected with a reason that stands in the manifest.

    :param extend: folder of a dataset of the same cutoff and gauge whose members are taken over as they are.
    :param cutoff: pairs of atoms further apart are dropped, Angstrom; `auto` measures for each element pair how far H
        and S of the first member reach, so that no band moves by more than a tenth of `max_band_error`; None keeps
        every pair of H.
    :param max_band_error: a cutoff that moves a band by more is warned of, eV; it is measured on the first members.
    :param allow: in what members may differ, by name (`version`, `functional`, `basis`, `pbc`, ...).
    :param max_dropped: largest |H| entry that the cutoff may drop before a warning, eV.
    :param max_hermiticity_error: eV.
    :param min_overlap_eigenvalue: smallest eigenvalue of S(k), at Gamma and at two further k-points.
    :param gauge: `as_computed`, or `mu_removed`: H - mu S with mu = (H.S)/(S.S) over all entries.
    :param subtract_start: H minus that of the density that an SCF starts from is stored and learnt; predictions add it.
    :param max_failed_fraction: a larger share of rejected members is an error.
    :param asked: file of the structures that were asked for, by member name: a run of another one is rejected.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    members: tuple[MemberSource, ...] = ()
    extend: str | None = None
    output: str = "dataset"
    cutoff: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None
    max_dropped: float = Field(default=1e-2, gt=0)
    max_band_error: float = Field(default=1e-2, gt=0)
    allow: tuple[Difference, ...] = ()
    max_hermiticity_error: float = Field(default=1e-5, gt=0)
    min_overlap_eigenvalue: float = 1e-6
    gauge: Literal["as_computed", "mu_removed"] = "as_computed"
    subtract_start: bool = False
    max_failed_fraction: float = Field(default=0.1, ge=0, lt=1)
    asked: str | None = None

    @model_validator(mode="after")
    def _something(self) -> PreprocessConfig:
        if not self.members and self.extend is None:
            raise ValueError("give members, or a dataset to extend")
        return self
