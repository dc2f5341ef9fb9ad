"""The training loop: epochs, validation, best weights, checkpoints. It knows graphs and a network, not datasets."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from aiida_deeph.engine.errors import DivergenceError
from aiida_deeph.engine.nn.network import Network
from aiida_deeph.engine.training.average import WeightAverage
from aiida_deeph.engine.training.batches import BatchSource, epoch_steps, share_of_rank, split_by_edges
from aiida_deeph.engine.training.config import TrainConfig
from aiida_deeph.engine.training.loss import ErrorSums, summed_loss
from aiida_deeph.engine.training.schedule import build_optimizer, build_schedule

Row = dict[str, Any]

#: A validation loss so many times the best one is beyond any return.
HOPELESS = 1e8
#: Validation takes so many edges at a time, whatever the batch size: its sums do not depend on it.
VALIDATION_EDGES = 4096
#: Ranks ask each other for a stop once in so many steps.
STEPS_BETWEEN_QUESTIONS = 8


@dataclass
class Best:
    """The best epoch so far.

    :param weights: state dict that was validated, on the CPU.
    :param resume: what a return to this epoch restores; empty if the training never returns.
    """

    epoch: int = -1
    loss: float = math.inf
    mae: float = math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)
    resume: dict[str, Any] = field(default_factory=dict)


class TrainingLoop:
    """Minimises the loss of a network, mean |dH|^2 unless another one is configured, over graphs.

    :param fabric: launched; gives device, precision and ranks.
    :param network: `network(graph)` -> H entries, shape (n_entries,), eV.
    :param train: training graphs.
    :param validation: validation graphs; without any the training loss stands in.
    :param on_epoch: called with the row of each epoch.
    :param on_best: called after each epoch with a better validation loss.
    :param on_checkpoint: called every `checkpoint_every` epochs, and when the loop is stopped.
    :param stop: why to stop now, or None; asked after every step.
    """

    def __init__(
        self,
        config: TrainConfig,
        fabric: Fabric,
        network: Network,
        train: BatchSource,
        validation: BatchSource,
        *,
        on_epoch: Callable[[Row], None] = lambda row: None,
        on_best: Callable[[], None] = lambda: None,
        on_checkpoint: Callable[[], None] = lambda: None,
        stop: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._config, self._fabric, self._network = config, fabric, network
        self._train, self._validation = train, validation
        self._on_epoch, self._on_best, self._on_checkpoint, self._stop = on_epoch, on_best, on_checkpoint, stop
        self._optimizer: Any = None
        self._model: Any = network.to(fabric.device)
        if network.trainable:
            self._model, self._optimizer = fabric.setup(network, build_optimizer(config, network))
        self._average = None if config.ema_decay is None else WeightAverage(network, config.ema_decay)
        self._schedule = build_schedule(config.scheduler, config.learning_rate, config.epochs)
        self._sums = ErrorSums.zeros(fabric.device)
        self._largest_gradient = torch.zeros((), device=fabric.device)
        self._bad_epochs = 0
        self.epoch = 0
        self.step = 0
        self.best = Best()
        self.rows: list[Row] = []
        self.seconds = 0.0
        self._clock = time.monotonic()

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> str:
        """Train until done; a network that is fitted already gets one epoch, in which its errors are measured.

        :return: why it ended: `epochs`, `fitted`, `min_learning_rate`, or the reason of the stop (with a checkpoint
            written).
        :raises DivergenceError: a loss is NaN, infinite, or beyond hope.
        """
        self._clock = time.monotonic()
        if self._optimizer is None:
            if self.epoch == 0:
                self._sums = self._errors(self._train)
                self._end_epoch(0.0)
            return "fitted"
        while self.epoch < self._config.epochs:
            rate = self._schedule.rate(self.epoch)
            if self._schedule.ends_training and rate <= self._config.min_learning_rate:
                return "min_learning_rate"
            reason = self._train_epoch()
            if reason is not None:
                self._tick()
                self._on_checkpoint()
                return reason
            self._end_epoch(self._optimizer.param_groups[0]["lr"])
            reason = self._agreed_stop()
            if reason is not None and self.epoch < self._config.epochs:
                self._on_checkpoint()
                return reason
            if self.epoch % self._config.checkpoint_every == 0 and self.epoch < self._config.epochs:
                self._on_checkpoint()
        return "epochs"

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now

    def _train_epoch(self) -> str | None:
        """Go through the steps that are left of this epoch; the reason to stop amid it, if there is one."""
        config, world = self._config, self._fabric.world_size
        graphs, per_structure = self._train.graphs, config.loss.mean == "structures"
        steps = epoch_steps(len(graphs), config.batch_size, seed=config.seed, epoch=self.epoch, world_size=world)
        plan = []
        for members in steps[self.step :]:
            own = share_of_rank(members, self._fabric.global_rank, world)
            # A rank without members in the last step computes one with weight zero: all ranks must take part.
            weight = 1.0 if own else 0.0
            parts = split_by_edges(own or members[:1], graphs.n_edges, config.max_edges_per_batch)
            n_terms = len(members) if per_structure else int(graphs.n_entries[list(members)].sum())
            plan.append((n_terms, weight, parts))
        self._model.train()
        batches = self._train.batches(
            [part for _, _, parts in plan for part in parts], recurring=config.batch_size >= len(graphs)
        )
        for n_terms, weight, parts in plan:
            for group in self._optimizer.param_groups:
                group["lr"] = self._schedule.rate(self.epoch, self.step, len(steps))
            self._optimizer.zero_grad()
            for number in range(len(parts)):
                graph = next(batches)
                with self._fabric.no_backward_sync(self._model, enabled=number + 1 < len(parts)):
                    prediction = self._model(graph)
                    # DDP averages over ranks, hence the factor: the gradient is that of the mean over all entries.
                    error = summed_loss(prediction, graph.label, getattr(graph, "loss_weight", None), config.loss)
                    loss = error * (weight * world / n_terms)
                    self._fabric.backward(loss)
                if weight:
                    self._sums.add(prediction, graph.label)
            if config.gradient_clip is not None:
                norm = self._fabric.clip_gradients(
                    self._model, self._optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False
                )
                self._largest_gradient = torch.maximum(self._largest_gradient, torch.as_tensor(norm).detach())
            self._optimizer.step()
            if self._average is not None and self.epoch >= config.ema_start:
                self._average.update()
            self.step += 1
            if self.step < len(steps) and (world == 1 or self.step % STEPS_BETWEEN_QUESTIONS == 0):
                reason = self._agreed_stop()
                if reason is not None:
                    return reason
        return None

    def _end_epoch(self, rate: float) -> None:
        train = self._over_ranks(self._sums)
        validation = self._over_ranks(self._errors(self._validation)) if len(self._validation.graphs) else train
        self._tick()
        row: Row = {
            "epoch": self.epoch,
            "train_loss": train.loss,
            "validation_loss": validation.loss,
            "train_mae": train.mae,
            "validation_mae": validation.mae,
            "learning_rate": rate,
            "seconds": self.seconds,
        }
        if self._config.gradient_clip is not None:
            row["gradient_norm"] = float(self._largest_gradient)
        self.rows.append(row)
        self._on_epoch(row)
        self._require_hope(train.loss, validation.loss)
        self._schedule.step(validation.loss)
        self.epoch += 1
        self.step = 0
        self._sums = ErrorSums.zeros(self._fabric.device)
        self._largest_gradient = torch.zeros_like(self._largest_gradient)
        if self._is_best(validation):
            self._bad_epochs = 0
            self._keep_best(validation)
            self._on_best()
        else:
            self._maybe_revert(validation.loss)

    def _is_best(self, validation: ErrorSums) -> bool:
        if self._config.best_by == "absolute":
            return validation.mae < self.best.mae
        return validation.loss < self.best.loss

    def _require_hope(self, train_loss: float, validation_loss: float) -> None:
        worst = max(train_loss, validation_loss)
        if not math.isfinite(train_loss) or not math.isfinite(validation_loss) or worst > HOPELESS * self.best.loss:
            raise DivergenceError(
                "training diverged",
                where=f"epoch {self.epoch}",
                found=f"training loss {train_loss:.3g}, validation loss {validation_loss:.3g} eV^2",
                expected=f"finite losses (the best was {self.best.loss:.3g} in epoch {self.best.epoch})",
                remedy="lower learning_rate or set gradient_clip",
            )

    @torch.no_grad()
    def _errors(self, source: BatchSource) -> ErrorSums:
        """Errors of the network as it is, over this rank's share of the graphs."""
        sums = ErrorSums.zeros(self._fabric.device)
        graphs = source.graphs
        own = tuple(range(self._fabric.global_rank, len(graphs), self._fabric.world_size))
        parts = split_by_edges(own, graphs.n_edges, self._config.max_edges_per_batch or VALIDATION_EDGES) if own else []
        self._network.eval()
        with self._averaged():
            for graph in source.batches(parts, recurring=True):
                sums.add(self._network(graph), graph.label)
        return sums

    # -- agreement of ranks ----------------------------------------------------------------------------------------

    def _over_ranks(self, sums: ErrorSums) -> ErrorSums:
        if self._fabric.world_size == 1:
            return sums
        return ErrorSums(self._fabric.all_reduce(sums.sums.clone(), reduce_op="sum"))

    def _agreed_stop(self) -> str | None:
        """The reason to stop; all ranks get the same answer."""
        reason = self._stop()
        if self._fabric.world_size == 1:
            return reason
        asked = torch.tensor(float(reason is not None), device=self._fabric.device)
        if not float(self._fabric.all_reduce(asked, reduce_op="sum")):
            return None
        return reason or "stop of another rank"

    # -- best weights ----------------------------------------------------------------------------------------------

    def _averaged(self) -> AbstractContextManager[None]:
        """Within, the weights that are validated and saved: averaged ones as soon as there are any."""
        begun = self._average if self._average is not None and self._average.steps else None
        return nullcontext() if begun is None else begun.applied()

    def _keep_best(self, validation: ErrorSums) -> None:
        with self._averaged():
            weights = {k: v.detach().to("cpu", copy=True) for k, v in self._network.state_dict().items()}
        resume = self._resume_state() if self._config.revert is not None else {}
        self.best = Best(self.epoch - 1, validation.loss, validation.mae, weights, resume)

    def _maybe_revert(self, validation_loss: float) -> None:
        """Back to the best epoch after `patience` bad ones, with a smaller learning rate."""
        revert = self._config.revert
        if revert is None:
            return
        self._bad_epochs = self._bad_epochs + 1 if validation_loss > revert.factor * self.best.loss else 0
        if self._bad_epochs >= revert.patience:
            self._bad_epochs = 0
            self._load_resume_state(self.best.resume)
            self._schedule.decay(revert.decay)
            # The next return starts from the smaller rate, or the same rate would be tried again and again.
            self.best.resume["schedule"] = self._schedule.state_dict()

    def _resume_state(self) -> dict[str, Any]:
        return {
            "network": copy.deepcopy(self._network.state_dict()),
            "optimizer": None if self._optimizer is None else copy.deepcopy(self._optimizer.state_dict()),
            "schedule": self._schedule.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
        }

    def _load_resume_state(self, state: dict[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        # The optimiser takes over the very tensors it is given; the kept ones must not change with it.
        if self._optimizer is not None:
            self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self._schedule.load_state_dict(state["schedule"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that changes during the run: tensors and plain types.

        With several ranks every rank must call it: the error sums of an unfinished epoch are gathered.
        """
        sums = self._over_ranks(self._sums).sums
        return {
            "epoch": self.epoch,
            "step": self.step,
            "world_size": self._fabric.world_size,
            "sums": sums.cpu().clone(),
            "largest_gradient": float(self._largest_gradient),
            "bad_epochs": self._bad_epochs,
            "seconds": self.seconds,
            "rows": list(self.rows),
            "best": vars(self.best),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self._fabric.device.type == "cuda" else [],
            **self._resume_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken."""
        self._load_resume_state(state)
        self.epoch, self.step = state["epoch"], state["step"]
        # The sums were gathered from all ranks; one rank alone carries them on.
        if self._fabric.global_rank == 0:
            self._sums.sums.copy_(state["sums"])
        self._largest_gradient = torch.full_like(self._largest_gradient, state["largest_gradient"])
        self._bad_epochs = state["bad_epochs"]
        self.seconds, self.rows = state["seconds"], list(state["rows"])
        self.best = Best(**state["best"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and self._fabric.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random_cuda"])
