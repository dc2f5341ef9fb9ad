"""Figure of the cost of bands and densities of states against atoms, from the lines that bench_bands.py wrote.

python tests/benchmarks/plot_bands.py LINES.jsonl tests/benchmarks/bands.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from aiida_deeph.engine.observables.figures import new_figure

NAMES = {
    "sparse": "20 states, own factorisation",
    "scipy": "20 states, scipy eigsh",
    "dense": "all states, LAPACK",
    "kpm": "DOS, moments",
    "single": "moments alone, single precision",
}


def main() -> None:
    lines = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    figure = new_figure(7.0, 3.2)
    cost, memory = figure.subplots(1, 2)
    for work, name in NAMES.items():
        points = {line["atoms"]: line for line in lines if line["work"] == work}
        atoms = np.array(sorted(points))
        for axes, key in ((cost, "cpu_s"), (memory, "peak_memory_GiB")):
            values = np.array([points[n][key] for n in atoms])
            slope = f", slope {np.polyfit(np.log(atoms), np.log(values), 1)[0]:.2f}" if len(atoms) > 1 else ""
            axes.loglog(atoms, values, "o-", label=name + slope, markersize=4)
    for axes, label in ((cost, "CPU time (s)"), (memory, "peak memory (GiB)")):
        sizes = sorted({line["atoms"] for line in lines})
        axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axes.set_xlabel("atoms")
        axes.set_ylabel(label)
        ticks = (10, 30, 100, 300, 1000, 3000) if axes is cost else (0.5, 1, 2, 4, 8, 16)
        axes.set_yticks(ticks, [f"{n:g}" for n in ticks])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=6)
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
