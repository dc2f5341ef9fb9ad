"""The files of `aiida-deeph launch ... -f inputs.yaml`."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from aiida_deeph.engine.config import Config
from aiida_deeph.engine.errors import nearest
from aiida_deeph.engine.observables.registry import OBSERVABLES
from aiida_deeph.engine.structures.twist import TwistConfig


class StructureSource(Config):
    """Where a structure comes from: a file that ase reads (relative to the inputs file), or a node.

    :param supercell: repetitions along the lattice vectors.
    :param pbc: periodicity, if the file does not say it or says it wrongly.
    :param twist: turn the upper of two hexagonal layers: `{m: 5}`, `{angle: 1.08}`, ... (see TwistConfig).
    """

    file: str | None = None
    pk: int | None = None
    uuid: str | None = None
    supercell: tuple[int, int, int] | None = None
    pbc: tuple[bool, bool, bool] | None = None
    twist: TwistConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return value
        return {"pk": value} if isinstance(value, int) else {"file": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> StructureSource:
        if sum(value is not None for value in (self.file, self.pk, self.uuid)) != 1:
            raise ValueError("give exactly one of file, pk and uuid")
        return self


class TargetSource(StructureSource):
    """A structure that a model is used on.

    :param settings: what it has otherwise than the rest (see TargetSettings): `{bands: {num_bands: 24}}`, ...
    """

    settings: dict[str, Any] = Field(default_factory=dict)


class ValidationSource(TargetSource):
    """A structure on which bands are compared.

    :param dft_bands: file of bands of a DFT code, of this structure; without it, the structure is labelled.
    """

    dft_bands: str | None = None


class StructuresSource(Config):
    """Where many structures come from: all frames of all files that are meant, or nodes.

    :param file: a file that ase reads, relative to the inputs file, a pattern of such, or a folder of them.
    :param frames: of each file, e.g. `0`, `-1`, `::10`.
    :param group: label of a group of StructureData.
    :param query: filters of AiiDA's QueryBuilder for StructureData: `{extras.material: graphene}`.
    :param supercell: repetitions along the lattice vectors.
    :param pbc: periodicity, if the files do not say it or say it wrongly.
    """

    file: str | None = None
    frames: str = ":"
    group: str | None = None
    query: dict[str, Any] | None = None
    supercell: tuple[int, int, int] | None = None
    pbc: tuple[bool, bool, bool] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value

    @field_validator("frames", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(text, str) and re.fullmatch(r"-?\d+|-?\d*:-?\d*(:-?\d+)?", text) is None:
            raise ValueError(f"frames `{text}`: a number like -1, or a range like ::10")
        return text

    @model_validator(mode="after")
    def _one_source(self) -> StructuresSource:
        if sum(value is not None for value in (self.file, self.group, self.query)) != 1:
            raise ValueError("give exactly one of file, group and query")
        return self


class LabelSource(Config):
    """Labels that are there already: DeepH folders, or nodes in groups.

    :param folder: whose subfolders they are, relative to the inputs file.
    :param members: pattern of their names.
    :param groups: labels of AiiDA's groups that hold their nodes.
    """

    folder: str | None = None
    members: str = "*"
    groups: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> LabelSource:
        if (self.folder is None) != bool(self.groups):
            raise ValueError("give either folder or groups")
        return self


class CodesConfig(Config):
    """Codes by label, PK or UUID: `engine` runs deeph-engine, `dft` the DFT program."""

    engine: str | None = None
    dft: str | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Inputs(Config):
    """What every inputs file may hold.

    :param title: label of the process.
    :param description: of the process, in free words.
    :param codes: by label, PK or UUID.
    :param protocol: `fast`, `balanced` or `stringent`.
    :param options: of every job: resources, max_wallclock_seconds, gpus_per_node, queue_name, ...
    :param overrides: changes of the protocol's inputs; keys mirror the ports of the workflow.
    """

    title: str = ""
    description: str = ""
    protocol: str | None = None
    codes: CodesConfig = CodesConfig()
    options: dict[str, Any] = Field(default_factory=dict)
    overrides: dict[str, Any] = Field(default_factory=dict)


class LabelInputs(Inputs):
    """One DFT run, by default with the code that the engine runs.

    :param label: the DFT code.
    :param structure: what is computed.
    :param bands: whether bands are wanted, too.
    :param kpath: of the bands, e.g. `G-X-M-G`; else the lattice's own.
    :param points_per_segment: of the path.
    """

    label: str | None = None
    structure: StructureSource
    kpath: str | None = None
    points_per_segment: int = Field(default=40, ge=2)
    bands: bool = False


class DatasetInputs(Inputs):
    """Many DFT runs and their dataset; labels that are there already join it, or make it alone.

    :param label: the DFT code.
    :param structures: what is labelled, or the parents of what is drawn, by name.
    :param perturbation: how cells are drawn around them: `aiida-deeph inputs fields perturbation`.
    :param labels: DeepH folders that are there already.
    :param extend: PK or UUID of a DatasetData: its members join as they are, and are not labelled again.
    :param keep: what of each label comes into the database: `nothing`, `hamiltonian` or `all` (see Keep).
    """

    label: str | None = None
    structures: dict[str, StructureSource] = Field(default_factory=dict)
    perturbation: dict[str, Any] | None = None
    labels: LabelSource | None = None
    extend: int | str | None = None
    keep: Literal["nothing", "hamiltonian", "all"] | None = None

    @property
    def uses_model_alone(self) -> bool:
        """Whether nothing is labelled or trained."""
        return False

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.structures and self.labels is None and not self.uses_model_alone:
            raise ValueError("give structures, or labels")
        return self


class TrainInputs(Inputs):
    """A training.

    :param dataset: PK or UUID of a DatasetData.
    :param initial_model: PK or UUID of a DeepHModelData whose network and weights are the start (fine-tuning).
    """

    dataset: int | str
    initial_model: int | str | None = None


class PredictInputs(Inputs):
    """H(R) of one structure or of many, and what follows from it.

    :param model: PK or UUID of a DeepHModelData.
    :param structure: the one.
    :param structures: files, folders, groups, queries: what they hold is predicted side by side.
    :param observables: names such as `[bands]`, or their parameters by name; bands come with every other one.
    :param kpath: of the bands, e.g. `G-X-M-G`; else the lattice's own.
    :param basis: of the overlap, if the model does not tell, in the words of `deeph-engine overlap`.
    :param group: label of a group that takes the process of each of many structures.
    :param max_concurrent: of many structures, so many at a time.
    """

    model: int | str
    structure: StructureSource | None = None
    structures: tuple[StructuresSource, ...] = ()
    observables: dict[str, bool | dict[str, Any]] | None = None
    kpath: str | None = None
    basis: str | dict[str, str] | None = None
    group: str | None = None
    max_concurrent: int | None = Field(default=None, ge=1)

    @field_validator("structures", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | dict) else value

    @field_validator("observables", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple | dict):
            return value
        unknown = [name for name in value if name not in OBSERVABLES]
        if unknown:
            raise ValueError(f"no observable `{unknown[0]}`, but {nearest(unknown[0], sorted(OBSERVABLES))}")
        return value if isinstance(value, dict) else dict.fromkeys(value, True)

    @model_validator(mode="after")
    def _some(self) -> PredictInputs:
        if (self.structure is None) == (not self.structures):
            raise ValueError("give structure or structures")
        if self.structure is not None and (self.group or self.max_concurrent):
            raise ValueError("group and max_concurrent are for structures, not for one structure")
        return self


class TargetInputs(PredictInputs):
    """The same with bands and all else that the protocol names, if `observables` does not say otherwise.

    :param label: DFT code whose bands of the same structures the predicted ones are compared with.
    """

    label: str | None = None


class BandsInputs(Inputs):
    """Bands and density of states.

    :param hamiltonian: PK or UUID of a HamiltonianData.
    :param kpath: of the bands, e.g. `G-X-M-G`; else the lattice's own.
    """

    hamiltonian: int | str
    kpath: str | None = None


class AccelerateInputs(Inputs):
    """SCF runs from predictions.

    :param hamiltonians: PKs or UUIDs of HamiltonianData by name.
    """

    hamiltonians: dict[str, int | str] = Field(min_length=1)


class FullInputs(DatasetInputs):
    """Everything: dataset, training, targets, validation.

    :param targets: structures that the model is used on, by name.
    :param validation: structures on which predicted bands are compared with DFT, by name.
    :param kpath: of all bands, e.g. `G-X-M-G`; else each lattice's own.
    :param basis: of the overlaps, if nothing is labelled here, in the words of `deeph-engine overlap`.
    :param initial_model: PK or UUID of a DeepHModelData whose network and weights are the start (fine-tuning); without
        structures and labels it is used as it is.
    """

    initial_model: int | str | None = None
    targets: dict[str, TargetSource] = Field(default_factory=dict)
    validation: dict[str, ValidationSource] = Field(default_factory=dict)
    kpath: str | None = None
    basis: str | dict[str, str] | None = None

    @property
    def uses_model_alone(self) -> bool:
        """Whether nothing is labelled or trained: the model that is there is put to use."""
        nothing = not self.structures and self.labels is None and self.extend is None
        return self.initial_model is not None and nothing and bool(self.targets or self.validation)


class ActiveInputs(Inputs):
    """Active learning: which structures may be labelled, and when it ends.

    :param label: the DFT code.
    :param candidates: files, folders, groups, queries, from which is chosen; with `perturbation`, parents of cells.
    :param perturbation: how the candidates are drawn around parents (see DesignConfig).
    :param targets: structures that shall be predicted well; without any, the candidates.
    :param budget: most labels.
    :param target: expected mean |error| of H at which it ends, eV.
    :param first: labels of the first round, drawn at random.
    :param batch: labels of every further round.
    :param rule: `coverage`, `leverage`, `variance` or `random` (see SelectConfig).
    """

    label: str | None = None
    candidates: tuple[StructuresSource, ...]
    perturbation: dict[str, Any] | None = None
    targets: dict[str, StructureSource] = Field(default_factory=dict)
    budget: int = Field(ge=1)
    target: float | None = Field(default=None, gt=0)
    first: int | None = Field(default=None, ge=1)
    batch: int | None = Field(default=None, ge=1)
    rule: str | None = None

    @field_validator("candidates", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | dict) else value
