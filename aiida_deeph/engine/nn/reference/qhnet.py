"""Import and export of QHNet's checkpoints: torch files {state_dict, eval, batch_idx} without any configuration.

Four functions share the name QHNet, and three of them one layout of the state dict: which one a file holds must be
said. Weights are those of ours but for their order: energies stay in Hartree inside (`Architecture.energy_unit`), and
of lengths only the radial basis knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from ase.data import atomic_numbers
from torch import Tensor

from aiida_deeph.engine.domain.basis import OrbitalBasis, SpinMode
from aiida_deeph.engine.errors import DataError, InputError
from aiida_deeph.engine.graph.layout import EntryLayout
from aiida_deeph.engine.io.files import atomic_path
from aiida_deeph.engine.io.model import ModelDescription
from aiida_deeph.engine.nn.qhnet.network import Architecture, QHNet
from aiida_deeph.engine.nn.reference.conventions import CONVENTIONS, detect_versions
from aiida_deeph.engine.nn.reference.files import read_checkpoint
from aiida_deeph.engine.nn.reference.qhnet_weights import (
    FIRST_PAIR_LAYER,
    LMAX,
    UNTRAINED_ALPHA,
    fill,
    state_dict,
)
from aiida_deeph.engine.nn.storage import load_model, save_model
from aiida_deeph.engine.units import HARTREE_TO_EV

BOHR = 1 / 1.8897261258369282
"""Of the reference's MD17 code, Angstrom."""
SHELLS = {1: (0, 0, 1), 2: (0, 0, 1), **dict.fromkeys(range(5, 11), (0, 0, 0, 1, 1, 2))}
"""def2-SVP by atomic number; the reference takes 3s2p1d for lithium and beryllium too, which have no d shell."""


@dataclass(frozen=True)
class Variant:
    """One of the functions that share the name.

    :param length: unit of lengths, Angstrom.
    :param learned_alpha: else the decay is 1 per unit of length, and the parameter in the file is dead.
    """

    length: float
    learned_alpha: bool
    invariants: Literal["both", "receiver"]
    has_biases: bool = True


VARIANTS = {
    "md17": Variant(BOHR, False, "receiver"),
    "md17-fixed": Variant(BOHR, False, "both"),
    "qh9": Variant(1.0, True, "receiver"),
    "md17-wo-bias": Variant(BOHR, False, "receiver", has_biases=False),
}


def import_qhnet(
    checkpoint: Path, target: Path, *, variant: str, elements: Sequence[str], e3nn: str = "auto"
) -> ModelDescription:
    """Turn a checkpoint of the reference QHNet code into a model folder.

    :param variant: key of `VARIANTS`: the file does not say it.
    :param elements: of the molecules that it was trained on: the file has numbers for others too, which mean nothing.
    :param e3nn: version that trained the model, `auto` finds it in the state dict.
    :raises InputError: variant, elements or version contradict the file, or are none that there are.
    :raises DataError: the file is damaged or holds anything but tensors.
    """
    if variant not in VARIANTS:
        raise InputError(
            "variant of QHNet is not known", where="--variant", found=variant, expected=f"one of {', '.join(VARIANTS)}"
        )
    state = read_checkpoint(Path(checkpoint))["state_dict"]
    kind = VARIANTS[variant]
    if not kind.has_biases:
        state = with_biases(state, checkpoint)
    network = QHNet(*_structure(state, kind, elements, checkpoint))
    candidates = detect_versions(state, checkpoint) if e3nn == "auto" else (e3nn,)
    if candidates[-1] == "0.3":
        raise InputError(
            "checkpoint of an e3nn that normalises otherwise", where=checkpoint, found="0.3", expected="0.4 or later"
        )
    fill(network, state, CONVENTIONS[candidates[-1]], checkpoint)
    description = ModelDescription(
        network="qhnet",
        architecture=network.architecture.model_dump(mode="json"),
        basis=dict(network.layout.basis.shells),
        spin=SpinMode.NONE,
        pair_cutoffs={},
        origin={
            "code": "QHNet",
            "variant": variant,
            "e3nn": candidates[-1],
            "file": Path(checkpoint).name,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
        },
    )
    return save_model(target, network, description)


