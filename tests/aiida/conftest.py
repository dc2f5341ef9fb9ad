"""Fixtures of the AiiDA wing: a temporary profile without services, codes, small nodes, prepared and finished jobs."""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
import uuid
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    # AiiDA makes its configuration folder when it is imported, and warns; keep both away from the user's home.
    warnings.simplefilter("ignore")
    if "AIIDA_PATH" not in os.environ:
        os.environ["AIIDA_PATH"] = tempfile.mkdtemp(prefix="aiida-deeph-tests-")
        atexit.register(shutil.rmtree, os.environ["AIIDA_PATH"], ignore_errors=True)
    from aiida.tools.pytest_fixtures import (  # noqa: F401
        aiida_code,
        aiida_code_installed,
        aiida_computer,
        aiida_computer_local,
        aiida_config,
        aiida_config_factory,
        aiida_config_tmp,
        aiida_localhost,
        aiida_manager,
        aiida_profile,
        aiida_profile_clean,
        aiida_profile_factory,
    )

from aiida import orm
from aiida.common.datastructures import CalcInfo
from aiida.common.folders import SandboxFolder
from aiida.common.links import LinkType
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.plugins import CalculationFactory, ParserFactory

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.domain.blocksparse import BlockSparseMatrix
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.io.dataset import DatasetManifest, Member
from aiida_deeph.engine.io.deeph import write_deeph
from aiida_deeph.engine.io.model import DESCRIPTION_FILE, WEIGHTS_FILE, ModelDescription


def pytest_configure(config: pytest.Config) -> None:
    # AiiDA's own warnings, about which the package can do nothing.
    config.addinivalue_line("filterwarnings", "ignore:Creating AiiDA configuration folder:UserWarning")
    config.addinivalue_line("filterwarnings", "ignore:Object of type <DbNode> not in session")


@pytest.fixture
def engine_code(aiida_code_installed):
    """The installed `deeph-engine` on localhost."""
    executable = Path(sys.executable).with_name("deeph-engine")
    return aiida_code_installed(
        label="deeph-engine", default_calc_job_plugin="deeph.train", filepath_executable=str(executable)
    )


@pytest.fixture
def hamiltonian() -> RealSpaceHamiltonian:
    """CH in a box, s and p on C, s on H: random Hermitian H, S close to one; 6 electrons."""
    structure = Structure(("C", "H"), np.array([[0.0, 0, 0], [0, 0, 1.1]]), 4.0 * np.eye(3))
    basis = OrbitalBasis({"C": (0, 1), "H": (0,)})
    pairs = pairs_within(structure, 4.2)
    sizes = basis.orbitals_per_atom(structure.symbols)
    blocks = BlockSparseMatrix.from_pairs(pairs, sizes)
    random = np.random.default_rng(1)
    H = blocks.with_entries(random.normal(size=len(blocks.entries))).hermitian_part()
    S = blocks.with_entries(0.01 * random.normal(size=len(blocks.entries))).hermitian_part()
    onsite = (pairs[:, :3] == 0).all(axis=1) & (pairs[:, 3] == pairs[:, 4])
    rows, columns = S.entry_positions()
    S.entries[onsite[S.pair_of_entry]] = (rows == columns)[onsite[S.pair_of_entry]]
    return RealSpaceHamiltonian(structure, basis, hamiltonian=H, overlap=S, fermi_energy=-1.5, n_electrons=6.0)


@pytest.fixture
def deeph_folder(tmp_path, hamiltonian) -> Path:
    """`hamiltonian` as a DeepH folder."""
    write_deeph(tmp_path / "deeph", hamiltonian)
    return tmp_path / "deeph"


@pytest.fixture
def make_model_folder(tmp_path) -> Callable[..., Path]:
    """Function that makes a model folder whose weights are no network: enough for what does not predict."""

    def make(elements: tuple[str, ...] = ("C", "H"), name: str = "model", **fields: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        weights = b"weights of " + name.encode()
        (folder / WEIGHTS_FILE).write_bytes(weights)
        description = ModelDescription(
            network="deephe3",
            architecture={"lmax": 1},
            basis={symbol: (0, 1) for symbol in elements},
            spin="none",
            pair_cutoffs={f"{a}-{b}": 4.2 for a in elements for b in elements if a <= b},
            metrics={"validation_mae_eV": 0.003},
            weights_sha256=hashlib.sha256(weights).hexdigest(),
            **fields,
        )
        description.write(folder / DESCRIPTION_FILE)
        return folder

    return make


@pytest.fixture
def make_manifest() -> Callable[..., DatasetManifest]:
    """Function that makes a manifest of members whose files do not exist."""

    def make(n_members: int = 5, **fields: Any) -> DatasetManifest:
        members = tuple(
            Member(
                name=f"cell_{n}",
                uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, str(n))),
                path=f"members/cell_{n}",
                sha256={"hamiltonian.h5": f"{n:064d}"},
                n_atoms=2,
                n_pairs=54,
            )
            for n in range(n_members)
        )
        values = {"basis": {"H": (0,), "C": (0, 1)}, "spin": "none", "pair_cutoffs": {"C-H": 4.2}, **fields}
        return DatasetManifest(members=members, **values)

    return make


