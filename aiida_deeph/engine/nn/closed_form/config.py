"""How the closed-form model is asked for; needs no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from aiida_deeph.engine.nn.config import NetworkConfig

Detail = Literal["smooth", "medium", "fine"]


class ClosedFormConfig(NetworkConfig):
    """The closed-form three-centre Hamiltonian: fitted by least squares in seconds, without epochs.

    :param detail: how fast H may change with the places of the atoms (see `prior.py`); None takes what the number of
        atoms in the training data supports.
    :param body_order: 4 adds products of two surroundings, so that a block sees four centres at a time; None takes
        what predicts structures better that are left out of the fit, where the data are many, else 3.
    :param lmax_environment: largest l of the surroundings of a bond; None takes what `detail` has, less where many
        elements make that too costly.
    :param element_channels: mixtures of the elements that the surroundings tell apart; with more elements than
        channels, they are random mixtures.
    """

    implementation: ClassVar[str] = "aiida_deeph.engine.nn.closed_form.network:ClosedForm"
    has_posterior: ClassVar[bool] = True

    name: Literal["closed-form"] = "closed-form"
    detail: Detail | None = None
    body_order: Literal[3, 4] | None = None
    lmax_environment: int | None = Field(default=None, ge=0, le=12)
    element_channels: int = Field(default=3, ge=1)
