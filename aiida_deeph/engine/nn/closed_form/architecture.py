"""Which features a closed form has, and how many: all that follows from the configuration and the data but the fit."""

from __future__ import annotations

from itertools import product

from aiida_deeph.engine.config import Config
from aiida_deeph.engine.domain.basis import OrbitalBasis
from aiida_deeph.engine.nn.closed_form.config import Detail
from aiida_deeph.engine.nn.closed_form.radial import RadialSpace


class ProductSpace(Config):
    """Products of two surroundings in the frame of the bond: four centres.

    :param lmax: of the surroundings, the functions of whose distance are the first `n_functions` of those on site.
    :param n_lengths: so many functions of the length of the bond.
    :param weight: their size beside features of three centres: what is expected of their coefficients.
    :param site_lmax, site_functions, site_weight: the same of products of three surroundings on site.
    """

    lmax: int
    n_functions: int
    n_lengths: int
    weight: float
    site_lmax: int
    site_functions: int
    site_weight: float


class Architecture(Config):
    """Shapes of all coefficients.

    :param bond: functions of the length of a bond; `environment` of the distance of a third atom; `site` on site.
    :param lmax_environment: largest l of the surroundings of a bond; `site_lmax` in products on site.
    :param angular_decay: features of bonds shrink as exp(-l / angular_decay): what is expected of their coefficients.
    :param element_channels: mixtures of the elements.
    :param products: of the surroundings of bonds, None without them.
    :param detail: name of the prior; `choose` whether a fit takes that which its data support, `choose_lmax` the same
        for `lmax_environment`, `choose_order` for `products`.
    :param left_out_errors: root mean square errors of structures that were left out, with three and with four centres,
        as fractions of the size of H: why `products` were chosen or not.
    """

    bond: RadialSpace
    environment: RadialSpace
    site: RadialSpace
    lmax_environment: int
    site_lmax: int
    angular_decay: float
    element_channels: int
    products: ProductSpace | None = None
    detail: Detail = "medium"
    choose: bool = False
    choose_lmax: bool = False
    choose_order: bool = False
    left_out_errors: tuple[float, float] | None = None


def feature_count(a: Architecture, q: int, m: int) -> int:
    """Features of a system between atoms."""
    around = (a.lmax_environment + 1 - m) * a.environment.n_functions * a.element_channels * (1 if q else 2)
    return a.bond.n_functions * (around + (m == 0 and q >= 0)) + product_count(a, q, m)


def product_count(a: Architecture, q: int, m: int) -> int:
    """Those of four centres among them."""
    if a.products is None:
        return 0
    space = a.products
    per_l = min(space.n_functions, a.site.n_functions) * a.element_channels * (1 if q else 2)
    K = [per_l * (space.lmax + 1 - k) for k in range(space.lmax + 1)]
    total = 0
    for m1, m2 in product(range(len(K)), repeat=2):
        ways = sum(abs(m1 + sign * m2) == m for sign in ((1, -1) if m1 and m2 else (1,)))
        if q < 0:
            total += ways * K[m1] * K[m2]
        elif m1 <= m2:
            pairs = K[m1] * (K[m1] + 1) // 2 if m1 == m2 else K[m1] * K[m2]
            total += ways * pairs * (2 if q else 1)
    return min(space.n_lengths, a.bond.n_functions) * total


def systems_cost(a: Architecture, basis: OrbitalBasis) -> float:
    """Sum of the cubes of the numbers of features over all systems between atoms: what solving them costs."""
    n = len(basis.elements)
    mmax = min(a.lmax_environment, 2 * max(l for shells in basis.shells.values() for l in shells) + 1)
    sectors = ((1, n), (-1, n), (0, n * (n - 1) // 2))
    return sum(count * float(feature_count(a, q, m)) ** 3 for q, count in sectors for m in range(mmax + 1))
