"""The Wigner-Eckart layer (Gong et al., Nat. Commun. 14, 2848 (2023)): blocks of H and the irreps they consist of.

Without spin: H_ab = sum_L sum_m C^(l1 l2 L)_abm t_Lm with C the 3j symbols of unit norm. With spin each target has
complex outputs: spin scalars t_L and, for K = |L-1|..L+1, parts of the spin vector, V_L[m,n] = sum_k w3j(L,1,K)[m,n,k]
t_K[k]; then H[spin,a,b] = sum_(L,m,s) T_L[m,s] C[a,b,m] S[spin,s] with spin = uu, ud, du, dd and T = (t, V) along
s = 1, y, z, x.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.graph.wigner import component_order, wigner_3j
from aiida_deeph.engine.nn.equivariant.irreps import Irrep

# Columns 1, sigma_y, sigma_z, sigma_x over sqrt(2); rows uu, ud, du, dd.
SPIN_BASIS = np.array([[1, 0, 1, 0], [0, -1j, 0, 1], [0, 1j, 0, 1], [1, 0, -1, 0]]) / sqrt(2)


@dataclass(frozen=True)
class Component:
    """One irrep of a target's output.

    :param half: 0 real, 1 imaginary.
    :param vector: whether it is a part of the spin vector.
    :param L: of the block, as above; `irrep` holds K.
    """

    half: int
    vector: bool
    L: int
    irrep: Irrep

    @property
    def time_odd(self) -> bool:
        """Whether time reversal turns its sign: it leaves the real spin scalar and the imaginary spin vector."""
        return self.half != int(self.vector)


def components(l1: int, l2: int, spinful: bool, ignore_parity: bool) -> list[Component]:
    """Output irreps of one target, in the order of the reference (real halves first)."""
    p = 1 if ignore_parity else (-1) ** (l1 + l2)
    ls = range(abs(l1 - l2), l1 + l2 + 1)
    result = []
    for half in range(2 if spinful else 1):
        result += [Component(half, False, L, Irrep(L, p)) for L in ls]
        if spinful:
            result += [Component(half, True, L, Irrep(K, p)) for L in ls for K in range(abs(L - 1), L + 2)]
    return result


def coupling_matrix(l1: int, l2: int, spinful: bool, ignore_parity: bool) -> NDArray[np.float64]:
    """The Wigner-Eckart layer of one target as a matrix.

    :returns: rows are its outputs, each irrep in `component_order`; columns are the elements (a, b) of its block, with
        spin (spin, a, b, real and imaginary part).
    """
    rows = []
    for c in components(l1, l2, spinful, ignore_parity):
        block = wigner_3j(l1, l2, c.L)  # a, b, m
        if not spinful:
            rows.append(np.einsum("abm->mab", block).reshape(2 * c.L + 1, -1)[component_order(c.L)])
            continue
        if c.vector:
            # k: component of the output; m: of L; n: y, z, x; s: rows of the spin basis.
            value = np.einsum("mnk,abm,sn->ksab", wigner_3j(c.L, 1, c.irrep.l), block, SPIN_BASIS[:, 1:])
        else:
            value = np.einsum("abk,s->ksab", block, SPIN_BASIS[:, 0])
        value = value * (1j if c.half else 1)
        rows.append(np.stack([value.real, value.imag], axis=-1).reshape(c.irrep.dim, -1)[component_order(c.irrep.l)])
    return np.concatenate(rows)
