"""`deeph-engine train`: from a dataset folder to a trained model folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch.utils.data import Subset

from aiida_deeph.engine.domain.ranges import trained_ranges
from aiida_deeph.engine.errors import DivergenceError, Interrupted
from aiida_deeph.engine.io.dataset import read_manifest
from aiida_deeph.engine.nn.network import build_network
from aiida_deeph.engine.nn.storage import save_model
from aiida_deeph.engine.system_torch import find_device
from aiida_deeph.engine.training.batches import BatchSource
from aiida_deeph.engine.training.checkpoint import CHECKPOINT_FOLDER, save_checkpoint
from aiida_deeph.engine.training.config import TrainConfig
from aiida_deeph.engine.training.data import GraphCache, GraphSet, GraphSettings, distances_of
from aiida_deeph.engine.training.launch import StopRequest
from aiida_deeph.engine.training.loop import TrainingLoop
from aiida_deeph.engine.training.loss import orbital_weights, site_weigher, weigh_structure, weigher
from aiida_deeph.engine.training.report import (
    METRICS_FILE,
    REPORT_FILE,
    EpochPrinter,
    MetricsFile,
    write_json_atomic,
)
from aiida_deeph.engine.training.start import find_start, split_uuids

MODEL_FOLDER = "model"
GRAPH_FOLDER = "graphs"
#: The best model is written to disk at most once in so many seconds; checkpoints and the end always write it.
SECONDS_BETWEEN_MODELS = 30.0


def make_fabric(device: str, precision: str) -> Fabric:
    """One process on one device, or one rank among those that torchrun started.

    :param device: `auto`, `cpu` or `cuda`.
    :param precision: `float32` or `float64`.
    :raises InputError: no such device here.
    """
    accelerator = find_device(device).type
    digits: Any = "64-true" if precision == "float64" else "32-true"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    # Said rather than guessed: inside a job of SLURM, Fabric would take the job's tasks for its processes.
    if world == 1:
        return Fabric(accelerator=accelerator, devices=1, precision=digits, plugins=LightningEnvironment())
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    # Buffers are constants: alike on all ranks, they need no broadcast.
    strategy = DDPStrategy(broadcast_buffers=False)
    nodes = world // local
    return Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=nodes,
        precision=digits,
        strategy=strategy,
        plugins=TorchElasticEnvironment(),
    )


def graph_cache(dataset: Path, working_directory: Path) -> GraphCache:
    """Graphs lie beside the dataset, where the next training finds them, or here if that folder is read-only."""
    return GraphCache((dataset if os.access(dataset, os.W_OK) else working_directory) / GRAPH_FOLDER)


def train(config: TrainConfig, working_directory: Path = Path(), *, quiet: bool = False) -> dict[str, Any]:
    """Train and write `model/`, `checkpoint/`, `metrics.jsonl`, `train.json` into the working directory.

    :param quiet: print nothing.
    :return: the content of `train.json`.
    :raises InputError: configuration, dataset, checkpoint or initial model do not fit.
    :raises DivergenceError: the loss became NaN or grew beyond hope; the best model is on disk.
    :raises Interrupted: stopped by a signal or the time limit; model and checkpoint are on disk.
    """
    with StopRequest(config.max_seconds) as stop:
        return _Run(config, working_directory, quiet).train(stop)


class _Run:
    """One training with all its files."""

    def __init__(self, config: TrainConfig, folder: Path, quiet: bool) -> None:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.config, self.folder = config, folder
        dataset = Path(config.dataset)
        self.manifest = read_manifest(dataset)
        self.fabric = make_fabric(config.device, config.precision)
        self.fabric.launch()
        self.quiet = quiet or not self.fabric.is_global_zero
        start = find_start(config, self.manifest, self.fabric.world_size)
        self.parts = start.parts
        self.description = start.description.model_copy(
            update={"gauge": self.manifest.gauge, "data": self._data_source(), "training": {}}
        )
        settings = GraphSettings.of_network(start.network, config.precision)
        cache = graph_cache(dataset, folder)
        with self.fabric.rank_zero_first():
            sets = [
                GraphSet(dataset, self.parts[part], settings, cache, show_progress=False if self.quiet else None)
                for part in ("train", "validation")
            ]
        self.dtype = settings.dtype
        self.network = start.network.to(self.dtype)
        if start.is_new or (start.state is None and not self.network.trainable):
            own = range(self.fabric.global_rank, len(sets[0]), self.fabric.world_size)
            fitted = self.network.fit(Subset(sets[0], own), self._add_up)
            if fitted is not None:
                architecture = {**self.description.architecture, **fitted}
                self.description = self.description.model_copy(update={"architecture": architecture})
        elements = self.network.layout.basis.elements
        self.ranges = trained_ranges(distances_of(sets[0][n], elements) for n in range(len(sets[0])))
        for graphs in sets:
            graphs.prepare(self.network.prepare)
        if config.orbital_weighting:
            weights = orbital_weights(self.network.layout, sets[0], config.orbital_weighting)
            sets[0].prepare(weigher(weights))
        if config.loss.on_site is not None:
            sets[0].prepare(site_weigher(sets[0], config.loss.on_site))
        if config.loss.mean == "structures":
            sets[0].prepare(weigh_structure)
        train_source, validation_source = (
            BatchSource(graphs, self.fabric.device, workers=config.loader_workers if name == "train" else 0)
            for name, graphs in zip(("train", "validation"), sets, strict=True)
        )
        torch.manual_seed(config.seed + self.fabric.global_rank)
        self.n_parameters = sum(p.numel() for p in self.network.parameters())
        self.stop = StopRequest()
        self.loop = TrainingLoop(
            config,
            self.fabric,
            self.network,
            train_source,
            validation_source,
            on_epoch=self._on_epoch,
            on_best=self._on_best,
            on_checkpoint=self._on_checkpoint,
            stop=lambda: self.stop.reason,
        )
        if start.state is not None:
            self.loop.load_state_dict(start.state)
        self.saved_epoch = -1
        self.saved_at = time.monotonic()

    def train(self, stop: StopRequest) -> dict[str, Any]:
        self.stop = stop
        with ExitStack() as files:
            self.metrics = (
                MetricsFile(self.folder / METRICS_FILE, self.loop.rows) if self.fabric.is_global_zero else None
            )
            if self.metrics is not None:
                files.callback(self.metrics.close)
            self.printer = EpochPrinter(self.config.epochs, self.loop.epoch, quiet=self.quiet)
            files.callback(self.printer.close)
            self._announce()
            try:
                reason = self.loop.run()
            except DivergenceError as error:
                self._finish("diverged", str(error))
                raise
        if reason in ("epochs", "fitted", "min_learning_rate"):
            self._on_checkpoint()
            return self._finish("finished", reason)
        self._finish("interrupted", reason)
        raise Interrupted(
            f"training stopped by {reason} in epoch {self.loop.epoch}",
            where=self.folder / CHECKPOINT_FOLDER,
            remedy="continue with restart set to this folder",
        )

    # -- what the loop reports -------------------------------------------------------------------------------------

    def _on_epoch(self, row: dict[str, Any]) -> None:
        if self.metrics is not None:
            self.metrics.write(row)
        self.printer.epoch(row)

    def _on_best(self) -> None:
        if time.monotonic() - self.saved_at >= SECONDS_BETWEEN_MODELS:
            self._save_model()

    def _on_checkpoint(self) -> None:
        state = self.loop.state_dict()
        if not self.fabric.is_global_zero:
            return
        self._save_model()
        state |= {
            "config": self.config.model_dump(mode="json"),
            "description": self.description.model_dump(mode="json"),
            "split": split_uuids(self.parts),
        }
        save_checkpoint(self.folder / CHECKPOINT_FOLDER, state)

    def _save_model(self) -> None:
        """Write the best weights, unless they are on disk already."""
        best = self.loop.best
        if not self.fabric.is_global_zero or best.epoch < 0 or best.epoch == self.saved_epoch:
            return
        network = build_network(self.description).to(dtype=self.dtype)
        network.load_state_dict(best.weights)
        metrics = {"validation_loss_eV2": best.loss, "validation_mae_eV": best.mae}
        training = {
            "config": self.config.model_dump(mode="json", exclude={"dataset", "restart", "initial_model"}),
            "split": self._split_names(),
            "epochs": self.loop.epoch,
            "best_epoch": best.epoch,
            "seconds": self.loop.seconds,
            "parameters": self.n_parameters,
            "distances_A": self.ranges,
            **self.network.extras(),
            **self._hardware(),
        }
        save_model(
            self.folder / MODEL_FOLDER,
            network,
            self.description.model_copy(update={"metrics": metrics, "training": training}),
        )
        self.saved_epoch = best.epoch
        self.saved_at = time.monotonic()

    def _finish(self, status: str, reason: str) -> dict[str, Any]:
        self._save_model()
        best = self.loop.best
        found = best.epoch >= 0
        report = {
            "status": status,
            "reason": reason,
            "epochs": self.loop.epoch,
            "best_epoch": best.epoch if found else None,
            "best_validation_loss": best.loss if found else None,
            "best_validation_loss_units": "eV^2",
            "best_validation_mae": best.mae if found else None,
            "best_validation_mae_units": "eV",
            **{f"n_{name}": len(members) for name, members in self.parts.items()},
            "split": self._split_names(),
            "parameters": self.n_parameters,
            "seconds": self.loop.seconds,
            **self._hardware(),
        }
        if self.fabric.is_global_zero:
            write_json_atomic(self.folder / REPORT_FILE, report)
        self.printer.message(f"{status} ({reason}) after {self.loop.epoch} epochs, {self.loop.seconds:.1f} s")
        return report

    def _add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        if self.fabric.world_size > 1:
            for tensor in tensors:
                tensor.copy_(self.fabric.all_reduce(tensor, reduce_op="sum"))

    # -- facts -----------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        counts = ", ".join(f"{len(members)} {name}" for name, members in self.parts.items())
        device = self._hardware()["device"]
        self.printer.message(
            f"{self.n_parameters} parameters on {device}; members: {counts}; starting at epoch {self.loop.epoch}"
        )

    def _split_names(self) -> dict[str, list[dict[str, str]]]:
        return {name: [{"name": m.name, "uuid": m.uuid} for m in members] for name, members in self.parts.items()}

    def _hardware(self) -> dict[str, Any]:
        device = self.fabric.device
        name = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
        )
        return {"device": name, "world_size": self.fabric.world_size, "torch": torch.__version__}

    def _data_source(self) -> dict[str, Any]:
        return {**self.manifest.source, "n_members": len(self.manifest.members)}
