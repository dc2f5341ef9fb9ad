"""Training folders of the reference DeepH-E3 code, read without running anything of what they hold.

`best_model.pkl` is read with torch's weights-only unpickler; `src/build_model.py` is parsed, never executed: only the
literal keyword arguments of its call `Net(...)` are taken.
"""

from __future__ import annotations

import ast
import json
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.errors import DataError, InputError

CHECKPOINT = "best_model.pkl"
IRREPS = (
    "irreps_embed_node",
    "irreps_edge_init",
    "irreps_sh",
    "irreps_mid_node",
    "irreps_post_node",
    "irreps_out_node",
    "irreps_mid_edge",
    "irreps_post_edge",
    "irreps_out_edge",
)
FIXED = {"use_sc": True, "use_sbf": False, "selftp": False, "edge_upd": True, "only_ij": False, "if_sort_irreps": False}
"""Options of the reference with the only value that is supported: that of all its shipped configurations."""


@dataclass(frozen=True)
class ReferenceModel:
    """One training folder of the reference.

    :param arguments: keyword arguments of the network.
    :param targets: pairs of shells by pair of elements, `{"C H": [0, 1]}`.
    :param state: the state dict; empty tensors and buffers included.
    """

    folder: Path
    arguments: dict[str, Any]
    basis: OrbitalBasis
    spin: SpinMode
    targets: tuple[dict[str, tuple[int, int]], ...]
    state: dict[str, Tensor]
    epoch: int | None
    loss: float | None


def read_reference(folder: Path) -> ReferenceModel:
    """Read a training folder (`best_model.pkl` and `src/`).

    :raises InputError: not such a folder, or one that uses options that no shipped configuration uses.
    :raises DataError: a file is damaged or holds anything but plain data.
    """
    folder = Path(folder)
    info = _read_json(folder / "src" / "dataset_info.json")
    targets = _read_json(folder / "src" / "target_blocks.json")
    where = folder / "src" / "dataset_info.json"
    try:
        symbols = [chemical_symbols[int(number)] for number in info["index_to_Z"]]
        basis = OrbitalBasis({s: tuple(ls) for s, ls in zip(symbols, info["orbital_types"], strict=True)})
        spin = SpinMode.NONCOLLINEAR if bool(info["spinful"]) else SpinMode.NONE
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError("dataset information is damaged", where=where, found=repr(error)) from None
    try:
        named = tuple(
            {
                " ".join(chemical_symbols[int(z)] for z in key.split()): (int(a), int(b))
                for key, (a, b) in target.items()
            }
            for target in targets
        )
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise DataError("targets are damaged", where=folder / "src" / "target_blocks.json", found=repr(error)) from None
    arguments = read_arguments(folder / "src" / "build_model.py")
    checkpoint = read_checkpoint(folder / CHECKPOINT)
    if arguments["num_species"] != len(symbols):
        raise DataError(
            "species differ",
            where=where,
            found=len(symbols),
            expected=f"{arguments['num_species']}, as in build_model.py",
        )
    loss, epoch = checkpoint.get("val_loss"), checkpoint.get("epoch")
    return ReferenceModel(
        folder,
        arguments,
        basis,
        spin,
        named,
        checkpoint["state_dict"],
        int(epoch) if isinstance(epoch, int) else None,
        float(loss) if isinstance(loss, (int, float, np.number, Tensor)) else None,
    )


