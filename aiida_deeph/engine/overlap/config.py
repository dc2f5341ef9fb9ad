"""What `deeph-engine overlap` reads."""

from __future__ import annotations

from pydantic import Field, model_validator

from aiida_deeph.engine.config import Config


class OverlapConfig(Config):
    """S(R) of a structure without a DFT run, written as the DeepH folder `OUTPUT` (POSCAR, info.json, overlap.h5).

    :param structure: a file that ase reads, or a DeepH folder; atoms come out grouped by element.
    :param basis: Gaussians as `CODE:NAME` (which the code's library has) or `CODE:FILE:NAME` (of a file of basis sets),
        or numerical orbitals as `CODE:FOLDER` (the `.pao`, `.ion.xml`, `.orb` files of a folder; `.vps` and `.upf`
        files there tell the number of electrons), with paths relative to the configuration; one for all elements or one
        per element. `deeph-engine overlap --help` names the codes.
    :param orbitals: for numerical orbitals, those of each element: `{"C": "C6.0-s2p2d1"}` of `.pao`, label of the
        species of `.ion` (default: the symbol), file of `.orb` (default: the only one of the element); or they stand
        in the basis of the element, `{"C": "CODE:FOLDER:C6.0-s2p2d1"}`.
    :param threshold: a pair of atoms is kept while an overlap of its orbitals can exceed this.
    :param cutoff: keep all pairs up to this distance instead, Angstrom.
    :param pair_cutoffs: the same per element pair, keys like `C-H` (elements sorted by name), Angstrom; a model
        records its own.
    :param model: model folder whose pair cutoffs are taken.
    :param magnetic_moments: nominal spin moment of each atom, numbers along z or vectors, Bohr magnetons: written to
        `moments.json`, for predictions of magnets.
    """

    structure: str
    basis: str | dict[str, str]
    orbitals: dict[str, str] | None = None
    output: str = "overlap"
    threshold: float = Field(default=1e-8, gt=0)
    cutoff: float | None = Field(default=None, gt=0)
    pair_cutoffs: dict[str, float] | None = None
    model: str | None = None
    magnetic_moments: tuple[float | tuple[float, float, float], ...] | None = None

    @model_validator(mode="after")
    def _one_range(self) -> OverlapConfig:
        if sum(value is not None for value in (self.cutoff, self.pair_cutoffs, self.model)) > 1:
            raise ValueError("give at most one of cutoff, pair_cutoffs and model")
        return self
