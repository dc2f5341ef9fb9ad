"""How QHNet is asked for; needs no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from aiida_deeph.engine.nn.config import NetworkConfig


class QHNetConfig(NetworkConfig):
    """QHNet: Yu et al., ICML 2023 (arXiv 2306.04922); sizes and radial basis are those of QH9 (arXiv 2306.09549).

    As published (`ignore_parity`) it turns with a molecule but is wrong for its mirror image: the features that H is
    made of mix tensors with pseudotensors, and planar molecules get elements that their symmetry forbids. The default
    keeps both apart, with the same paths and the same cost, and is exact.

    :param channels: features of each l.
    :param bottleneck: channels from which blocks of H are expanded.
    :param n_layers: convolutions; from the one numbered `first_pair_layer` on each adds to the features of H's blocks.
    :param lmax: of all features; at least twice the largest l of the basis.
    :param n_radial: functions of the radial basis.
    :param message_cutoff: end of the radial basis, Angstrom: further atoms send each other no messages, and of their
        pair only the elements are known. None takes 15 for `all_pairs`, else the largest pair distance of the dataset.
    :param alpha: decay of the radial basis, 1/Angstrom; where it starts if `learned_alpha`.
    :param invariants: scalars that enter the weights of a message: of both atoms, or of the receiver alone as in the
        published models.
    :param ignore_parity: as published, see above.
    :param all_pairs: predict the blocks of all pairs of a molecule, whatever their distance: for molecules.
    """

    implementation: ClassVar[str] = "aiida_deeph.engine.nn.qhnet.network:QHNet"
    citation: ClassVar[str] = "QHNet: Yu et al., Proc. ICML (2023), doi:10.48550/arXiv.2306.04922"

    name: Literal["qhnet"] = "qhnet"
    channels: int = Field(default=128, ge=1)
    bottleneck: int = Field(default=32, ge=1)
    n_layers: int = Field(default=5, ge=1)
    first_pair_layer: int = Field(default=3, ge=0)
    lmax: int = Field(default=4, ge=0, le=8)
    n_radial: int = Field(default=16, ge=2)
    message_cutoff: float | None = Field(default=None, gt=0)
    alpha: float = Field(default=0.5, gt=0)
    learned_alpha: bool = True
    invariants: Literal["both", "receiver"] = "both"
    ignore_parity: bool = False
    all_pairs: bool = False
