"""Common supercells of two hexagonal lattices that are turned against each other.

With lattice vectors a1, a2 of length a, 60 degrees apart, the vector p a1 + q a2 is the complex number a (p + q w) with
w = exp(i pi/3): an Eisenstein integer times a. The lattice of its multiples is hexagonal again, has
N = p^2 + p q + q^2 cells, and the vectors (p, q) and (-q, p + q). Two layers have a common cell where such vectors of
both, z and z', have the same length; the twist is the angle between them. For equal lattices
z = m + (m + r) w, z' = (m + r) + m w gives every commensurate twist
(J. M. B. Lopes dos Santos, N. M. R. Peres, A. H. Castro Neto, Phys. Rev. B 86, 155449 (2012), eq. 1 to 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan2, degrees, gcd, sqrt

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.errors import InputError

# A supercell vector (p, q) of one layer, in its lattice vectors.
Vector = tuple[int, int]

# Lattice constants that differ by less, as a share, are those of equal layers.
EQUAL = 1e-6


@dataclass(frozen=True)
class Coincidence:
    """A common supercell of two hexagonal layers.

    :param lower: supercell vector (p, q) of the lower layer.
    :param upper: supercell vector of the upper layer, which is turned until both coincide.
    :param strain: relative change of the upper layer's lattice constant that makes the lengths equal.
    """

    lower: Vector
    upper: Vector
    strain: float = 0.0

    @property
    def angle(self) -> float:
        """Twist in degrees, counter-clockwise positive."""
        return direction(self.lower) - direction(self.upper)

    @property
    def n_cells(self) -> tuple[int, int]:
        """Primitive cells of the lower and of the upper layer."""
        return norm(self.lower), norm(self.upper)


def norm(z: Vector) -> int:
    """Primitive cells in the supercell of a vector: p^2 + p q + q^2."""
    return z[0] ** 2 + z[0] * z[1] + z[1] ** 2


def direction(z: Vector) -> float:
    """Angle between a vector and the first lattice vector, degrees."""
    return degrees(atan2(z[1] * sqrt(3) / 2, z[0] + z[1] / 2))


def supercell_matrix(z: Vector) -> NDArray[np.int64]:
    """Supercell vectors in rows, in the lattice vectors, shape (2, 2); 60 degrees apart."""
    p, q = z
    return np.array([[p, q], [-q, p + q]], dtype=np.int64)


def commensurate(m: int, r: int) -> Coincidence:
    """The smallest common cell of two equal layers with cos(angle) = (3m^2 + 3mr + r^2/2) / (3m^2 + 3mr + r^2).

    m = 1, 2, ... with r = 1 are the usual cells of twisted bilayer graphene with 4 (3m^2 + 3m + 1) atoms.

    :raises InputError: m and r are not positive and coprime.
    """
    if m < 1 or r < 1 or gcd(m, r) != 1:
        raise InputError("no commensurate cell", where="(m, r)", found=(m, r), expected="coprime positive integers")
    lower, upper = (m, m + r), (m + r, m)
    if r % 3 == 0:  # both are multiples of 1 + w, of norm 3
        lower, upper = (m + r // 3, r // 3), (m + 2 * r // 3, -r // 3)
    return Coincidence(lower, upper)


def nearest(
    angle: float,
    lengths: tuple[float, float],
    atoms: tuple[int, int],
    *,
    tolerance: float | None = None,
    max_strain: float = 0.005,
    max_atoms: int = 20_000,
) -> Coincidence:
    """The smallest common cell whose twist is within `tolerance` of an angle.

    :param angle: degrees, 0 to 60.
    :param lengths: lattice constants of the lower and upper layer, Angstrom.
    :param atoms: atoms in the primitive cells of both.
    :param tolerance: degrees; None prefers 1 % of the angle (at least 0.01) and takes the nearest up to ten times that.
    :param max_strain: largest relative change of the upper layer's lattice constant; equal layers have none.
    :param max_atoms: atoms in the common cell.
    :raises InputError: the angle is out of range, or no cell is near enough and small enough.
    """
    if not 0 <= angle <= 60:
        raise InputError("twist is wrong", where="angle", found=angle, expected="0 to 60 degrees")
    margin = max(0.01 * angle, 0.01) if tolerance is None else tolerance
    ratio = lengths[0] / lengths[1]
    allowed = EQUAL if abs(ratio - 1) < EQUAL else max_strain
    upper, upper_size, upper_turn = _vectors(max_atoms // atoms[1])
    best: tuple[float, ...] = (np.inf, np.inf)
    found: Coincidence | None = None
    for z, size, turn in zip(*_vectors(max_atoms // atoms[0]), strict=True):
        # Vectors of the upper layer whose length differs by no more than the strain that is allowed.
        wanted = size * ratio**2
        ends = wanted / (1 + allowed) ** 2 - 1e-9, wanted / (1 - allowed) ** 2 + 1e-9
        first, last = np.searchsorted(upper_size, ends)
        count = atoms[0] * size + atoms[1] * upper_size[first:last]
        delta = np.abs(turn - upper_turn[first:last])  # with a mirror image and sixth turns, 60 - delta as well
        off = np.minimum(np.abs(delta - angle), np.abs(60 - delta - angle))
        strain = np.abs(np.sqrt(wanted / upper_size[first:last]) - 1)
        # First those within the margin by their size, then the others by their angle.
        keys = np.stack([np.where(off <= margin, count, np.inf), np.where(off <= margin, 0, off), strain, off, count])
        keys = keys[:, count <= max_atoms]
        if keys.size:
            chosen = int(np.lexsort(keys[::-1])[0])
            rank = tuple(keys[:, chosen].tolist())
            if rank < best:
                partner = upper[first:last][count <= max_atoms][chosen]
                best, found = rank, Coincidence((int(z[0]), int(z[1])), (int(partner[0]), int(partner[1])))
    if found is None or best[1] > (10 * margin if tolerance is None else 0):
        near = "none" if found is None else f"{best[3]:.3g} degrees off with {int(best[4])} atoms as the nearest"
        raise InputError(
            "no common cell",
            where=f"twist of {angle:g} degrees, lattice constants {lengths[0]:g} and {lengths[1]:g} Angstrom",
            found=near,
            expected=f"at most {max_atoms} atoms, strain {max_strain:g}, {margin:.3g} degrees off",
            remedy="raise max_atoms, max_strain or the tolerance",
        )
    return _at_angle(found, angle, ratio)


def _vectors(largest: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Vectors with p >= 1, q >= 0 (one of each six) and a norm up to `largest`, their norms (sorted) and directions."""
    span = np.arange(int(sqrt(max(largest, 0))) + 1)
    p, q = (axis.ravel() for axis in np.meshgrid(span[1:], span, indexing="ij"))
    norms = p * p + p * q + q * q
    order = np.lexsort((q, norms))
    order = order[norms[order] <= largest]
    p, q, norms = p[order], q[order], norms[order]
    return np.stack([p, q], axis=1), norms, np.degrees(np.arctan2(q * sqrt(3) / 2, p + q / 2))


def _at_angle(found: Coincidence, angle: float, ratio: float) -> Coincidence:
    """The same cells with those vectors, among sixth turns and mirror images, that give the angle, and the strain."""
    candidates = []
    for lower, upper in ((found.lower, found.upper), (found.lower[::-1], found.upper[::-1])):
        for _ in range(6):
            candidates.append(Coincidence(lower, upper))
            upper = (-upper[1], upper[0] + upper[1])
    best = min(candidates, key=lambda one: abs((one.angle - angle + 180) % 360 - 180))
    strain = ratio * sqrt(norm(best.lower) / norm(best.upper)) - 1
    return Coincidence(best.lower, best.upper, 0.0 if abs(strain) < EQUAL else strain)
