"""GTH pseudopotentials as UPF files, and the Gaussian bases made for them as tables of radial functions.

A plane-wave run is projected well only onto orbitals that belong to its pseudopotential. GTH pseudopotentials and
MOLOPT bases are such a pair for most of the periodic table, known in closed form; the library of Gaussians has both.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gamma, sqrt

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray
from scipy.special import erf

from aiida_deeph.engine.errors import InputError
from aiida_deeph.engine.orbitals.gaussian import library_basis, no_library

Real = NDArray[np.float64]

# Radial grid of the files, Bohr. Even steps: HPRO takes no other. An odd number of points, for Simpson's rule.
STEP = 0.01
N_POINTS = 1201
# A projector ends where it has fallen to this fraction of its largest value.
NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class GthPotential:
    """Goedecker, Teter, Hutter, Phys. Rev. B 54, 1703 (1996); Hartwigsen, Goedecker, Hutter, ibid. 58, 3641 (1998).

    :param radius: of the local part, Bohr.
    :param coefficients: C1, C2, .. of the local part, Hartree.
    :param channels: for each l the radius (Bohr) and h_ij (Hartree, shape (n, n)) of its projectors; n may be 0.
    """

    symbol: str
    name: str
    valence: int
    radius: float
    coefficients: tuple[float, ...]
    channels: tuple[tuple[float, Real], ...]

    def local(self, r: Real) -> Real:
        """Local potential, Hartree (eq. 1 of the paper of 1998).

        :param r: shape (n,), Bohr.
        """
        x = r / self.radius
        polynomial = sum(c * x ** (2 * n) for n, c in enumerate(self.coefficients))
        with np.errstate(invalid="ignore", divide="ignore"):
            coulomb = np.where(r > 0, erf(x / sqrt(2)) / r, sqrt(2 / np.pi) / self.radius)
        return np.asarray(-self.valence * coulomb + np.exp(-(x**2) / 2) * polynomial)

    def projectors(self, r: Real) -> list[tuple[int, Real]]:
        """l and p(r) of each projector (eq. 3), Bohr^-3/2."""
        found = []
        for l, (radius, h) in enumerate(self.channels):
            for i in range(1, len(h) + 1):
                power = l + (4 * i - 1) / 2
                norm = sqrt(2) / (radius**power * sqrt(gamma(power)))
                found.append((l, norm * r ** (l + 2 * (i - 1)) * np.exp(-(r**2) / (2 * radius**2))))
        return found

    def strengths(self) -> Real:
        """h_ij of all projectors, Hartree, shape (n_projectors, n_projectors)."""
        sizes = [len(h) for _, h in self.channels]
        matrix = np.zeros((sum(sizes), sum(sizes)))
        for first, size, (_, h) in zip(np.cumsum([0, *sizes]), sizes, self.channels, strict=False):
            matrix[first : first + size, first : first + size] = h
        return matrix


def gth_potential(symbol: str, name: str = "gth-pbe") -> GthPotential:
    """A GTH pseudopotential that the library of Gaussians knows.

    :param name: e.g. `gth-pbe`, or `gth-pbe-q4` where an element has several valences.
    :raises InputError: the library is missing or has no such pseudopotential.
    """
    try:
        from pyscf.gto.basis import load_pseudo
    except ImportError as error:
        raise no_library(error) from None
    try:
        electrons, radius, _, coefficients, _, *channels = load_pseudo(name, symbol)
    except Exception as error:  # the library has a class of its own for each failure
        raise InputError(
            "no such pseudopotential in the library", where=symbol, found=f"{name} ({error})", expected="e.g. gth-pbe"
        ) from None
    matrices = tuple((float(r), np.array(h, dtype=np.float64).reshape(n, n)) for r, n, h in channels)
    return GthPotential(symbol, name, int(sum(electrons)), float(radius), tuple(map(float, coefficients)), matrices)


def gth_upf(potential: GthPotential) -> str:
    """UPF of version 2 on a linear grid; the initial density is a Gaussian, wavefunctions start at random."""
    r = np.arange(N_POINTS) * STEP
    projectors = potential.projectors(r)
    strengths = 2 * potential.strengths()  # Rydberg
    ends = [int(np.flatnonzero(np.abs(p) > NEGLIGIBLE * np.abs(p).max())[-1]) for _, p in projectors]
    l_max = max((l for l, _ in projectors), default=-1)
    # A cloud of about the size of the atom: pw.x scales it to the number of electrons.
    width = 1.1
    density = 4 * np.pi * r**2 * potential.valence * np.exp(-((r / width) ** 2)) / (np.pi**1.5 * width**3)
    header = {
        "generated": "from analytic parameters",
        "author": "Goedecker, Teter, Hutter; Krack",
        "comment": potential.name,
        "element": f"{potential.symbol:<2}",
        "pseudo_type": "NC",
        "relativistic": "scalar",
        "is_ultrasoft": "F",
        "is_paw": "F",
        "is_coulomb": "F",
        "has_so": "F",
        "has_wfc": "F",
        "has_gipaw": "F",
        "paw_as_gipaw": "F",
        "core_correction": "F",
        "functional": "PBE",
        "z_valence": f"{potential.valence:.4f}",
        "total_psenergy": "0.0",
        "wfc_cutoff": "0.0",
        "rho_cutoff": "0.0",
        "l_max": l_max,
        "l_max_rho": 0,
        "l_local": -1,
        "mesh_size": N_POINTS,
        "number_of_wfc": 0,
        "number_of_proj": len(projectors),
    }
    mesh = f'mesh="{N_POINTS}"'
    lines = [
        '<UPF version="2.0.1">',
        "<PP_INFO>",
        f"{potential.name} of {potential.symbol}, Z = {atomic_numbers[potential.symbol]}, in closed form, tabulated.",
        "Phys. Rev. B 54, 1703 (1996); Phys. Rev. B 58, 3641 (1998); Theor. Chem. Acc. 114, 145 (2005).",
        "</PP_INFO>",
        "<PP_HEADER " + " ".join(f'{key}="{value}"' for key, value in header.items()) + "/>",
        f"<PP_MESH {mesh}>",
        *_array("PP_R", r),
        *_array("PP_RAB", np.full(N_POINTS, STEP)),
        "</PP_MESH>",
        *_array("PP_LOCAL", 2 * potential.local(r)),
        "<PP_NONLOCAL>",
    ]
    for n, ((l, p), end) in enumerate(zip(projectors, ends, strict=True), start=1):
        values = r * p
        values[end + 1 :] = 0.0
        own = f' index="{n}" angular_momentum="{l}" cutoff_radius_index="{end + 1}" cutoff_radius="{r[end]:.6f}"'
        lines += _array(f"PP_BETA.{n}", values, own)
    if projectors:
        lines += _array("PP_DIJ", strengths.ravel())
    lines += ["</PP_NONLOCAL>", "<PP_PSWFC>", "</PP_PSWFC>", *_array("PP_RHOATOM", density), "</UPF>"]
    return "\n".join(lines) + "\n"


def gaussian_table(symbol: str, basis: str, radius: float = 10.0, cut: float = 2.0) -> str:
    """A Gaussian basis of the library as a file of radial functions (`.orb`), shells by ascending l.

    :param basis: e.g. `gth-dzvp-molopt-sr`.
    :param radius: where the functions end, Bohr.
    :param cut: over this width before the end they are brought to zero with two continuous derivatives, Bohr.
    :raises InputError: there is no such basis, or a width that does not fit.
    """
    if not 0 < cut < radius:
        raise InputError("cut does not fit", where=symbol, found=f"{cut} Bohr", expected=f"less than {radius} Bohr")
    groups = library_basis(symbol, basis)[0]
    r = np.arange(round(radius / STEP) + 1) * STEP
    r = np.append(r, r[-1] + STEP) if len(r) % 2 == 0 else r
    x = np.clip((r - radius + cut) / cut, 0, 1)
    fade = 1 - x**3 * (10 - 15 * x + 6 * x**2)
    shells: list[tuple[int, Real]] = []
    for group in groups:
        l, a = group.l, group.exponents
        # Norm of r^l exp(-a r^2): the coefficients are of normalised primitives.
        norms = np.sqrt(2 * (2 * a) ** (l + 1.5) / gamma(l + 1.5))
        primitives = r[:, None] ** l * np.exp(-a * r[:, None] ** 2) * norms
        for values in (primitives @ group.coefficients).T:
            faded = values * fade
            shells.append((l, faded / np.sqrt(np.sum((faded * r) ** 2) * STEP)))
    shells.sort(key=lambda shell: shell[0])
    return orb_text(symbol, r[-1], shells)


def orb_text(symbol: str, radius: float, shells: list[tuple[int, Real]]) -> str:
    """Text of an `.orb` file.

    :param radius: where the tables end, Bohr.
    :param shells: l and R(r) at r = 0, STEP, .. of each shell, by ascending l.
    """
    line = "-" * 75
    ls = [l for l, _ in shells]
    names = "SPDFGH"
    head = [line, f"{'Element':<28}{symbol}", f"{'Energy Cutoff(Ry)':<28}0", f"{'Radius Cutoff(a.u.)':<28}{radius:g}"]
    head += [f"{'Lmax':<28}{max(ls)}"]
    head += [f"Number of {names[l]}orbital-->{'':<8}{ls.count(l)}" for l in range(max(ls) + 1)]
    n_points = len(shells[0][1])
    head += [line, "SUMMARY  END", "", f"{'Mesh':<28}{n_points}", f"{'dr':<28}{STEP:g}"]
    for index, (l, values) in enumerate(shells):
        head += [f"{'Type':>20}{'L':>20}{'N':>20}", f"{0:>20}{l:>20}{ls[:index].count(l):>20}"]
        head += _numbers(values)
    return "\n".join(head) + "\n"


def _array(tag: str, values: Real, attributes: str = "") -> list[str]:
    return [f'<{tag} type="real" size="{len(values)}" columns="4"{attributes}>', *_numbers(values), f"</{tag}>"]


def _numbers(values: Real) -> list[str]:
    return [" ".join(f"{value: .15e}" for value in values[n : n + 4]) for n in range(0, len(values), 4)]
