"""What `deeph-engine predict` reads."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aiida_deeph.engine.config import Config


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
