"""Norm-conserving pseudopotentials (UPF): what HPRO needs of them, in the form that it reads.

HPRO takes the projectors alone, on even steps. They are copied into a file of their own: on other steps by a cubic
spline, ending where they end rather than where a header says, and without free text that is no XML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from aiida_deeph.engine.errors import DataError, InputError

Real = NDArray[np.float64]

STEP = 0.01
# A projector ends where it has fallen to this fraction of its largest value.
NEGLIGIBLE = 1e-8
_ATTRIBUTE = re.compile(r"""([\w.]+)\s*=\s*(["'])(.*?)\2""", re.DOTALL)


@dataclass(frozen=True)
class Pseudopotential:
    """A norm-conserving pseudopotential.

    :param valence: its electrons.
    :param functional: as the file names it.
    :param r: radial grid, shape (n_r,), Bohr.
    :param ls: l of each projector.
    :param betas: r beta(r) of each projector, shape (n_projectors, n_r).
    :param strengths: D_ij, Rydberg, shape (n_projectors, n_projectors).
    :param js: total angular momentum of each projector of a fully relativistic one, which takes spin-orbit coupling
        into account; None of others.
    """

    element: str
    valence: float
    functional: str
    r: Real
    ls: tuple[int, ...]
    betas: Real
    strengths: Real
    js: tuple[float, ...] | None = None


def read_upf(text: str, where: object) -> Pseudopotential:
    """A pseudopotential that HPRO can project with.

    :raises InputError: it is none of version 2, or not norm-conserving.
    :raises DataError: the file is damaged.
    """
    head = re.search(r"<PP_HEADER(.*?)/?>", text, re.DOTALL)
    if not re.search(r"<UPF\s+version\s*=\s*[\"']2", text) or head is None:
        raise InputError(
            "not a UPF of version 2", where=where, expected='<UPF version="2.0.1">', remedy="upfconv.x converts others"
        )
    fields = {name: value.strip() for name, _, value in _ATTRIBUTE.findall(head.group(1))}
    kind = fields.get("pseudo_type", "").upper()
    if kind not in ("NC", "SL") or any(_true(fields.get(name, "F")) for name in ("is_ultrasoft", "is_paw")):
        raise InputError(
            "pseudopotential is not norm-conserving",
            where=where,
            found=kind or "no pseudo_type",
            expected="NC",
            remedy="take one of PseudoDojo or SG15, or make GTH's: `aiida-deeph data gth`",
        )
    relativistic = _true(fields.get("has_so", "F")) or fields.get("relativistic", "").lower() == "full"
    try:
        count = int(fields["number_of_proj"])
        r = _array(text, "PP_R")
        blocks = [_block(text, f"PP_BETA.{n + 1}") for n in range(count)]
        ls = tuple(int(attributes["angular_momentum"]) for attributes, _ in blocks)
        sizes = {len(values) for _, values in blocks}
        if sizes - {len(r)}:
            raise ValueError(f"projectors of {min(sizes)} points on a grid of {len(r)}")
        betas = np.array([values for _, values in blocks]).reshape(count, len(r))
        strengths = _array(text, "PP_DIJ").reshape(count, count) if count else np.zeros((0, 0))
        if not (np.diff(r) > 0).all():
            raise ValueError("radial grid does not increase")
        return Pseudopotential(
            fields["element"],
            float(fields["z_valence"]),
            fields.get("functional", ""),
            r,
            ls,
            betas,
            strengths,
            tuple(_total(text, n + 1) for n in range(count)) if relativistic else None,
        )
    except (KeyError, ValueError) as error:
        raise DataError("pseudopotential is damaged", where=where, found=error) from None


def hpro_upf(pseudo: Pseudopotential) -> str:
    """Text of the file of projectors that HPRO reads."""
    if not pseudo.ls:
        # HPRO needs a projector: one without strength (of hydrogen, whose potential is all local).
        gauss = pseudo.r * np.exp(-2 * pseudo.r**2)
        js = None if pseudo.js is None else (0.5,)
        pseudo = replace(pseudo, ls=(0,), betas=gauss[None], strengths=np.zeros((1, 1)), js=js)
    betas = [np.abs(beta) for beta in pseudo.betas]
    ends = [pseudo.r[np.flatnonzero(beta > NEGLIGIBLE * beta.max())[-1]] for beta in betas]
    kind = "scalar" if pseudo.js is None else "full"
    r = np.arange(int(np.ceil(max(ends, default=1.0) / STEP)) + 2) * STEP
    lines = [
        '<UPF version="2.0.1">',
        f'<PP_HEADER element="{pseudo.element}" relativistic="{kind}" number_of_proj="{len(pseudo.ls)}"/>',
        "<PP_MESH>",
        *_lines("PP_R", r),
        "</PP_MESH>",
        "<PP_NONLOCAL>",
    ]
    for n, (l, beta, end) in enumerate(zip(pseudo.ls, pseudo.betas, ends, strict=True), start=1):
        values = _on(r, pseudo.r, beta, end)
        lines += _lines(f"PP_BETA.{n}", values, f' angular_momentum="{l}" cutoff_radius="{min(end + STEP, r[-1]):.6f}"')
    lines += [*_lines("PP_DIJ", pseudo.strengths.ravel()), "</PP_NONLOCAL>"]
    if pseudo.js is not None:
        pairs = enumerate(zip(pseudo.ls, pseudo.js, strict=True), start=1)
        lines += ["<PP_SPIN_ORB>", *(f'<PP_RELBETA.{n} lll="{l}" jjj="{j}"/>' for n, (l, j) in pairs), "</PP_SPIN_ORB>"]
    lines.append("</UPF>")
    return "\n".join(lines) + "\n"


def _on(r: Real, source: Real, beta: Real, end: float) -> Real:
    """r beta(r) on other points; zero beyond its end."""
    inside = r <= end + 1e-9
    values = np.zeros(len(r))
    if source[0] > 0:  # logarithmic grids begin beyond zero, where r beta(r) vanishes
        source, beta = np.append(0.0, source), np.append(0.0, beta)
    values[inside] = CubicSpline(source, beta)(r[inside])
    return values


def _true(text: str) -> bool:
    return text.strip(" .").upper()[:1] == "T"


def _block(text: str, tag: str) -> tuple[dict[str, str], Real]:
    match = re.search(rf"<{re.escape(tag)}(\s[^>]*)?>(.*?)</{re.escape(tag)}>", text, re.DOTALL)
    if match is None:
        raise ValueError(f"no {tag}")
    attributes = {name: value.strip() for name, _, value in _ATTRIBUTE.findall(match.group(1) or "")}
    return attributes, np.array(match.group(2).split(), dtype=np.float64)


def _total(text: str, n: int) -> float:
    """Total angular momentum of the n-th projector."""
    match = re.search(rf"<PP_RELBETA\.{n}\s([^>]*)>", text)
    fields = {name: value for name, _, value in _ATTRIBUTE.findall(match.group(1))} if match else {}
    if "jjj" not in fields:
        raise ValueError(f"no jjj of PP_RELBETA.{n}")
    return float(fields["jjj"])


def _array(text: str, tag: str) -> Real:
    return _block(text, tag)[1]


def _lines(tag: str, values: Real, attributes: str = "") -> list[str]:
    rows = [" ".join(f"{value:.15e}" for value in values[n : n + 4]) for n in range(0, len(values), 4)]
    return [f'<{tag} size="{len(values)}"{attributes}>', *rows, f"</{tag}>"]
