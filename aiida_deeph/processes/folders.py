"""What is kept of the labels besides their folders on the cluster: retrieved, stashed, and known to be there."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from aiida import orm
from aiida.common.links import LinkType

from aiida_deeph.calculations.folders import OUTPUT
from aiida_deeph.calculations.space import last_words, reserving, room
from aiida_deeph.engine.errors import InputError

STASH, RETRIEVE = "stash", "additional_retrieve_list"
MISSING = "missing file: "


class Keep(StrEnum):
    """What comes into the database of each label.

    nothing: energies and the output text; raw matrices and the dataset stay on the cluster.
    hamiltonian: H(R) and S(R) as they stand in the dataset too, a HamiltonianData per label.
    all: the raw files of the DFT run as well.
    """

    NOTHING = "nothing"
    HAMILTONIAN = "hamiltonian"
    ALL = "all"


def validate_keep(node: orm.Str | None, _: Any) -> str | None:
    """Message if it is no such word."""
    known = [one.value for one in Keep]
    return f"found `{node.value}`, expected one of {', '.join(known)}" if node and node.value not in known else None


def validate_stash(options: Mapping[str, Any] | None, _: Any) -> str | None:
    """Message if options of jobs ask for a stash that cannot be."""
    try:
        stash_of(options or {}, ("file",))
    except InputError as error:
        return str(error)
    return None


def without_stash(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of a job that leaves nothing that is worth a stash."""
    return {key: value for key, value in (options or {}).items() if key != STASH}


def stash_of(options: Mapping[str, Any], files: Sequence[str]) -> dict[str, Any]:
    """The stash that options ask for, filled in: AiiDA's own keys, of which only `target_base` has to be given.

    :param files: what is stashed, relative to the working directory, unless `source_list` says otherwise.
    :raises InputError: no absolute `target_base`.
    """
    if not options.get(STASH):
        return {}
    stash = {"stash_mode": "copy", "source_list": list(files), **options[STASH]}
    target = stash.get("target_base")
    if not isinstance(target, str) or not PurePosixPath(target).is_absolute():
        raise InputError(
            "no place to stash",
            where="options.stash.target_base",
            found=repr(target),
            expected="absolute path of a folder on the cluster that is not cleaned up",
        )
    if stash["stash_mode"] != "copy":
        stash.setdefault("dereference", False)
    return {STASH: stash}


def kept_options(options: Mapping[str, Any], files: Sequence[str], keep: Keep) -> dict[str, Any]:
    """Options of a label, whose raw files are retrieved by `all`.

    :param files: patterns of the raw files; AiiDA's `additional_retrieve_list` gets them.
    """
    if keep is not Keep.ALL:
        return dict(options)
    known = options.get(RETRIEVE, [])
    return {**options, RETRIEVE: [*known, *(name for name in files if name not in known)]}


def label_options(options: Mapping[str, Any], files: Sequence[str], *, watched: bool = False) -> dict[str, Any]:
    """Options of a DFT job: its raw files are looked for when it has run, and stashed if asked for.

    :param files: patterns of the raw files.
    :param watched: the job looks by itself whether its disk is full.
    """
    result = {**options, **stash_of(options, files)}
    texts = {"append_text": checking(files)} if files else {}
    if files and not watched:
        texts = {"append_text": f"{room()}\n{checking(files)}", "prepend_text": reserving()}
    for name, text in texts.items():
        given = result.get(name)
        result[name] = f"{given}\n{text}" if given else text
    return result


def without_raw_files(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of a job that leaves no raw files: nothing to stash or to retrieve."""
    return {key: value for key, value in (options or {}).items() if key not in (STASH, RETRIEVE)}


def checking(files: Iterable[str]) -> str:
    """Shell lines at the end of a job script that name each file that is missing or empty, on its standard output."""
    lines = []
    for pattern in files:
        path = PurePosixPath(pattern)
        found = f"find ./{shlex.quote(str(path.parent))} -maxdepth 1 -name {shlex.quote(path.name)} -size +0c"
        lines.append(f'[ -n "$({found} 2>/dev/null | head -n 1)" ] || echo {shlex.quote(MISSING + pattern)}')
    return "\n".join(lines)


def missing_files(node: orm.CalcJobNode) -> list[str]:
    """Files that a job did not leave, by its own last words; none if it was cut off before it could say so."""
    return [line.removeprefix(MISSING) for line in last_words(node) if line.startswith(MISSING)]


def lasting_folder(outputs: Any) -> orm.Data:
    """Where a reader finds the files of a job: in its stash if there is one, else in its working directory.

    The stash comes first, for a cluster that cleans up tells nobody.
    """
    folder: orm.Data = outputs.remote_stash if "remote_stash" in outputs else outputs.remote_folder
    return folder


def dataset_stash(options: Mapping[str, Any]) -> dict[str, Any]:
    """The stash of the dataset itself: copied whatever the mode, since trainings read it where it lies."""
    if not options.get(STASH):
        return {}
    place = {key: value for key, value in options[STASH].items() if key == "target_base"}
    return stash_of({STASH: place}, (OUTPUT,))


def folder_of(dataset: orm.Data) -> orm.Data:
    """Where the members of a dataset lie.

    :raises InputError: no job of this database made it.
    """
    if dataset.creator is None:
        found = f"DatasetData<{dataset.pk}> without a creator"
        raise InputError("dataset without its folder", found=found, expected="one made by a preprocess job")
    return lasting_folder(dataset.creator.outputs)


def folders_of_children(process: orm.ProcessNode) -> list[tuple[str, str, orm.Data]]:
    """Folders and stashes of all that a process called: label of the call, label of the output, node; in one query."""
    stashes = (orm.RemoteData, orm.RemoteStashFolderData, orm.RemoteStashCompressedData)
    query = orm.QueryBuilder().append(orm.ProcessNode, filters={"id": process.pk}, tag="process")
    calls = {"type": {"in": [LinkType.CALL_CALC.value, LinkType.CALL_WORK.value]}}
    query.append(
        orm.ProcessNode, with_incoming="process", tag="child", edge_filters=calls, edge_tag="call", edge_project="label"
    )
    outputs = {"label": {"in": ["remote_folder", "remote_stash"]}}
    query.append(
        stashes,
        with_incoming="child",
        tag="folder",
        project="*",
        edge_filters=outputs,
        edge_tag="output",
        edge_project="label",
    )
    return [(row["call"]["label"], row["output"]["label"], row["folder"]["*"]) for row in query.dict()]