@pytest.fixture
def make_remote(aiida_localhost, tmp_path) -> Callable[..., orm.RemoteData]:
    """Function that makes a stored RemoteData; with `creator`, as that calculation's remote folder."""

    def make(name: str = "remote", creator: str | None = None, **inputs: orm.Data) -> orm.RemoteData:
        remote = orm.RemoteData(remote_path=str(tmp_path / name), computer=aiida_localhost)
        if creator is None:
            return remote.store()
        job = orm.CalcJobNode(computer=aiida_localhost, process_type=f"aiida.calculations:{creator}")
        for label, node in inputs.items():
            job.base.links.add_incoming(node.store(), LinkType.INPUT_CALC, label)
        job.store()
        remote.base.links.add_incoming(job, LinkType.CREATE, "remote_folder")
        return remote.store()

    return make


@pytest.fixture
def chain() -> orm.StructureData:
    """A CH chain along z, with a kind that is not named as its element and atoms outside the cell."""
    node = orm.StructureData(cell=[[8.0, 0, 0], [0, 9.0, 0], [0, 0, 2.5]], pbc=(False, False, True))
    node.append_atom(symbols="C", position=(0.1, 0.2, 1 / 3), name="C1")
    node.append_atom(symbols="H", position=(0.0, -1.1, 2.7))
    return node


@dataclass
class Prepared:
    """A job as it would be uploaded."""

    info: CalcInfo
    config: dict[str, Any]
    files: dict[str, str]

    @property
    def links(self) -> dict[str, str]:
        """Target -> remote path of the symbolic links."""
        return {target: path for _, path, target in self.info.remote_symlink_list}

    @property
    def copies(self) -> list[tuple[str, str]]:
        """(source inside the node, target) of the uploaded nodes."""
        return [(source, target) for _, source, target in self.info.local_copy_list]

    @property
    def retrieved(self) -> list[str]:
        return [item if isinstance(item, str) else item[0] for item in self.info.retrieve_list]

    @property
    def temporary(self) -> list[str]:
        return [item[0] for item in self.info.retrieve_temporary_list]


@pytest.fixture
def prepare(engine_code, tmp_path) -> Callable[..., Prepared]:
    """Function (entry point, inputs) that validates the inputs as a submission does and prepares the job."""

    def run(entry_point: str, inputs: Mapping[str, Any]) -> Prepared:
        process = instantiate_process(
            get_manager().get_runner(), CalculationFactory(entry_point), code=engine_code, **inputs
        )
        folder = SandboxFolder(tmp_path / "sandbox")
        info = process.prepare_for_submission(folder)
        root = Path(folder.abspath)
        files = {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}
        folder.erase()
        return Prepared(info, json.loads(files["config.json"]), files)

    return run


@pytest.fixture
def parse(aiida_localhost, tmp_path) -> Callable[..., tuple[dict[str, orm.Data], orm.ProcessNode]]:
    """Function that parses a job which left some files; returns the outputs and the node with the exit status.

    :param files: retrieved file -> its text.
    :param temporary: folder retrieved for the parser alone.
    :param scheduler_status: exit status that the scheduler's parser has set before.
    """

    def run(
        entry_point: str,
        files: Mapping[str, str],
        *,
        inputs: Mapping[str, orm.Data] | None = None,
        temporary: Path | None = None,
        scheduler_status: int | None = None,
    ) -> tuple[dict[str, orm.Data], orm.ProcessNode]:
        job = orm.CalcJobNode(computer=aiida_localhost, process_type=f"aiida.calculations:{entry_point}")
        job.set_option("scheduler_stderr", "_scheduler-stderr.txt")
        job.set_option("scheduler_stdout", "_scheduler-stdout.txt")
        for label, node in (inputs or {}).items():
            job.base.links.add_incoming(node.store(), LinkType.INPUT_CALC, label)
        job.store()
        if scheduler_status is not None:
            job.set_exit_status(scheduler_status)
            job.set_exit_message("verdict of the scheduler")
        retrieved = orm.FolderData()
        for name, text in files.items():
            retrieved.base.repository.put_object_from_filelike(io.BytesIO(text.encode()), name)
        retrieved.base.links.add_incoming(job, LinkType.CREATE, "retrieved")
        retrieved.store()
        return ParserFactory(entry_point).parse_from_node(
            job, store_provenance=False, retrieved_temporary_folder=str(temporary) if temporary else None
        )

    return run
