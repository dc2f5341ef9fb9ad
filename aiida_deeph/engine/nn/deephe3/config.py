"""How DeepH-E3 and its variants are asked for; needs no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from aiida_deeph.engine.nn.config import NetworkConfig


class _Settings(NetworkConfig):
    """What all variants have; the defaults are those of the published network.

    :param irreps_embed: scalars of the embedding.
    :param irreps_mid: features of nodes and edges between the blocks.
    :param lmax: largest l of the spherical harmonics of the edges.
    :param n_blocks: message-passing blocks.
    :param n_gaussians: Gaussians of the radial basis.
    :param radial_end: centre of the last Gaussian, Angstrom; None takes the largest pair distance of the dataset.
    :param message_cutoff: atoms further apart send each other no messages, Angstrom; their blocks of H are predicted
        all the same. None passes messages along all pairs, as published.
    :param ignore_parity: treat all irreps as even.
    :param hermitian: average both directions of every pair inside the network (see `nn/hermitian.py`).
    :param time_reversal: with spin-orbit coupling H = T H T^-1 exactly, so that states come in Kramers pairs; the
        published network learns that from the data.
    """

    citation: ClassVar[str] = "DeepH-E3: Gong et al., Nat. Commun. 14, 2848 (2023), doi:10.1038/s41467-023-38468-8"

    irreps_embed: str = "64x0e"
    irreps_mid: str = "64x0e+32x1o+16x2e+8x3o+8x4e"
    lmax: int = Field(default=4, ge=0, le=8)
    n_blocks: int = Field(default=3, ge=1)
    n_gaussians: int = Field(default=128, ge=2)
    radial_end: float | None = Field(default=None, gt=0)
    message_cutoff: float | None = Field(default=None, gt=0)
    ignore_parity: bool = False
    hermitian: bool = False
    time_reversal: bool = True


class DeepHE3Config(_Settings):
    """DeepH-E3 as published: Gong et al., Nat. Commun. 14, 2848 (2023)."""

    implementation: ClassVar[str] = "aiida_deeph.engine.nn.deephe3.network:DeepHE3"

    name: Literal["deephe3"] = "deephe3"


class DeepHE3SetConfig(_Settings):
    """Several networks for one Hamiltonian: imported from the reference code, never trained."""

    implementation: ClassVar[str] = "aiida_deeph.engine.nn.deephe3.network:DeepHE3Set"

    name: Literal["deephe3-set"] = "deephe3-set"


class ResidualDeepHE3Config(_Settings):
    """Most of H is fitted first in closed form, the rest learnt, in a fraction of the time (see `residual.py`).

    :param start: `closed-form`, the three-centre Hamiltonian, or `two-centre`.
    """

    implementation: ClassVar[str] = "aiida_deeph.engine.nn.deephe3.residual:ResidualDeepHE3"

    name: Literal["deephe3-residual"] = "deephe3-residual"
    start: Literal["closed-form", "two-centre"] = "closed-form"


class OnSiteDeepHE3Config(_Settings):
    """The blocks of H on the atoms are standardised by element and pair of shells, and no more."""

    implementation: ClassVar[str] = "aiida_deeph.engine.nn.deephe3.residual:OnSiteDeepHE3"

    name: Literal["deephe3-on-site"] = "deephe3-on-site"
