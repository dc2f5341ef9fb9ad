"""What the members of one dataset have in common: settings of the code, basis, unit and zero of energy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aiida_deeph.engine.domain.axial import signs_of_odd
from aiida_deeph.engine.domain.blocksparse import match_pairs
from aiida_deeph.engine.domain.decay import Curve, as_curves, decay_curves, thinned
from aiida_deeph.engine.domain.gate import Gate
from aiida_deeph.engine.domain.geometry import overlap_by_distance
from aiida_deeph.engine.domain.hamiltonian import RealSpaceHamiltonian
from aiida_deeph.engine.domain.transforms import with_common_pairs

# What may be allowed to differ, by name.
Difference = Literal[
    "code", "version", "functional", "basis", "pseudopotential", "cutoff", "k_mesh", "spin_orbit", "smearing", "pbc",
    "size", "zero_of_energy",
]  # fmt: skip
# Difference -> keys of `settings` in which the readers record it.
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "functional": ("xc", "functional"),
    "basis": ("basis", "species", "orbitals", "functions", "basis_sha256", "basis_size"),
    "pseudopotential": ("pseudo", "pseudopotentials", "pseudopotentials_sha256"),
    "cutoff": ("ke_cutoff", "energy_cutoff_Ry", "relative_cutoff_Ry", "mesh_cutoff_Ry", "cutoffs_Ry"),
    "spin_orbit": ("spin_orbit",),
    "smearing": ("smearing", "temperature_K"),
}
MESHES = ("kmesh", "k_grid", "kpoints")
# Widths of the supercell that a k-mesh spans may differ by this factor: meshes are rounded to whole numbers.
K_FACTOR = 2.05
# Blocks of an atom with itself, without their mean, may differ in size by this factor: Hartree and eV do by 27.
SIZE_FACTOR = 4.0
# Sizes below are not compared, eV.
SMALL = 1.0
# Their means may differ by this, eV: a zero of energy may shift by more only if it is another one.
ZERO = 5.0


@dataclass
class Agreement:
    """What is known of the members accepted so far; a member is held against the first that tells of a thing.

    :param settings: difference, of one element also `basis of C` -> values as JSON, those of an earlier dataset too.
    :param on_site: element -> mean and size of the blocks of an atom with itself, eV.
    :param curves: norm of S over distance, by element pair.
    :param signs: of s with p, by ordered element pair.
    :param pbc: periodic directions.
    :param k_width: of the supercell that the k-mesh spans, Angstrom.
    """

    settings: dict[str, list[str]] = field(default_factory=dict)
    on_site: dict[str, tuple[float, float]] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    signs: dict[str, int] = field(default_factory=dict)
    pbc: list[bool] | None = None
    k_width: float | None = None

    @classmethod
    def of(cls, source: Mapping[str, Any]) -> Agreement:
        """That of an earlier dataset.

        :param source: of its manifest.
        """
        known = source.get("agreement", {})
        result = cls(
            on_site={
                symbol: (float(mean), float(size)) for symbol, (mean, size) in known.get("on_site_eV", {}).items()
            },
            curves=dict(as_curves(known.get("overlap_by_distance", {}))),
            signs={key: int(value) for key, value in known.get("signs_of_odd", {}).items()},
            pbc=known.get("pbc"),
            k_width=known.get("k_width_Angstrom"),
        )
        labels = source.get("labels", {})
        several = labels.get("settings", {})
        for one in several if isinstance(several, list) else [several]:
            for name, value in _settings({"settings": one}):
                result._learn_setting(name, value)
        for name in ("code", "version"):
            for value in labels[name] if isinstance(labels.get(name), list) else [labels.get(name)]:
                result._learn_setting(name, None if value is None else _as_text(value))
        return result

    def as_source(self) -> dict[str, Any]:
        """What a manifest keeps of it, beside the labels' own metadata."""
        return {
            "on_site_eV": {symbol: list(values) for symbol, values in sorted(self.on_site.items())},
            "overlap_by_distance": thinned(dict(sorted(self.curves.items()))),
            "signs_of_odd": dict(sorted(self.signs.items())),
            "pbc": self.pbc,
            "k_width_Angstrom": self.k_width,
        }

    def gates(self, data: RealSpaceHamiltonian, allowed: Sequence[str], gauge_matters: bool) -> list[Gate]:
        """Whether a member fits the others.

        :param allowed: differences that do not matter.
        :param gauge_matters: whether the zero of energy stays in the data.
        """
        differing = [
            f"{name}: {value}, before {' or '.join(self.settings[name])}"
            for name, value in _settings(data.metadata)
            if name.split(" ")[0] not in allowed and name in self.settings and value not in self.settings[name]
        ]
        pbc = list(data.structure.pbc)
        if "pbc" not in allowed and self.pbc is not None and pbc != self.pbc:
            differing.append(f"pbc: {pbc}, before {self.pbc}")
        width, is_mesh = k_width_of(data)
        if "k_mesh" not in allowed and width is not None and self.k_width is not None:
            factor = max(self.k_width / width, width / self.k_width)
            # One point in a cell that is wide enough as it is: nothing could be coarser.
            if factor > K_FACTOR and (is_mesh or width < self.k_width):
                differing.append(f"k_mesh: {width:.1f} Angstrom wide, before {self.k_width:.1f}")
        detail = "; ".join(differing) + (" (what may differ is named in `allow`)" if differing else "")
        result = [Gate("settings as in the other members", not differing, len(differing), 0, detail=detail)]
        if "basis" not in allowed and data.overlap is not None:
            result += [overlap_by_distance(data, self.curves), self._same_signs(data)]
        return result + self._energies(data, allowed, gauge_matters)

    def learn(self, data: RealSpaceHamiltonian) -> None:
        """Take over what an accepted member tells and none told before."""
        known = set(self.settings)
        for name, value in _settings(data.metadata):
            if name not in known:
                self._learn_setting(name, value)
        for symbol, values in on_site_energies(data).items():
            self.on_site.setdefault(symbol, values)
        for key, curve in as_curves(thinned(decay_curves(data))):
            self.curves.setdefault(key, curve)
        for key, sign in signs_of_odd(data).items():
            self.signs.setdefault(key, sign)
        self.pbc = self.pbc or list(data.structure.pbc)
        width, is_mesh = k_width_of(data)
        if is_mesh and self.k_width is None:
            self.k_width = width

    def _same_signs(self, data: RealSpaceHamiltonian) -> Gate:
        """Orbitals of odd l have the sign of the other members: an inverted structure looks as if they had not."""
        differing = [key for key, sign in signs_of_odd(data).items() if self.signs.get(key, sign) != sign]
        detail = f"{', '.join(differing)}: were positions inverted?" if differing else ""
        return Gate("signs of orbitals as in the other members", not differing, len(differing), 0, detail=detail)

    def _energies(self, data: RealSpaceHamiltonian, allowed: Sequence[str], gauge_matters: bool) -> list[Gate]:
        factor, shift, place = 1.0, 0.0, ""
        for symbol, (mean, size) in on_site_energies(data).items():
            if symbol not in self.on_site:
                continue
            known_mean, known_size = self.on_site[symbol]
            # A single orbital an atom has no size of its own, only the scatter of the atoms.
            if min(size, known_size) > 0 and max(size, known_size) > SMALL:
                factor = max(factor, size / known_size, known_size / size)
            if abs(mean - known_mean) > shift:
                shift, place = abs(mean - known_mean), f"blocks of {symbol} with itself"
        unit = "is H of all in eV?" if factor > SIZE_FACTOR else ""
        same_size = Gate(
            "size of H as in the other members",
            factor <= SIZE_FACTOR or "size" in allowed,
            factor,
            SIZE_FACTOR,
            "times",
            detail=unit,
        )
        # That of a molecule is the vacuum, whatever its atoms are bound to.
        if not gauge_matters or "zero_of_energy" in allowed or not any(data.structure.pbc):
            return [same_size]
        remedy = f"{place}; `gauge: mu_removed` makes it one" if shift > ZERO else ""
        zero = Gate("zero of energy as in the other members", shift <= ZERO, shift, ZERO, "eV", detail=remedy)
        return [same_size, zero]

    def _learn_setting(self, name: str, value: Any) -> None:
        if value is not None and value not in self.settings.setdefault(name, []):
            self.settings[name].append(value)


