"""What is expected of H before any data: how fast it changes with distances, how far third atoms reach, which l matter.

One ridge for all features lets directions that few data leave open run wild: a model of two-atom cells of bismuthene
that knew nothing of smoothness missed an eight-atom cell by 1.2 eV. Here the two-centre part is all but free, and
coefficients of three centres are the smaller the rougher the function of the distance, the farther the third atom and
the larger l (see `radial`). How much of that is right depends on how many atoms were seen in different surroundings:
the evidence of the data tells the level of each ridge, but is blind to kinds of displacements that the data lack.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.nn.closed_form.architecture import Architecture, ProductSpace, systems_cost
from aiida_deeph.engine.nn.closed_form.config import ClosedFormConfig, Detail
from aiida_deeph.engine.nn.closed_form.radial import RadialSpace

MARGIN = 0.9
"""Functions of a distance reach below the shortest bond of the data by this factor."""
TOLERANCE_BOND, TOLERANCE_ENVIRONMENT, TOLERANCE_SITE = 0.01, 0.03, 0.05
"""Components with a smaller standard deviation, as a fraction of the largest, are left out of the radial functions."""
LARGEST_COST = 6e10
"""Of solving all systems, see `systems_cost`: about a minute of one thread, and 2 GiB of normal equations."""
LARGEST_COST_FOUR = 2.5e11
"""With four centres: about two minutes of one thread."""


@dataclass(frozen=True)
class Prior:
    """Expectations; lengths in Angstrom.

    :param atoms: fewest atoms in the training data that support it.
    :param bond: smoothness in the length of a bond.
    :param environment, decay: smoothness in the distance of a third atom from either end, and its reach.
    :param angular_decay: coefficients fall as exp(-l / angular_decay).
    :param site, site_decay: smoothness and reach on site.
    """

    atoms: int
    bond: float
    environment: float
    decay: float
    angular_decay: float
    site: float
    site_decay: float
    lmax: int = 8
    site_lmax: int = 5


PRIORS: dict[Detail, Prior] = {
    "fine": Prior(200, 0.8, 0.3, 1.5, 3.0, 0.6, 1.2),
    "medium": Prior(80, 0.8, 0.5, 1.2, 2.0, 0.8, 1.2),
    "smooth": Prior(0, 1.0, 0.8, 1.0, 2.0, 1.2, 0.8),
}


PRODUCTS = tuple(
    ProductSpace(lmax=l, n_functions=n, n_lengths=3, weight=0.3, site_lmax=l, site_functions=3, site_weight=0.3)
    for l, n in ((3, 4), (3, 3), (2, 4), (2, 3))
)
"""Products of surroundings, the best first."""


def supported_detail(n_atoms: int) -> Detail:
    """The finest prior that so many atoms in the training data support."""
    return next(detail for detail, prior in PRIORS.items() if n_atoms >= prior.atoms)


def architecture_of(
    config: ClosedFormConfig,
    detail: Detail,
    basis: OrbitalBasis,
    end: float,
    shortest: float = 1.0,
    body_order: int | None = None,
) -> Architecture:
    """Shapes that follow from a prior; what the configuration leaves open is made smaller until the cost is bounded.

    :param end: largest distance of a pair in the training data, Angstrom; `shortest` the smallest.
    :param body_order: 4 for products of surroundings, unless all of them cost too much; None takes the configured one.
    """
    if (body_order or config.body_order) == 4:
        n_channels, fixed = min(config.element_channels, len(basis.elements)), config.lmax_environment
        for products, lmax in product(PRODUCTS, (PRIORS[detail].lmax, 6, 4) if fixed is None else (fixed,)):
            three = _architecture(config, detail, lmax, n_channels, end, MARGIN * shortest)
            four = three.model_copy(update={"products": products})
            if systems_cost(four, basis) <= LARGEST_COST_FOUR:
                return four
    for candidate in _candidates(config, detail, min(config.element_channels, len(basis.elements))):
        found = _architecture(config, *candidate, end, MARGIN * shortest)
        if systems_cost(found, basis) <= LARGEST_COST:
            break
    return found


def _candidates(config: ClosedFormConfig, detail: Detail, n_channels: int) -> Iterator[tuple[Detail, int, int]]:
    """(prior, lmax, channels of elements), the best first: coarser priors rather than less than l = 4, then less."""
    details = list(PRIORS)[list(PRIORS).index(detail) :] if config.detail is None else [detail]
    fixed = config.lmax_environment
    for prior in details:
        for lmax in range(PRIORS[prior].lmax, 3, -1) if fixed is None else [fixed]:
            yield prior, lmax, n_channels
    for channels in range(n_channels, 0, -1):
        for lmax in range(3, 0, -1) if fixed is None else [fixed]:
            yield details[-1], lmax, channels


def _architecture(
    config: ClosedFormConfig, detail: Detail, lmax: int, n_channels: int, end: float, start: float
) -> Architecture:
    prior, within = PRIORS[detail], RadialSpace.within
    return Architecture(
        bond=within(start, end, prior.bond, None, TOLERANCE_BOND),
        environment=within(start, end, prior.environment, prior.decay, TOLERANCE_ENVIRONMENT),
        site=within(start, end, prior.site, prior.site_decay, TOLERANCE_SITE),
        lmax_environment=lmax,
        site_lmax=prior.site_lmax,
        angular_decay=prior.angular_decay,
        element_channels=n_channels,
        detail=detail,
        choose=config.detail is None,
        choose_lmax=config.lmax_environment is None,
        choose_order=config.body_order is None,
    )
