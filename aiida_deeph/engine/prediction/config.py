"""What `deeph-engine predict` and `deeph-engine select` read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from aiida_deeph.engine.config import Config
from aiida_deeph.engine.errors import nearest
from aiida_deeph.engine.prediction.rules import RULES


class PredictConfig(Config):
    """Predict H(R) of one structure into the DeepH folder `OUTPUT` (POSCAR, info.json, overlap.h5, hamiltonian.h5).

    :param model: model folder.
    :param structure: DeepH folder (its overlap gives S and is copied along) or any structure file that ase reads.
    :param edges_per_chunk: edges that are in memory at a time; the result does not depend on it.
    :param magnetic_moments: nominal spin moment of each atom, numbers along z or vectors, Bohr magnetons: which
        magnetic state a model of magnets predicts; None takes those of `moments.json` in the DeepH folder.
    :param strict: keep each direction of a pair as predicted instead of averaging both to a Hermitian H.
    """

    model: str
    structure: str
    output: str = "prediction"
    magnetic_moments: tuple[float | tuple[float, float, float], ...] | None = None
    edges_per_chunk: int = Field(default=20_000, ge=1)
    strict: bool = False
    precision: Literal["float32", "float64"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)


class SelectConfig(Config):
    """Choose which structures to label next; `OUTPUT` (JSON) holds them and what the model expects of all.

    :param model: model folder, of a network with a posterior.
    :param candidates: folder of structure files, from which is chosen.
    :param targets: folder of structure files that shall be predicted well; None is the candidates themselves.
    :param known: names of candidates (of their files, without ending) that are labelled already.
    :param rule: `coverage` (smallest expected error of the targets), `leverage` (least determined, each unlike the
        others), `variance` (largest expected error), `random`.
    :param count: how many are chosen.
    :param seed: of the rule `random`.
    """

    model: str
    candidates: str
    targets: str | None = None
    known: tuple[str, ...] = ()
    rule: str = "coverage"
    count: int = Field(default=4, ge=0)
    seed: int = 0
    output: str = "selection.json"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)

    @field_validator("rule")
    @classmethod
    def _registered(cls, value: str) -> str:
        if value not in RULES:
            raise ValueError(nearest(value, RULES))
        return value