def on_site_energies(data: RealSpaceHamiltonian) -> dict[str, tuple[float, float]]:
    """Element -> mean energy of its orbitals, tr H_ii / tr S_ii, and size of H_ii - mean S_ii per orbital, eV."""
    if data.hamiltonian is None or data.overlap is None:
        return {}
    data = with_common_pairs(data)
    assert data.hamiltonian is not None
    atoms = np.arange(len(data.structure))
    own = np.concatenate([np.zeros((len(atoms), 3), dtype=np.int64), atoms[:, None], atoms[:, None]], axis=1)
    H = data.hamiltonian.selected(match_pairs(data.hamiltonian.atom_pairs, own))
    S = data.overlap_with_spin.selected(match_pairs(data.overlap_with_spin.atom_pairs, own))
    result = {}
    for symbol in data.structure.elements:
        rows = np.flatnonzero(np.array(data.structure.symbols) == symbol)
        h, s = _blocks(H.selected(rows).entries, len(rows)), _blocks(S.selected(rows).entries, len(rows))
        mean = float(np.trace(h, axis1=1, axis2=2).real.sum() / np.trace(s, axis1=1, axis2=2).real.sum())
        size = float(np.sqrt((np.abs(h - mean * s) ** 2).sum() / (len(rows) * h.shape[1])))
        result[symbol] = round(mean, 9), round(size, 9)
    return result


