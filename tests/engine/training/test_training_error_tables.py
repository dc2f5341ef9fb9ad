"""Errors by orbital pair, member and distance against a direct count."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_deeph.engine.domain.basis import SpinMode
from aiida_deeph.engine.training.error_tables import ErrorTables
from tests.engine.training.toy import BASIS, toy_member


@pytest.mark.parametrize("spin", [SpinMode.NONE, SpinMode.NONCOLLINEAR])
def test_tables(spin: SpinMode) -> None:
    random = np.random.default_rng(0)
    tables = ErrorTables(BASIS, 3.0)
    errors: dict[str, list[float]] = {}
    near: dict[int, list[float]] = {}
    everything = []
    for seed in range(3):
        data = toy_member(seed, spin)
        label = data.hamiltonian
        assert label is not None
        noise = random.normal(scale=0.01, size=len(label.entries)).astype(spin.dtype)
        if spin is not SpinMode.NONE:
            noise = noise + 1j * random.normal(scale=0.01, size=len(noise))
        tables.add(f"m{seed}", data.structure, label.with_entries(label.entries + noise), label)
        everything.append(np.abs(noise))
        distances = np.linalg.norm(data.structure.pair_vectors(label.atom_pairs), axis=1)
        for row, (*_, i, j) in enumerate(label.atom_pairs):
            first, last = label.chunk_boundaries[row : row + 2]
            block = np.abs(noise[first:last]).reshape(label.chunk_shapes[row])
            a, b = data.structure.symbols[i], data.structure.symbols[j]
            n_a, n_b = BASIS.n_orbitals(a), BASIS.n_orbitals(b)
            for p in range(block.shape[0]):
                for q in range(block.shape[1]):
                    # Orbital 0 is the s shell of both elements, 1 to 3 the p shell of carbon.
                    key = f"{a}.{int(p % n_a > 0)}-{b}.{int(q % n_b > 0)}"
                    errors.setdefault(key, []).append(block[p, q])
            near.setdefault(int(np.ceil(distances[row])), []).extend(block.ravel())
    report = tables.as_json()
    total = np.concatenate(everything)
    assert report["n_entries"] == len(total)
    assert report["mae_eV"] == pytest.approx(total.mean())
    assert report["max_eV"] == pytest.approx(total.max())
    assert report["rmse_eV"] == pytest.approx(np.sqrt((total**2).mean()))
    assert report["members"]["m1"]["mae_eV"] == pytest.approx(everything[1].mean())
    assert set(report["orbital_pairs"]) == set(errors)
    for key, values in errors.items():
        assert report["orbital_pairs"][key]["mae_eV"] == pytest.approx(np.mean(values))
        assert report["orbital_pairs"][key]["max_eV"] == pytest.approx(np.max(values))
        assert report["orbital_pairs"][key]["n_entries"] == len(values)
    assert report["shell_mae_eV"]["C-C"][0][1] == pytest.approx(np.mean(errors["C.0-C.1"]))
    assert np.shape(report["orbital_mae_eV"]["C-H"]) == (4, 1)
    assert np.mean(report["orbital_mae_eV"]["C-H"][1:]) == pytest.approx(np.mean(errors["C.1-H.0"]))
    assert [row["to_A"] for row in report["distances"]] == sorted(near)
    for row in report["distances"]:
        assert row["mae_eV"] == pytest.approx(np.mean(near[int(row["to_A"])]))
        assert row["rmse_eV"] == pytest.approx(np.sqrt(np.mean(np.square(near[int(row["to_A"])]))))
    for name, values in (("on_site", near[0]), ("bonds", np.concatenate([near[b] for b in near if b]))):
        assert report[name]["mae_eV"] == pytest.approx(np.mean(values))
        assert report[name]["rmse_eV"] == pytest.approx(np.sqrt(np.mean(np.square(values))))
        assert report[name]["max_eV"] == pytest.approx(np.max(values))
        assert report[name]["n_entries"] == len(values)
