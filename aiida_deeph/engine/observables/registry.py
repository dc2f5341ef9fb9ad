"""All observables by name; each is loaded when it is asked for."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiida_deeph.engine.observables.base import Observable

OBSERVABLES = {
    "bands": "aiida_deeph.engine.observables.bands:Bands",
    "dos": "aiida_deeph.engine.observables.dos:DensityOfStates",
    "compare": "aiida_deeph.engine.observables.compare:Comparison",
    "unfold": "aiida_deeph.engine.observables.unfold:UnfoldedBands",
}


def load_observable(name: str) -> type[Observable]:
    """The class of an observable.

    :raises KeyError: no such observable.
    """
    observable: type[Observable] = resolve_name(OBSERVABLES[name])
    return observable