def _blocks(entries: NDArray[Any], count: int) -> NDArray[Any]:
    """Square blocks of one size, shape (count, n, n)."""
    n = int(np.sqrt(len(entries) // count))
    return entries.reshape(count, n, n)


def _settings(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Differences that the metadata of a member tell, and their values as JSON; one per element where they are so."""
    settings = metadata.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    values = [(name, metadata.get(name)) for name in ("code", "version")]
    for name, keys in SETTINGS.items():
        found = [key for key in keys if settings.get(key) is not None]
        # Where several keys tell of one thing, all but the first are named.
        values += [(name if key == found[0] else f"{name} ({key})", settings[key]) for key in found]
    for name, value in values:
        if isinstance(value, Mapping):
            yield from ((f"{name} of {part}", _as_text(value[part])) for part in sorted(value))
        elif value is not None:
            yield name, _as_text(value)


def _as_text(value: Any) -> str:
    """JSON; `200`, `200.0` and 200 are one number, and words are the same in capitals."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        value = value.lower() if isinstance(value, str) else value
    return json.dumps(value, sort_keys=True)


def k_width_of(data: RealSpaceHamiltonian) -> tuple[float | None, bool]:
    """Smallest width of the supercell that the k-mesh spans, Angstrom, and whether it has several points that way.

    Across vacuum, where no pair joins two cells, one point is enough.
    """
    settings = data.metadata.get("settings")
    settings = settings if isinstance(settings, Mapping) else {}
    mesh = next((settings[key] for key in MESHES if settings.get(key) is not None), None)
    try:
        counts = np.array([int(n) for n in mesh] if mesh is not None else [], dtype=int)
    except (TypeError, ValueError):
        return None, False
    periodic = np.array(data.structure.pbc)
    if counts.shape != (3,) or not periodic.any():
        return None, False
    joined = np.zeros(3, dtype=bool) if data.hamiltonian is None else data.hamiltonian.atom_pairs[:, :3].any(axis=0)
    periodic &= joined if (periodic & joined).any() else periodic
    widths = np.where(periodic, counts * np.linalg.norm(data.structure.cell, axis=1), np.inf)
    narrowest = int(np.argmin(widths))
    return round(float(widths[narrowest]), 6), bool(counts[narrowest] > 1)
