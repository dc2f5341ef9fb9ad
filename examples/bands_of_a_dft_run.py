"""Raw OpenMX output to a DeepH folder to bands, Fermi level and a figure: MoS2 from the test fixtures.

The same on the command line: `deeph-engine convert --code openmx RUN deeph`, then
`deeph-engine bands deeph --kpath G-K-M-G --output bands.json`.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from pathlib import Path

from aiida_deeph import Bands, BandsConfig, draw_bands, get_reader, new_figure, write_deeph

FIXTURE = Path(__file__).parents[1] / "tests" / "fixtures" / "openmx" / "mos2.tar.xz"


def main() -> None:
    """Write mos2-bands.png into the current folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tarfile.open(FIXTURE) as archive:
            archive.extractall(folder / "run", filter="data")
        run = next(folder.glob("run/**/openmx.scfout")).parent
        write_deeph(folder / "deeph", get_reader("openmx").read(run))
        config = BandsConfig(
            folder=str(folder / "deeph"),
            kpath="G-K-M-G",
            points_per_segment=12,
            fermi_mesh=(6, 6, 1),
            output=str(folder / "bands.json"),
        )
        bands = json.loads(Bands.run(config).read_text())
    fermi = bands["fermi"]
    print(f"valence band maximum {fermi['valence_maximum']:.3f} eV, gap {fermi['gap']:.3f} eV")
    print(f"smallest eigenvalue of S(k): {bands['smallest_overlap_eigenvalue']:.1e}")
    figure = new_figure(4.0, 4.5)
    draw_bands(
        figure.add_subplot(),
        bands["distances"],
        bands["energies"],
        labels=bands["labels"],
        zero=bands["fermi_level"],
        ghosts=bands["ghost_states"],
        window=(-8, 6),
    )
    figure.savefig("mos2-bands.png")
    assert 1.0 < fermi["gap"] < 3.0


if __name__ == "__main__":
    main()