def _structure(
    state: dict[str, Tensor], kind: Variant, elements: Sequence[str], where: Path
) -> tuple[Architecture, EntryLayout]:
    """Architecture and layout from the sizes of the tensors."""
    try:
        n_elements, channels = state["node_embedding.weight"].shape
        alpha = float(state["distance_expansion._alpha"])
        cutoff = float(state["distance_expansion.cutoff"])
        n_radial = len(state["distance_expansion.logc"])
        n_layers = len({name.split(".")[1] for name in state if name.startswith("e3_gnn_layer.")})
        bottleneck = state["output_ii.weight"].numel() // ((LMAX + 1) * channels)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            "not a checkpoint of QHNet", where=where, found=repr(error)[:120], expected="its state dict"
        ) from None
    trained = abs(alpha - UNTRAINED_ALPHA) > 1e-6
    if trained != kind.learned_alpha:
        likely = "qh9" if trained else "md17, md17-fixed or md17-wo-bias"
        raise InputError(
            "variant does not fit the checkpoint",
            where=f"{where}, distance_expansion._alpha",
            found=f"{alpha:.7g}, which {'was' if trained else 'was never'} trained",
            expected=f"variant {likely}",
        )
    numbers = {symbol: atomic_numbers.get(symbol, 0) for symbol in elements}
    wrong = [symbol for symbol, z in numbers.items() if z not in SHELLS or z >= n_elements]
    if wrong or not numbers:
        raise InputError(
            "elements that the reference has no basis for",
            where="--elements",
            found=", ".join(wrong) or "none",
            expected=f"some of atomic number below {n_elements}, without lithium and beryllium",
        )
    basis = OrbitalBasis({symbol: SHELLS[z] for symbol, z in numbers.items()})
    layout = EntryLayout.of(basis, SpinMode.NONE)
    architecture = Architecture(
        channels=channels,
        bottleneck=bottleneck,
        n_layers=n_layers,
        first_pair_layer=FIRST_PAIR_LAYER,
        lmax=LMAX,
        n_radial=n_radial,
        message_cutoff=cutoff * kind.length,
        alpha=0.5 if kind.learned_alpha else 1 / kind.length,
        learned_alpha=kind.learned_alpha,
        invariants=kind.invariants,
        ignore_parity=True,
        all_pairs=True,
        targets=tuple(target.as_json() for target in layout.targets),
    )
    return architecture, layout


def with_biases(state: dict[str, Tensor], where: Path) -> dict[str, Tensor]:
    """The state dict of `md17-wo-bias` in the layout of the others: the same function with biases 0.

    Its lists of layers of atoms and pairs begin at the first convolution, and those before the fourth are dead.
    """
    result = {}
    for name, value in state.items():
        kind, _, rest = name.partition(".")
        if kind in ("e3_gnn_node_layer", "e3_gnn_node_pair_layer"):
            number, _, rest = rest.partition(".")
            if int(number) < FIRST_PAIR_LAYER:
                continue
            name = f"{kind}.{int(number) - FIRST_PAIR_LAYER}.{rest}"
        result[name] = value
    channels = state["node_embedding.weight"].shape[1] if "node_embedding.weight" in state else 0
    for name in list(result):
        if name.endswith(".weight") and ".linear_" in name:
            result[name.removesuffix("weight") + "bias"] = torch.zeros(channels)
    return result


def variant_of(a: Architecture) -> str | None:
    """The variant that is the function of an architecture, None if the reference has none."""
    fixed = (a.lmax, a.first_pair_layer, a.ignore_parity, a.energy_unit)
    if fixed != (LMAX, FIRST_PAIR_LAYER, True, HARTREE_TO_EV):
        return None
    for name, kind in VARIANTS.items():
        alpha_fits = kind.learned_alpha or abs(a.alpha * kind.length - 1) < 1e-12
        if (kind.learned_alpha, kind.invariants) == (a.learned_alpha, a.invariants) and alpha_fits:
            return name
    return None


def export_qhnet(model_folder: Path, target: Path, *, e3nn: str = "auto") -> str:
    """Write a model as a checkpoint of the reference code; its dead parameters are 0.

    :param target: file to write.
    :param e3nn: version under which the reference will run; `auto` takes 0.5.
    :returns: the variant that it is.
    :raises InputError: the network is none that the reference has.
    """
    network, description = load_model(model_folder, dtype=torch.float64)
    variant = variant_of(network.architecture) if isinstance(network, QHNet) else None
    shells = {symbol: SHELLS.get(int(atomic_numbers[symbol])) for symbol in description.basis}
    if (
        not isinstance(network, QHNet)
        or variant is None
        or shells != {symbol: tuple(ls) for symbol, ls in description.basis.items()}
    ):
        raise InputError(
            "network has no counterpart in the reference code",
            where=model_folder,
            found=f"{description.network}, basis {description.basis}",
            expected=f"qhnet as one of {', '.join(VARIANTS)}, with def2-SVP",
        )
    state = state_dict(network, VARIANTS[variant].length, CONVENTIONS["0.5" if e3nn == "auto" else e3nn])
    with atomic_path(target) as temporary:
        torch.save({"state_dict": state, "eval": {}, "batch_idx": 0}, temporary)
    return variant
