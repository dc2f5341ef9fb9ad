"""The files of `aiida-deeph launch ... -f inputs.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from aiida_deeph.engine.config import Config
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


class LabelSource(Config):
    """Labels that are there already: DeepH folders.

    :param folder: whose subfolders they are, relative to the inputs file.
    :param members: pattern of their names.
    """

    folder: str
    members: str = "*"


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
    """One DFT run, by default with the code that the engine runs."""

    label: str | None = None
    structure: StructureSource
    kpath: str | None = None
    points_per_segment: int = Field(default=40, ge=2)
    bands: bool = False


class DatasetInputs(Inputs):
    """Many DFT runs and their dataset; labels that are there already join it, or make it alone.

    :param extend: PK or UUID of a DatasetData: its members join as they are, and are not labelled again.
    :param keep: what of each label comes into the database: `nothing`, `hamiltonian` or `all` (see Keep).
    """

    label: str | None = None
    structures: dict[str, StructureSource] = Field(default_factory=dict)
    perturbation: dict[str, Any] | None = None
    labels: LabelSource | None = None
    extend: int | str | None = None
    keep: Literal["nothing", "hamiltonian", "all"] | None = None

    @model_validator(mode="after")
    def _something(self) -> DatasetInputs:
        if not self.structures and self.labels is None:
            raise ValueError("give structures, or labels")
        return self


class TrainInputs(Inputs):
    """A training: `dataset` is the PK or UUID of a DatasetData.

    :param initial_model: PK or UUID of a DeepHModelData whose network and weights are the start (fine-tuning).
    """

    dataset: int | str
    initial_model: int | str | None = None


class PredictInputs(Inputs):
    """A prediction: `model` is the PK or UUID of a DeepHModelData."""

    model: int | str
    structure: StructureSource
    basis: str | dict[str, str] | None = None


class BandsInputs(Inputs):
    """Bands and density of states: `hamiltonian` is the PK or UUID of a HamiltonianData."""

    hamiltonian: int | str
    kpath: str | None = None


class FullInputs(DatasetInputs):
    """Everything: dataset, training, targets, validation.

    :param basis: of the overlaps, if nothing is labelled here, in the words of `deeph-engine overlap`.
    :param initial_model: PK or UUID of a DeepHModelData whose network and weights are the start (fine-tuning).
    """

    initial_model: int | str | None = None

    targets: dict[str, TargetSource] = Field(default_factory=dict)
    validation: dict[str, ValidationSource] = Field(default_factory=dict)
    kpath: str | None = None
    basis: str | dict[str, str] | None = None


def structure_node(source: StructureSource, folder: Path, name: str, *, store: bool = True) -> Any:
    """The node of a source; a new one (unstored) for a file.

    :param folder: where the inputs file lies.
    :param store: whether a twist, which is a process, is stored with its inputs.
    :raises InputError: no such file or node.
    """
    from aiida import orm

    node = _untwisted(source, folder, name)
    if source.twist is None:
        return node
    from aiida_deeph.workflows.draw import twist_bilayer

    settings = orm.Dict(source.twist.model_dump(mode="json", exclude_none=True))
    metadata = {"label": f"twist {name}", "store_provenance": store}
    twisted = twist_bilayer(bilayer=node, settings=settings, metadata=metadata)
    twisted.label = name
    return twisted


def _untwisted(source: StructureSource, folder: Path, name: str) -> Any:
    from aiida import orm

    from aiida_deeph.cli.nodes import load
    from aiida_deeph.data.structure import from_engine, to_engine
    from aiida_deeph.engine.domain.structure import Structure
    from aiida_deeph.engine.io.folders import read_structure

    if source.file is None:
        node = load(source.pk or source.uuid, orm.StructureData, f"structure {name}")
        if source.supercell is None and source.pbc is None:
            return node
        structure = to_engine(node)
    else:
        structure = read_structure(folder / source.file)
    if source.pbc is not None:
        structure = Structure(structure.symbols, structure.positions, structure.cell, source.pbc)
    if source.supercell is not None:
        from aiida_deeph.engine.structures.changes import repeated

        structure = repeated(structure, source.supercell)
    node = from_engine(structure)
    node.label = name
    return node
