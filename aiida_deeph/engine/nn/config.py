"""How a new network is asked for; needs no torch."""

from __future__ import annotations

from pydantic import Field

from aiida_deeph.engine.config import Config


class NetworkConfig(Config):
    """DeepH-E3 (Gong et al., Nat. Commun. 14, 2848 (2023)); the defaults are the published ones.

    :param name: entry in the registry of networks: `deephe3` is the published one; `deephe3-residual` fits a
        two-centre part of H first and learns the rest, in a fraction of the time (see `nn/residual.py`);
        `deephe3-on-site` only standardises the blocks of H on the atoms, by element and pair of shells.
    :param irreps_embed: scalars of the embedding.
    :param irreps_mid: features of nodes and edges between the blocks.
    :param lmax: largest l of the spherical harmonics of the edges.
    :param n_blocks: message-passing blocks.
    :param n_gaussians: Gaussians of the radial basis.
    :param radial_end: centre of the last Gaussian, Angstrom; None takes the largest pair distance of the dataset.
    :param ignore_parity: treat all irreps as even.
    :param hermitian: average both directions of every pair inside the network (see `nn/hermitian.py`).
    """

    name: str = "deephe3"
    irreps_embed: str = "64x0e"
    irreps_mid: str = "64x0e+32x1o+16x2e+8x3o+8x4e"
    lmax: int = Field(default=4, ge=0, le=8)
    n_blocks: int = Field(default=3, ge=1)
    n_gaussians: int = Field(default=128, ge=2)
    radial_end: float | None = Field(default=None, gt=0)
    ignore_parity: bool = False
    hermitian: bool = False
