"""Driver of one HPRO job: potential and pseudopotentials of a Quantum ESPRESSO run + orbitals -> DeepH folder.

It runs in the Python environment of HPRO, a program of its own, and needs numpy, scipy and h5py besides it; nothing of
the package that it is a part of. Usage: `python hpro_driver.py hpro.json`.

Steps: the header of the potential is given the label that HPRO looks for (pw2bgw.x up to 7 calls it VXC), HPRO computes
H(R) and S(R), and their bands on the k-mesh of the SCF are compared with those of pw.x: the cost of the projection.
"""

import json
import os
import sys
import time
import xml.etree.ElementTree as ElementTree
from importlib.metadata import version

import h5py
import numpy as np
from scipy.linalg import eigh

HARTREE_TO_EV = 27.211386245988
LABEL, WANTED = b"VXC", b"VSC"


def main(path):
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    for name in ("potential", "xml", "pseudos", "orbitals"):
        if not os.path.exists(config[name]):
            fail("missing", config[name])
    try:
        import mpi4py  # noqa: F401  (HPRO's integrals in real space need it, even with one process)
        from HPRO.kernel import PW2AOkernel
    except ImportError as error:
        fail("environment", f"{error}: pip install HPRO mpi4py")
    start = time.perf_counter()
    set_label(config["potential"])
    kernel = PW2AOkernel(
        aodata_interface="siesta",
        aodata_root=config["orbitals"],
        hrdata_interface="qe-bgw",
        vscdir=config["potential"],
        upfdir=config["pseudos"],
        ecutwfn=config["cutoff"],
        spinful=config["spin_orbit"],
    )
    kernel.run_pw2ao_rs(config["output"], analyze_hdecay=False)
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank == 0:
        projected = time.perf_counter()
        result = {"hpro_version": version("HPRO"), "hpro_seconds": projected - start, "orbitals": config["names"]}
        result["projection"] = compare(config["output"], config["xml"], config["n_kpoints"])
        result["compare_seconds"] = time.perf_counter() - projected
        write(config["result"], result)


def fail(kind, message):
    """End with a line that names the kind of failure."""
    print(f"hpro-driver: {kind}: {message}", file=sys.stderr)
    sys.exit(1)


def set_label(path):
    """Call the potential VSC: pw2bgw.x writes the label of the exchange-correlation potential by mistake."""
    with open(path, "r+b") as file:
        head = file.read(8)
        if head[4:7] == LABEL:
            file.seek(4)
            file.write(WANTED)
        elif head[4:7] != WANTED:
            fail("potential", f"{path} begins with {head[4:8]!r}, expected VSC- or VXC-")


def compare(folder, xml, n_kpoints):
    """Bands of H(R), S(R) minus those of pw.x, eV, at up to n_kpoints points of the SCF's mesh."""
    points, energies, n_occupied = scf_bands(xml)
    chosen = np.unique(np.linspace(0, len(points) - 1, min(n_kpoints, len(points))).astype(int))
    pairs, H, S, n_rows = matrices(folder)
    errors, smallest, n_bands = [], np.inf, min(n_rows, energies.shape[1])
    for k in chosen:
        phases = np.exp(2j * np.pi * pairs[:, :3] @ points[k])
        Hk, Sk = bloch(H, phases, n_rows), bloch(S, phases, n_rows)
        smallest = min(smallest, np.linalg.eigvalsh(Sk)[0])
        errors.append(eigh(Hk, Sk, eigvals_only=True)[:n_bands] - energies[k, :n_bands])
    errors = np.array(errors)
    occupied = errors[:, :n_occupied]
    return {
        "n_kpoints": len(chosen),
        "n_occupied": int(n_occupied),
        "mean_error_eV": float(np.abs(occupied).mean()),
        "max_error_eV": float(np.abs(occupied).max()),
        "shift_eV": float(occupied.mean()),
        "mean_error_by_band_eV": np.abs(errors).mean(axis=0).tolist(),
        "smallest_overlap_eigenvalue": float(smallest),
    }


def scf_bands(path):
    """Fractional k-points, energies (n_k, n_bands) in eV and the number of bands that hold electrons at every point."""
    root = ElementTree.parse(path).getroot().find("output")
    bands = root.find("band_structure")
    alat = float(root.find("atomic_structure").attrib["alat"])
    cell = np.array([row.text.split() for row in root.find("atomic_structure/cell")], dtype=float)
    blocks = bands.findall("ks_energies")
    cartesian = np.array([block.find("k_point").text.split() for block in blocks], dtype=float)
    energies = np.array([block.find("eigenvalues").text.split() for block in blocks], dtype=float) * HARTREE_TO_EV
    occupations = np.array([block.find("occupations").text.split() for block in blocks], dtype=float)
    # k-points are in units of 2 pi / alat.
    return cartesian @ cell.T / alat, energies, max(1, int((occupations > 0.5).all(axis=0).sum()))


def matrices(folder):
    """Atom pairs, H and S as lists of (rows, columns, block), and the number of rows."""
    with open(os.path.join(folder, "info.json"), encoding="utf-8") as file:
        info = json.load(file)
    with open(os.path.join(folder, "POSCAR"), encoding="utf-8") as file:
        lines = file.read().splitlines()
    symbols = [s for s, n in zip(lines[5].split(), lines[6].split(), strict=True) for _ in range(int(n))]
    spins = 2 if info["spinful"] else 1
    sizes = [spins * sum(2 * l + 1 for l in info["elements_orbital_map"][s]) for s in symbols]
    first = np.concatenate([[0], np.cumsum(sizes)])
    found = {}
    for name in ("hamiltonian", "overlap"):
        with h5py.File(os.path.join(folder, f"{name}.h5")) as file:
            pairs, shapes = file["atom_pairs"][...], file["chunk_shapes"][...]
            bounds, entries = file["chunk_boundaries"][...], file["entries"][...]
        blocks = [entries[a:b].reshape(shape) for a, b, shape in zip(bounds, bounds[1:], shapes, strict=False)]
        places = [(slice(first[i], first[i + 1]), slice(first[j], first[j + 1])) for i, j in pairs[:, 3:]]
        found[name] = pairs, places, blocks
    if not np.array_equal(found["hamiltonian"][0], found["overlap"][0]):
        fail("result", "H and S have different atom pairs")
    return found["hamiltonian"][0], found["hamiltonian"][1:], found["overlap"][1:], first[-1]


def bloch(matrix, phases, n_rows):
    """Sum over R of exp(2 pi i k.R) M(R), Hermitian part."""
    total = np.zeros((n_rows, n_rows), dtype=complex)
    for (rows, columns), block, phase in zip(*matrix, phases, strict=True):
        total[rows, columns] += phase * block
    return (total + total.conj().T) / 2


def write(path, values):
    """The result appears complete or not at all."""
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(values, file, indent=2)
    os.replace(path + ".part", path)


if __name__ == "__main__":
    main(sys.argv[1])
