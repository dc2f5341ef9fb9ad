"""Gates that tie matrices to the geometry they are said to belong to."""

from __future__ import annotations

import numpy as np

from aiida_deeph.engine.domain.axial import axial_error
from aiida_deeph.engine.domain.blocksparse import match_pairs
from aiida_deeph.engine.domain.contacts import closest_contact
from aiida_deeph.engine.domain.decay import NOISE, Curve, block_norms, decay_curves, deviation, frozen, scatter
from aiida_deeph.engine.domain.gate import Gate
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.neighbours import pair_cutoffs, pairs_within
from aiida_deeph.engine.domain.transforms import without_gauge

# Atoms nearer than this share of the sum of their covalent radii stand on one spot.
ONE_SPOT = 0.4
# Neighbours that are further apart than so many times the sum of their covalent radii hardly overlap.
LONG_BOND, STRONG = 1.6, 0.5
# Radius of hydrogen for this, Angstrom: chains and metals of it have longer bonds than its molecule.
HYDROGEN = 0.5
# Largest entry of the weakest block of S: a range that ends earlier was cut by a threshold.
WEAKEST = 1e-2
# Largest |H - mu S|, eV: below, H is in another unit, beyond, it is damaged.
MAGNITUDE = (1.0, 1e6)


def geometry_gates(data: RealSpaceHamiltonian) -> list[Gate]:
    """All gates of this file that apply, for data whose entries are finite and whose pairs are closed."""
    gates = [apart(data)]
    if data.overlap is not None:
        gates += [overlap_by_distance(data), overlap_about_bonds(data), bonds_overlap(data), overlap_ends(data)]
    if data.hamiltonian is not None:
        gates.append(magnitude(data))
    return gates


def apart(data: RealSpaceHamiltonian) -> Gate:
    """No two atoms stand on one spot."""
    ratio, i, j = closest_contact(data.structure)
    detail = f"atoms {i} and {j}, in units of the sum of their covalent radii" if ratio < ONE_SPOT else ""
    return Gate("atoms apart", ratio >= ONE_SPOT, ratio if np.isfinite(ratio) else None, ONE_SPOT, detail=detail)


def overlap_by_distance(data: RealSpaceHamiltonian, known: dict[str, Curve] | None = None) -> Gate:
    """|S| of two elements is one smooth function of their distance, and the known one if there is one.

    It is not where positions are those of another structure, atoms are permuted, or some lengths have another unit. All
    lengths with one factor leave it smooth: only the basis, or other members of the dataset, tell that.
    """
    worst, detail = 0.0, ""
    for key, curve in decay_curves(data).items():
        found = (
            [scatter(curve), frozen(curve)] if known is None else [deviation(curve, known[key])] if key in known else []
        )
        for value, distance in found:
            if value > worst:
                worst, detail = value, f"{key} at {distance:.3f} Angstrom"
    name = "S by distance" if known is None else "S as in the other members"
    return Gate(name, worst <= NOISE, worst, NOISE, detail=detail if worst > NOISE else "")


def overlap_about_bonds(data: RealSpaceHamiltonian) -> Gate:
    """S of each pair of atoms is symmetric about the line between them.

    It is not where the structure was turned or mirrored after the run, or atoms were exchanged that stand at the same
    distances in other directions. Atoms of one element whose exchange leaves all positions as they are, are the same.
    """
    error, pair = axial_error(data)
    detail = f"pair (R1, R2, R3, i, j) = {pair}: are these the atoms and directions of S?" if error > NOISE else ""
    return Gate("S about the bonds", error <= NOISE, error, NOISE, detail=detail)


def bonds_overlap(data: RealSpaceHamiltonian) -> Gate:
    """The nearest atoms are not too far apart for the overlap they have: lengths in Bohr look like this."""
    S = data.overlap
    assert S is not None
    ratio, _, _ = closest_contact(data.structure, LONG_BOND, HYDROGEN)
    strongest = 0.0
    if not ratio <= LONG_BOND:
        off_site = (S.atom_pairs[:, 3] != S.atom_pairs[:, 4]) | S.atom_pairs[:, :3].any(axis=1)
        strongest = float(block_norms(S)[off_site].max(initial=0.0)) if len(S) else 0.0
    detail = "atoms as far apart do not overlap so much: are lengths in Bohr?" if strongest > STRONG else ""
    return Gate("bonds fit S", strongest <= STRONG, strongest, STRONG, detail=detail)


def overlap_ends(data: RealSpaceHamiltonian) -> Gate:
    """S falls to small numbers before its pairs end, unless no further atoms are there.

    A code that writes only what exceeds a threshold leaves out pairs that matter. Gaussians, whose readers choose the
    pairs by a threshold of their own, have no end; numerical orbitals may end just before the next neighbours.
    """
    S = data.overlap
    assert S is not None
    # Blocks of zeros stand where H alone has a pair.
    there = S.atom_pairs[S.norms() > 0]
    weakest = float(S.norms()[S.norms() > 0].min(initial=np.inf))
    missing = 0
    if weakest > WEAKEST:
        further = 2.0 if "pair_threshold" in data.metadata else 1.15
        reach = {key: further * distance for key, distance in pair_cutoffs(data.structure, there).items()}
        missing = int(np.count_nonzero(match_pairs(there, pairs_within(data.structure, reach)) < 0))
    detail = f"{missing} pairs of neighbours are missing: was a threshold set?" if missing else ""
    return Gate("S falls off", not missing, weakest if np.isfinite(weakest) else None, WEAKEST, detail=detail)


def magnitude(data: RealSpaceHamiltonian) -> Gate:
    """H without its gauge has the size of energies in eV."""
    H = data.hamiltonian
    assert H is not None
    H = H if data.overlap is None else without_gauge(data)[0].hamiltonian
    largest = 0.0 if H is None else float(np.abs(H.entries).max(initial=0.0))
    passed = MAGNITUDE[0] <= largest <= MAGNITUDE[1]
    detail = "" if passed else f"expected {MAGNITUDE[0]:g} to {MAGNITUDE[1]:g}: is H in eV?"
    return Gate("magnitude of H", passed, largest, None, "eV", detail=detail)
