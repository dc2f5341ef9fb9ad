"""Overlaps of numerical orbitals against OpenMX's own, against integrals of Gaussians, and by finite differences."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.special import spherical_jn

from aiida_deeph.engine.dft.openmx.reader import OpenmxReader
from aiida_deeph.engine.domain.neighbours import pairs_within
from aiida_deeph.engine.domain.structure import Structure
from aiida_deeph.engine.orbitals.harmonics import gaunt, index, solid_harmonic_gradients, solid_harmonics
from aiida_deeph.engine.orbitals.radial import RadialBasis, RadialShell
from aiida_deeph.engine.overlap.basis import load_numeric
from aiida_deeph.engine.overlap.radial import NumericOverlap
from aiida_deeph.engine.overlap.table import bessel_transform, couplings, tabulate

FIXTURES = Path(__file__).parents[2] / "fixtures"
ORBITALS = {"C": "C6.0-s2p2d1", "Mo": "Mo7.0-s3p2d1", "S": "S7.0-s2p2d1", "Bi": "Bi8.0-s2p2d1", "Fe": "Fe5.5H-s2p2d1"}


@dataclass
class Moved:
    """A structure whose second atom of every pair is moved: what a gradient by R means."""

    structure: Structure
    shift: np.ndarray

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.structure.symbols

    @property
    def elements(self) -> tuple[str, ...]:
        return self.structure.elements

    def pair_vectors(self, pairs: np.ndarray) -> np.ndarray:
        return self.structure.pair_vectors(pairs) + self.shift


@pytest.fixture
def structure() -> Structure:
    cell = np.array([[3.1, 0.2, 0.0], [-0.7, 3.6, 0.1], [0.3, 0.0, 4.2]])
    positions = np.array([[0.1, 0.2, 0.3], [1.4, 0.9, -0.4], [2.0, 5.0, 1.1]])
    return Structure(("H", "C", "H"), positions, cell, (True, True, False))


@pytest.fixture
def integrals(pao_folder: Path) -> NumericOverlap:
    orbitals = {"C": "C3.5-s2p2d1f1", "H": "H4.0-s2p1"}
    return NumericOverlap(load_numeric(f"openmx:{pao_folder}", orbitals, ("H", "C"), Path()))


@pytest.mark.parametrize("name", ["graphene", "mos2", "bi_soc", "fe_collinear"])
def test_equals_openmx(shared: Path, tmp_path: Path, name: str) -> None:
    """Every entry of S of the four real runs; the order of orbitals and the direction of R are proven with it."""
    folder = shared / "reference/openmx-data"
    if not folder.is_dir():
        pytest.skip("no reference/openmx-data beside the fixtures")
    with tarfile.open(FIXTURES / "openmx" / f"{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    data = OpenmxReader().read(tmp_path / name)
    basis = load_numeric(f"openmx:{folder}", ORBITALS, data.structure.elements, Path())
    assert basis.orbital_basis.shells == data.basis.shells
    assert basis.n_electrons(data.structure.symbols) == data.n_electrons
    integrals = NumericOverlap(basis)
    pairs = data.overlap.atom_pairs
    S = integrals.overlap(data.structure, pairs)
    difference = np.abs(S.entries - data.overlap.entries)
    on_site = ((pairs[:, 3] == pairs[:, 4]) & ~pairs[:, :3].any(axis=1))[S.pair_of_entry]
    assert difference[~on_site].max() < 2e-7  # 5e-8 found, 1e-5 wanted
    assert difference[on_site].max() < 3e-7  # 1.3e-7 found, 5e-5 wanted
    # OpenMX has all pairs that matter.
    cutoffs = integrals.ranges(1e-6)
    assert len(pairs_within(data.structure, cutoffs)) <= len(pairs)
    for k in ((0.0, 0.0, 0.0), (0.13, 0.27, 0.41)):
        assert np.linalg.eigvalsh(S.to_csr(k, data.orbitals_per_atom).toarray()).min() > 1e-4


def test_equals_integrals_of_gaussians(structure: Structure) -> None:
    """s to g shells on two elements against libcint."""
    pytest.importorskip("pyscf")
    from aiida_deeph.engine.orbitals.gaussian import GaussianBasis, GaussianShells
    from aiida_deeph.engine.overlap.gaussian import overlap_gaussian

    exponents = {"C": [(0, 0.5), (0, 1.3), (1, 0.6), (2, 0.8), (3, 1.0), (4, 1.2)], "H": [(0, 0.4), (1, 0.9), (3, 0.7)]}
    r = np.concatenate([[0.0], np.exp(np.linspace(-7, np.log(9.0), 4000))])
    gaussian, numeric = {}, {}
    for symbol, shells in exponents.items():
        gaussian[symbol] = tuple(GaussianShells(l, np.array([a]), np.array([[1.0]])) for l, a in shells)
        functions = []
        for l, a in shells:
            values = r**l * np.exp(-a * r**2)
            density = values**2 * r**2
            values /= np.sqrt(((density[1:] + density[:-1]) * np.diff(r)).sum() / 2)
            functions.append(RadialShell(l, r, values))
        numeric[symbol] = tuple(functions)
    pairs = pairs_within(structure, 6.0)
    shells, expected = overlap_gaussian(structure, GaussianBasis(gaussian), pairs)
    integrals = NumericOverlap(RadialBasis(numeric))
    assert integrals.orbital_basis.shells == {s: shells.shells[s] for s in integrals.orbital_basis.shells}
    S = integrals.overlap(structure, pairs)
    assert np.abs(S.entries - expected.entries).max() < 2e-6
    wrong = integrals.overlap(structure, pairs * [-1, -1, -1, 1, 1])
    assert np.abs(wrong.entries - expected.entries).max() > 0.01


def test_hermitian_whatever_the_pairs(integrals: NumericOverlap, structure: Structure) -> None:
    pairs = pairs_within(structure, 5.0)
    S = integrals.overlap(structure, pairs)
    assert S.hermiticity_error() < 1e-14
    assert np.diag(S.block((0, 0, 0), 1, 1)) == pytest.approx(1.0, abs=1e-4)
    rows = np.random.default_rng(0).permutation(len(pairs))[: len(pairs) // 2]
    part = integrals.overlap(structure, pairs[rows])
    assert np.abs(part.entries - S.selected(rows).entries).max() < 1e-14
    assert len(integrals.overlap(structure, pairs[:0])) == 0


def test_gradient(integrals: NumericOverlap, structure: Structure) -> None:
    """Central differences, on site too, where s and p do not overlap but their gradient is not zero."""
    pairs = pairs_within(structure, 4.0)
    gradient = integrals.gradient(structure, pairs)
    step = 1e-4
    for axis in range(3):
        shift = step * np.eye(3)[axis]
        ahead, behind = (integrals.overlap(Moved(structure, s), pairs).entries for s in (shift, -shift))
        expected = (ahead - behind) / (2 * step)
        assert np.abs(gradient[axis] - expected).max() < 1e-6 * np.abs(expected).max()
    S = integrals.overlap(structure, pairs)
    row = int(np.flatnonzero((pairs == [0, 0, 0, 1, 1]).all(axis=1))[0])
    on_site = gradient[:, S.chunk_boundaries[row] : S.chunk_boundaries[row + 1]].reshape(3, *S.chunk_shapes[row])
    assert np.abs(on_site[0, 0, 4]) > 0.5 and np.abs(on_site[:, 0, 0]).max() < 1e-12  # s with p_x, s with s


def test_range_bounds_what_is_left_out(integrals: NumericOverlap, structure: Structure) -> None:
    loose, tight = integrals.ranges(1e-3), integrals.ranges(1e-8)
    assert loose.keys() == {"C-C", "C-H", "H-H"} and all(loose[k] < tight[k] for k in loose)
    assert integrals.beyond(loose) <= 1e-3 and integrals.beyond(tight) <= 1e-8 < integrals.beyond({})
    assert integrals.beyond({key: 20.0 for key in loose}) == 0
    pairs = pairs_within(structure, 7.0)
    S = integrals.overlap(structure, pairs)
    distances = np.linalg.norm(structure.pair_vectors(pairs), axis=1)
    assert S.norms()[distances > max(loose.values())].max() < 1e-3
    assert S.norms()[distances > max(tight.values())].max() < 1e-8
    assert not S.norms()[distances > 8.2 * 0.53].any()  # the orbitals end at 3.5 and 4 Bohr


def test_table_equals_the_integral(integrals: NumericOverlap) -> None:
    """The spline and the coarse sum over k against a fine one, between the points of the table."""
    first, second = integrals.basis.shells["C"], integrals.basis.shells["H"]
    table = tabulate(first, second)
    distances = np.array([0.003, 0.117, 0.5551, 1.2345, 3.0007, 5.4321, 7.3333])
    k = np.linspace(0, 60, 1501)
    values = table(distances)
    left, right = ([bessel_transform(shell, k) for shell in shells] for shells in (first, second))
    for (a, b, L), column in table.columns(swapped=False).items():
        integrand = k**2 * left[a] * right[b] * spherical_jn(L, np.outer(distances, k))
        expected = (integrand[:, 1:] + integrand[:, :-1]).sum(axis=1) * k[1] / 2
        assert np.abs(values[column] * distances**L - expected).max() < 2e-8
    assert not table(np.array([9.5, 100.0])).any()


def test_harmonics() -> None:
    """Orthonormal, of the right symmetry, and p, d, f as they are written down in x, y, z."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((50, 3))
    Y = solid_harmonics(vectors, 3)
    x, y, z = vectors.T
    c1, c2, c3 = np.sqrt(3 / (4 * np.pi)), np.sqrt(15 / (4 * np.pi)), np.sqrt(105 / (4 * np.pi))
    r2 = x * x + y * y + z * z
    expected = {
        (1, -1): c1 * y,
        (1, 0): c1 * z,
        (1, 1): c1 * x,
        (2, -2): c2 * x * y,
        (2, -1): c2 * y * z,
        (2, 0): c2 * (3 * z * z - r2) / np.sqrt(12),
        (2, 1): c2 * x * z,
        (2, 2): c2 * (x * x - y * y) / 2,
        (3, -3): c3 * y * (3 * x * x - y * y) / np.sqrt(24),
        (3, -2): c3 * x * y * z,
        (3, 2): c3 * z * (x * x - y * y) / 2,
        (3, 1): c3 * x * (5 * z * z - r2) / np.sqrt(40),
    }
    for (l, m), values in expected.items():
        assert Y[index(l, m)] == pytest.approx(values, abs=1e-12)
    for l in range(7):
        coupled = gaunt(l, l, 0)[:, :, 0] * np.sqrt(4 * np.pi)
        assert coupled == pytest.approx(np.eye(2 * l + 1), abs=1e-12)
    assert not gaunt(1, 1, 1).any() and gaunt(1, 1, 2)[1, 1, 2] == pytest.approx(np.sqrt(1 / (5 * np.pi)))
    assert gaunt(2, 3, 5).transpose(1, 0, 2) == pytest.approx(gaunt(3, 2, 5), abs=1e-13)


def test_harmonic_gradients() -> None:
    vectors = np.concatenate([np.random.default_rng(2).standard_normal((20, 3)), np.zeros((1, 3))])
    gradients = solid_harmonic_gradients(vectors, 6)
    step = 1e-5
    for axis in range(3):
        shift = step * np.eye(3)[axis]
        difference = (solid_harmonics(vectors + shift, 6) - solid_harmonics(vectors - shift, 6)) / (2 * step)
        assert np.abs(gradients[:, axis] - difference).max() < 1e-6


def test_couplings_are_those_of_the_parity() -> None:
    assert list(couplings(2, 1)) == [1, 3] and list(couplings(2, 2)) == [0, 2, 4] and list(couplings(0, 3)) == [3]
