"""What a factorisation of a sparse Hermitian matrix offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Solve = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Factorisation:
    """A = L D L^dagger.

    :param solve: B -> A^-1 B, shapes (n,) or (n, n_right).
    :param half_solve: Z -> L^-dagger |D|^(-1/2) Z: uncorrelated Z become vectors of covariance A^-1, if A is positive.
    :param n_negative: negative eigenvalues of A (Sylvester's law of inertia: the signs of D).
    :param n_bytes: memory of the factors.
    """

    solve: Solve
    half_solve: Solve
    n_negative: int
    n_bytes: int
