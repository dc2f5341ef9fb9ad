"""All observables by name; each is loaded when it is asked for."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from aiida_deeph.engine.observables.base import Observable


class Entry(NamedTuple):
    """Where an observable is at home, what it is in a few words, and whether it has curves that can be drawn."""

    home: str
    help: str
    drawn: bool = True


OBSERVABLES = {
    "bands": Entry("aiida_deeph.engine.observables.bands:Bands", "Bands along a path, on a mesh or at listed k-points"),
    "dos": Entry("aiida_deeph.engine.observables.dos:DensityOfStates", "Density of states"),
    "levels": Entry(
        "aiida_deeph.engine.observables.levels:Levels", "Levels, gap, dipole, orbitals of a molecule", False
    ),
    "compare": Entry("aiida_deeph.engine.observables.compare:Comparison", "Errors of H, judged by a reference", False),
    "unfold": Entry("aiida_deeph.engine.observables.unfold:UnfoldedBands", "Bands of a supercell, unfolded"),
}


def load_observable(name: str) -> type[Observable]:
    """The class of an observable.

    :raises KeyError: no such observable.
    """
    observable: type[Observable] = resolve_name(OBSERVABLES[name].home)
    return observable
