"""What `deeph-engine train` and `deeph-engine evaluate` read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, model_validator

from aiida_deeph.engine.config import Config
from aiida_deeph.engine.io.split import SplitConfig
from aiida_deeph.engine.nn.config import NetworkConfig
from aiida_deeph.engine.nn.deephe3.config import DeepHE3Config
from aiida_deeph.engine.observables.compare import CompareSettings


class PlateauConfig(Config):
    """Halve the learning rate when the smoothed validation loss stands still (the reference's scheduler 1)."""

    name: Literal["plateau"] = "plateau"
    factor: float = Field(default=0.5, gt=0, lt=1)
    patience: int = 120
    cooldown: int = 40
    threshold: float = 0.05
    smoothing: float = Field(default=0.1, gt=0, le=1)


class SlipperyConfig(Config):
    """Multiply the learning rate by `rate` at epoch `start` and every `interval` epochs after (the reference's 2)."""

    name: Literal["slippery"] = "slippery"
    start: int = 1400
    interval: int = 200
    rate: float = Field(default=0.5, gt=0, lt=1)


class CosineConfig(Config):
    """Linear warm-up, then a cosine down to `final` times the learning rate at the last epoch."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: int = Field(default=10, ge=0)
    final: float = Field(default=1e-2, ge=0, lt=1)


class LinearConfig(Config):
    """By step: a linear warm-up from 0, then down to `final` times the learning rate at the last step (QHNet)."""

    name: Literal["linear"] = "linear"
    warmup_steps: int = Field(default=1000, ge=0)
    final: float = Field(default=0.0, ge=0, lt=1)


class ConstantConfig(Config):
    """Keep the learning rate (the reference's 0)."""

    name: Literal["constant"] = "constant"


Scheduler = Annotated[
    PlateauConfig | SlipperyConfig | CosineConfig | LinearConfig | ConstantConfig, Field(discriminator="name")
]


class LossConfig(Config):
    """What is minimised: the mean of squared * |dH|^2 + absolute * |dH|.

    :param unit: of dH in it. As in the publications: mean |dH|^2 in eV^2 for DeepH-E3, `{squared: 1, absolute: 1, unit:
        Hartree, mean: structures}` for QHNet.
    :param mean: over all entries of a batch, or first over those of each structure: small ones count as much as large.
    :param on_site: share of the blocks on the atoms in the mean; None counts their entries like all others, among which
        they are few.
    """

    squared: float = Field(default=1.0, ge=0)
    absolute: float = Field(default=0.0, ge=0)
    unit: Literal["eV", "Hartree"] = "eV"
    mean: Literal["entries", "structures"] = "entries"
    on_site: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _is_something(self) -> LossConfig:
        if not self.squared and not self.absolute:
            raise ValueError("squared and absolute are both 0")
        return self


class OptimizerConfig(Config):
    """Adam, or AdamW with its decay of the weights; the learning rate is a field of the training.

    :param eps: added to the root of the mean square of a gradient; None takes 1e-8, and 1e-12 for a network that learns
        what a fitted part leaves over, whose gradients are as small.
    """

    name: Literal["adam", "adamw"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)


class RevertConfig(Config):
    """Back to the best weights with a smaller learning rate after `patience` bad epochs in a row."""

    factor: float = Field(
        default=2.0, gt=1, description="an epoch is bad when its validation loss exceeds factor * best"
    )
    patience: int = 20
    decay: float = Field(default=0.8, gt=0, lt=1)


class TrainConfig(Config):
    """Train a network; everything is written to the working directory:

    `model/` (best weights), `checkpoint/` (to continue from), `metrics.jsonl` (a line per epoch), `train.json`.

    :param dataset: folder with `manifest.json`.
    :param network: of the kind that its `name` says, see `nn.config.NETWORKS`.
    :param batch_size: structures per batch.
    :param max_edges_per_batch: larger batches are split, their gradients accumulated: the effective batch stays.
    :param min_learning_rate: stop once the learning rate is below; a cosine ends with its last epoch instead.
    :param best_by: mean error of the validation members by which the saved weights are the best.
    :param gradient_clip: largest gradient norm; None does not clip.
    :param orbital_weighting: power p of the weights <|H|^2>^-p of the pairs of shells in the loss: 0 minimises the mean
        |dH|^2, 1 lets every pair of shells count alike; validation never weighs.
    :param ema_decay: exponential moving average of the weights that are validated and saved; None is off.
    :param ema_start: epoch with which it begins.
    :param max_seconds: stop with a checkpoint after so long; None has no limit.
    :param checkpoint_every: epochs.
    :param restart: folder of a `checkpoint/` to continue from, exactly.
    :param initial_model: model folder whose weights are the start (fine-tuning).
    :param device: `auto`, `cpu` or `cuda`.
    :param threads: threads of torch on CPU; None leaves torch's default.
    :param processes_per_node: processes that torchrun starts on each node, a device each; the effective batch is
        batch_size times the number of all processes.
    :param nodes: nodes of the scheduler's job; `deeph-engine train` runs once on each.
    """

    dataset: str
    network: SerializeAsAny[NetworkConfig] = DeepHE3Config()
    split: SplitConfig = SplitConfig()
    epochs: int = Field(default=3000, ge=1)
    batch_size: int = Field(default=1, ge=1)
    max_edges_per_batch: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    min_learning_rate: float = Field(default=3e-5, ge=0)
    scheduler: Scheduler = PlateauConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    best_by: Literal["square", "absolute"] = "square"
    revert: RevertConfig | None = RevertConfig()
    gradient_clip: float | None = Field(default=None, gt=0)
    orbital_weighting: float = Field(default=0.0, ge=0, le=1)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    ema_start: int = Field(default=0, ge=0)
    seed: int = 42
    precision: Literal["float32", "float64"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    loader_workers: int = Field(default=0, ge=0)
    checkpoint_every: int = Field(default=10, ge=1)
    max_seconds: float | None = Field(default=None, gt=0)
    restart: str | None = None
    initial_model: str | None = None
    processes_per_node: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)


class EvaluateConfig(Config):
    """Compare predictions with labels; writes `OUTPUT` (JSON): errors in eV, all entries, by member, by orbital pair.

    Of molecules also `mean_of_molecules` and, by member, `molecules`: mean |error| of H by blocks and of the occupied
    levels, HOMO, LUMO and gap, cosines of the occupied orbitals.

    :param members: `train`, `validation`, `test` of the model's recorded split, or `all`.
    :param strict: predict each direction by itself instead of averaging both to a Hermitian H.
    :param bands: k-points and window in which the bands of every member are compared with those of its label: table
        `bands` (deviations, gaps, velocities, and whether the errors of H explain them), `bands_mean_eV`,
        `bands_max_eV`, `n_unexplained`, `n_bands_failed` (the table holds the `error` of those).
    """

    dataset: str
    model: str
    bands: CompareSettings | None = None
    members: Literal["train", "validation", "test", "all"] = "test"
    strict: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    output: str = "evaluate.json"
