"""What a job takes with it, brings back and reads on the cluster; every path is relative and free of node uuids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, cast

from aiida.common.datastructures import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.orm import (
    AbstractCode,
    Computer,
    Data,
    RemoteData,
    RemoteStashCompressedData,
    RemoteStashFolderData,
    StructureData,
)

from aiida_deeph.calculations.space import watch_space
from aiida_deeph.data.structure import to_engine
from aiida_deeph.engine.config import Config
from aiida_deeph.engine.io.structure import write_structure

CONFIG_FILE = "config.json"
STDOUT_FILE = "deeph.out"
STDERR_FILE = "deeph.err"
STRUCTURE_FILE = "structure.xyz"
# Folders that jobs left on the cluster: where they ran, or where AiiDA stashed some of their files.
RemoteFolder = RemoteData | RemoteStashFolderData
REMOTE_FOLDERS = (RemoteData, RemoteStashFolderData)


def remote_path(folder: RemoteFolder | RemoteStashCompressedData) -> PurePosixPath:
    """Absolute path of a folder, or of the archive of a compressed stash, on its computer."""
    return PurePosixPath(folder.get_remote_path() if isinstance(folder, RemoteData) else folder.target_basepath)


class Staging:
    """Collects files, copies, links and what is retrieved, and turns them into AiiDA's CalcInfo.

    :param folder: sandbox whose content goes to the working directory.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._copied: list[tuple[str, str, str]] = []
        self._linked: list[tuple[str, str, str]] = []
        self._retrieved: list[str | tuple[str, str, int]] = [STDOUT_FILE, STDERR_FILE]
        self._parsed: list[str | tuple[str, str, int]] = []

    def write_structure(self, node: StructureData, name: str = STRUCTURE_FILE) -> str:
        """Put the structure there as extended xyz: atoms in their order, positions not wrapped, all digits."""
        path = self._path(name)
        path.parent.mkdir(exist_ok=True)
        write_structure(path, to_engine(node))
        return name

    def write_json(self, values: Mapping[str, Any], name: str) -> str:
        """Write a JSON file and return its name."""
        self._path(name).write_text(json.dumps(values), encoding="utf-8")
        return name

    def copy(self, node: Data, target: str, source: str = ".") -> str:
        """Upload a node's files (one of them, if named) as `target`."""
        self._copied.append((node.uuid, source, target))
        return target

    def link(self, remote: RemoteFolder | RemoteStashCompressedData, target: str, source: str = ".") -> str:
        """Link a folder of an earlier job, or the archive of a compressed stash, as `target`; nothing is copied."""
        computer = cast(Computer, remote.computer)  # only a node that is not stored may lack it
        self._linked.append((computer.uuid, str(remote_path(remote) / source), target))
        return target

    def retrieve(self, *paths: str) -> None:
        """Bring files back into the `retrieved` node, with their folders."""
        self._retrieved += [(path, ".", len(PurePosixPath(path).parts)) for path in paths]

    def retrieve_for_parser(self, *paths: str) -> None:
        """Bring files back for the parser alone, which makes a node of them."""
        self._parsed += [(path, ".", len(PurePosixPath(path).parts)) for path in paths]

    def finish(self, code: AbstractCode, command: str, config: Config) -> CalcInfo:
        """Write the configuration and say how `deeph-engine` is called."""
        config.write(self._path(CONFIG_FILE))
        run = CodeInfo()
        run.code_uuid = code.uuid
        run.cmdline_params = [command, CONFIG_FILE]
        run.stdout_name = STDOUT_FILE
        run.stderr_name = STDERR_FILE
        info = CalcInfo()
        info.codes_info = [run]
        info.local_copy_list, info.remote_symlink_list = self._copied, self._linked
        info.retrieve_list, info.retrieve_temporary_list = self._retrieved, self._parsed
        return watch_space(info)

    def _path(self, name: str) -> Path:
        return Path(self._folder.get_abs_path(name))