def read_arguments(path: Path) -> dict[str, Any]:
    """Keyword arguments of the one call `Net(...)` in a Python file, which is parsed and not run.

    :raises InputError: there is no such file or the network uses options that are not supported.
    :raises DataError: the file is no such source.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("not a training folder of the reference code", where=path, found=error.strerror) from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError("network's source cannot be parsed", where=path, found=repr(error)[:120]) from None
    calls = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "Net"
    ]
    if len(calls) != 1 or calls[0].args:
        raise DataError(
            "network's source is not of the known form",
            where=path,
            found=f"{len(calls)} calls",
            expected="one net = Net(...)",
        )
    try:
        found = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in calls[0].keywords}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise DataError(
            "network's source holds more than literals", where=path, expected="plain keyword arguments"
        ) from None
    wrong = {k: found[k] for k, value in FIXED.items() if k in found and found[k] != value}
    if wrong:
        raise InputError(
            "network with options that are not supported",
            where=path,
            found=wrong,
            expected={k: FIXED[k] for k in wrong},
        )
    known = {*IRREPS, *FIXED, "num_species", "num_block", "r_max", "no_parity", "num_basis"}
    types: dict[str, Any] = {**dict.fromkeys(IRREPS, str), "num_species": int, "num_block": int, "r_max": (int, float)}
    for name, kind in types.items():
        if not isinstance(found.get(name), kind):
            raise DataError(
                "argument of the network is missing or wrong", where=path, found=f"{name} = {found.get(name)!r}"[:120]
            )
    if set(found) - known:
        raise InputError("network with unknown options", where=path, found=sorted(set(found) - known)[:5])
    return found


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            "not a training folder of the reference code",
            where=path,
            found=error.strerror,
            expected="best_model.pkl and src/ with build_model.py, dataset_info.json and target_blocks.json",
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError("JSON file is damaged", where=path, found=repr(error)[:120]) from None


def _numpy_scalars() -> list[Any]:
    """What an unpickler needs for NumPy numbers, as a loss may be one; none of it runs anything."""
    rebuild = np.float64(0).__reduce__()[0]
    return [rebuild, np.dtype, *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64))]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A torch file with `state_dict`, read without running anything of what it holds.

    :raises InputError: there is no such file.
    :raises DataError: it is damaged or holds anything but plain data.
    """
    if not path.is_file():
        raise InputError("no checkpoint", where=path, expected="a file that the reference code wrote")
    try:
        with warnings.catch_warnings():
            # Of a pickle protocol that is not torch's own: what it holds is checked anyway.
            warnings.simplefilter("ignore")
            with torch.serialization.safe_globals(_numpy_scalars()):
                checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        OSError,
    ) as error:
        raise DataError(
            "checkpoint cannot be read as plain tensors",
            where=path,
            found=str(error).split("\n")[0][:120] or repr(error),
            expected="a state dict; anything that could run code is refused",
        ) from None
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise DataError(
            "checkpoint without state dict",
            where=path,
            found=type(checkpoint).__name__,
            expected="key state_dict with tensors",
        )
    found: dict[str, Any] = checkpoint
    return found


def write_reference(
    folder: Path,
    arguments: dict[str, Any],
    basis: OrbitalBasis,
    spin: SpinMode,
    targets: tuple[dict[str, tuple[int, int]], ...],
    state: dict[str, Tensor],
) -> None:
    """Write a folder from which the reference code evaluates a model."""
    source = folder / "src"
    source.mkdir(parents=True, exist_ok=True)
    lines = ",\n    ".join(f"{name}={value!r}" for name, value in arguments.items())
    (source / "build_model.py").write_text(f"from deephe3 import Net\nnet = Net(\n    {lines}\n)\n", encoding="utf-8")
    numbers = {symbol: int(atomic_numbers[symbol]) for symbol in basis.elements}
    info = {
        "spinful": spin is not SpinMode.NONE,
        "index_to_Z": list(numbers.values()),
        "orbital_types": [list(basis.shells_of(symbol)) for symbol in basis.elements],
    }
    (source / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    numbered = [
        {" ".join(str(numbers[symbol]) for symbol in pair.split()): list(shells) for pair, shells in target.items()}
        for target in targets
    ]
    (source / "target_blocks.json").write_text(json.dumps(numbered), encoding="utf-8")
    checkpoint = {
        "epoch": 0,
        "val_loss": 0.0,
        "state_dict": state,
        "optimizer_state_dict": {},
        "scheduler_state_dict": {},
    }
    torch.save(checkpoint, folder / CHECKPOINT)
