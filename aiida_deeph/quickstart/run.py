"""The steps of `aiida-deeph quickstart`, each of which leaves its trace in the provenance graph."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiida import orm
from aiida.engine import ProcessBuilder, submit
from rich.console import Console

from aiida_deeph.codes.registry import PREFIX, label_class
from aiida_deeph.engine.dft.base import get_record
from aiida_deeph.engine.errors import DeepHError, InputError
from aiida_deeph.processes.progress import Job, follow, full_stages
from aiida_deeph.quickstart import profile, report
from aiida_deeph.quickstart.collect import CHAIN, VALIDATION, collect
from aiida_deeph.quickstart.settings import QuickstartSettings
from aiida_deeph.quickstart.structures import perturbed_cells, soliton_chain, validation_cell
from aiida_deeph.workflows.full import FullWorkChain

EXTRA = "deeph_quickstart"
WORKERS = 2


def codes(engine: str) -> dict[str, orm.InstalledCode]:
    """The engine's code, and that of the DFT program if it is another one.

    :raises InputError: the program is not on PATH.
    """
    own = profile.code(profile.ENGINE_LABEL, profile.program_beside_python("deeph-engine"), "deeph.train")
    programs = get_record(engine).programs
    if not programs:
        return {"engine": own, "dft": own}
    program = programs[0]
    path = shutil.which(program.name)
    if path is None:
        raise InputError(
            f"{program.title} not found",
            where="PATH",
            expected=f"a program named {program.name}",
            remedy=f"install it (Debian: apt-get install {program.name}) or leave out --engine",
        )
    return {"engine": own, "dft": profile.code(program.name, Path(path), program.plugin, "export OMP_NUM_THREADS=1")}


def kpoints(points: list[list[float]], structure: orm.StructureData, labels: list[list[Any]]) -> orm.KpointsData:
    """A list of fractional k-points with names."""
    node = orm.KpointsData()
    node.set_cell_from_structure(structure)
    node.set_kpoints(points)
    node.labels = labels
    return node


def builder_of(engine: str, settings: QuickstartSettings) -> ProcessBuilder:
    """Structures by calcfunctions, and a FullWorkChain on them."""
    cells = settings.cells
    vacuum = orm.Float(cells.vacuum)
    structures = perturbed_cells(
        orm.Int(cells.n_cells),
        orm.List(list(cells.units)),
        orm.Float(cells.max_alternation),
        orm.Float(cells.displacement),
        vacuum,
        orm.Int(cells.seed),
    )
    unseen = validation_cell(
        orm.Int(cells.validation_units),
        orm.Float(cells.validation_alternation),
        orm.Float(cells.validation_displacement),
        vacuum,
        orm.Int(cells.validation_seed),
    )
    chain = soliton_chain(
        orm.Int(cells.chain_units), orm.Float(cells.chain_alternation), orm.Float(cells.half_width), vacuum
    )
    overrides = {
        "max_concurrent": settings.max_concurrent,
        "dataset": {
            "max_concurrent": settings.max_concurrent,
            "label": {"parameters": settings.label_parameters, "kpoints": [settings.kmesh, 1, 1]},
            "preprocess": {"parameters": {"cutoff": settings.cutoff}},
        },
        "train": {"train": {"parameters": {**settings.train_parameters, "threads": settings.training_threads}}},
        "bands": {"dos": {"parameters": {"broadening": settings.broadening, "n_points": 4001}}},
    }
    builder = FullWorkChain.get_builder_from_protocol(
        codes=codes(engine),
        structures=structures,
        targets={CHAIN: chain},
        validation={VALIDATION: unseen},
        protocol="fast",
        overrides=overrides,
        label=f"{PREFIX}{engine}",
    )
    last = settings.band_points - 1
    path = [[0.5 * n / last, 0.0, 0.0] for n in range(settings.band_points)]
    builder.kpoints = {
        CHAIN: kpoints([[0.0, 0.0, 0.0]], chain, [[0, "G"]]),
        VALIDATION: kpoints(path, unseen, [[0, "G"], [last, "X"]]),
    }
    builder.metadata.label = "quickstart"
    builder.metadata.description = f"trans-polyacetylene: {cells.n_cells} labels by {engine}, a soliton predicted"
    return builder


def identity(engine: str, settings: QuickstartSettings) -> str:
    """A name for the run that depends on what it computes only."""
    return identity_of([engine, settings.as_dict()])


def identity_of(values: list[Any]) -> str:
    """A name for what is computed."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def unfinished(name: str) -> orm.WorkChainNode | None:
    """A run of this identity that was left before its end."""
    query = orm.QueryBuilder().append(FullWorkChain, filters={f"extras.{EXTRA}": name}, tag="process")
    nodes = [node for node in query.all(flat=True) if not node.is_terminated]
    return max(nodes, key=lambda node: node.pk) if nodes else None


def training_progress(jobs: Sequence[Job], epochs: int) -> dict[str, float]:
    """How far the running training is, from the metrics that it writes on this machine."""
    for job in jobs:
        if job.process_label == "TrainCalculation" and not job.ended:
            folder = orm.load_node(job.pk).get_remote_workdir()
            metrics = Path(folder) / "metrics.jsonl" if folder else None
            if metrics is not None and metrics.is_file():
                return {"Training": min(1.0, metrics.read_bytes().count(b"\n") / epochs)}
    return {}


def run(engine: str, settings: QuickstartSettings, profile_name: str, folder: Path, console: Console) -> dict[str, Any]:
    """All of it; the profile is already loaded.

    :returns: what `summary.json` holds.
    :raises DeepHError: the process did not finish well.
    """
    start = time.perf_counter()
    times: dict[str, float] = {}
    name = identity(engine, settings)
    with profile.daemon(WORKERS):
        times["daemon"] = round(time.perf_counter() - start, 1)
        process = unfinished(name)
        if process is None:
            before = time.perf_counter()
            process = submit(builder_of(engine, settings))
            process.base.extras.set(EXTRA, name)
            times["structures"] = round(time.perf_counter() - before, 1)
            console.print(f"submitted FullWorkChain<{process.pk}>")
        else:
            console.print(f"going on with FullWorkChain<{process.pk}>, which was left unfinished")
        epochs = int(settings.train_parameters.get("epochs", 1))
        follow(
            process,
            full_stages(label_class(f"{PREFIX}{engine}")._process_class.__name__, settings.cells.n_cells, 1, 1),
            console,
            lambda jobs: training_progress(jobs, epochs),
        )
    if process.exit_status != 0:
        raise DeepHError(
            "the quickstart's process failed",
            where=f"FullWorkChain<{process.pk}>",
            found=process.exit_message or process.process_state.value,
            remedy=f"see `verdi -p {profile_name} process status {process.pk}` and `process report {process.pk}`",
        )
    times["total"] = time.perf_counter() - start
    results = collect(
        process,
        times,
        (
            f"aiida-deeph -p {profile_name} report {process.pk}",
            f"aiida-deeph -p {profile_name} results {process.pk}",
            f"verdi -p {profile_name} process status {process.pk}",
            f"verdi -p {profile_name} data core.bands list",
        ),
    )
    report.write(results, folder)
    return dict(results.summary)
