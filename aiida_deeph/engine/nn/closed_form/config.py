"""How the closed-form model is asked for; needs no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from aiida_deeph.engine.nn.config import NetworkConfig


class ClosedFormConfig(NetworkConfig):
    """The closed-form three-centre Hamiltonian: fitted by least squares in seconds, without epochs.

    :param lmax_environment: largest l of the surroundings of a bond; None takes what the data and 2 GiB of normal
        equations allow, at most 8.
    :param bond_smoothness: distance over which H changes with the length of the bond, Angstrom.
    :param environment_smoothness: distance over which it changes with the distance of a third atom, Angstrom.
    :param environment_decay: the influence of a third atom falls as exp(-r / decay), Angstrom.
    :param site_lmax: largest l in products of surroundings on site.
    :param site_smoothness, site_decay: the same for the blocks on the atoms.
    :param element_channels: mixtures of the elements that the surroundings tell apart; with more elements than
        channels, they are random mixtures.
    """

    implementation: ClassVar[str] = "aiida_deeph.engine.nn.closed_form.network:ClosedForm"

    name: Literal["closed-form"] = "closed-form"
    lmax_environment: int | None = Field(default=None, ge=0, le=12)
    bond_smoothness: float = Field(default=0.8, gt=0)
    environment_smoothness: float = Field(default=0.3, gt=0)
    environment_decay: float = Field(default=1.5, gt=0)
    site_lmax: int = Field(default=5, ge=0, le=8)
    site_smoothness: float = Field(default=0.6, gt=0)
    site_decay: float = Field(default=1.2, gt=0)
    element_channels: int = Field(default=3, ge=1)
