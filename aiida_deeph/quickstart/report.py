"""`report.html` (one file, nothing loaded from elsewhere) and `summary.json`."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path

from aiida_deeph.engine.io.files import write_text_atomic
from aiida_deeph.quickstart import figures
from aiida_deeph.quickstart.results import Results

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>aiida-deeph quickstart</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #22303c; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; margin-bottom: .2rem; }} h2 {{ font-size: 1.15rem; margin: 2.2rem 0 .3rem; }}
p {{ margin: .3rem 0 .6rem; max-width: 46rem; }}
img {{ max-width: 100%; height: auto; }}
.numbers {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .7rem; margin: 1.2rem 0; }}
.numbers div {{ border: 1px solid #d7dde1; border-radius: .5rem; padding: .6rem .8rem; }}
.numbers b {{ display: block; font-size: 1.35rem; }} .numbers span {{ color: #66727c; font-size: .85rem; }}
table {{ border-collapse: collapse; }} td {{ padding: .15rem .9rem .15rem 0; text-align: left; }}
td + td {{ text-align: right; font-variant-numeric: tabular-nums; }}
pre {{ background: #f3f5f7; padding: .7rem .9rem; border-radius: .5rem; overflow-x: auto; }}
.wide {{ overflow-x: auto; }} .wide img {{ max-width: none; }}
</style></head><body>
<h1>From {n_labels} small DFT runs to a chain of {n_atoms_predicted} atoms</h1>
<p>trans-Polyacetylene: a closed-form model of H, fitted to cells of {smallest} to {largest} atoms, predicts the
Hamiltonian of a chain that holds a domain wall of its bond alternation. Every number and every picture below was taken
from AiiDA's provenance graph.</p>
<div class="numbers">{numbers}</div>
{sections}
<h2>Wall time</h2>
<table>{steps}</table>
<h2>Go on from here</h2>
<pre>{commands}</pre>
</body></html>
"""


def image(svg: str, alt: str) -> str:
    """An SVG inside an img element: its ids and styles stay its own."""
    data = base64.b64encode(svg.encode("utf-8")).decode("ascii")
    return f'<img alt="{html.escape(alt)}" src="data:image/svg+xml;base64,{data}">'


def section(title: str, text: str, svg: str, *, wide: bool = False) -> str:
    """A heading, a paragraph and a picture."""
    picture = image(svg, title)
    return f"<h2>{html.escape(title)}</h2>\n<p>{html.escape(text)}</p>\n" + (
        f'<div class="wide">{picture}</div>' if wide else picture
    )


def tiles(pairs: Sequence[tuple[str, str]]) -> str:
    """The headline numbers."""
    return "".join(f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for value, name in pairs)


def draw_figures(results: Results) -> dict[str, str]:
    """Name -> SVG."""
    return {
        "bands": figures.bands(results.bands),
        "dos": figures.spectrum(results.spectrum),
        "distances": figures.distance_errors(results.distance_errors),
        "errors": figures.pair_errors(results.pair_errors),
        "provenance": results.provenance_svg,
    }


def render(results: Results) -> str:
    """The page as text."""
    summary, pictures = results.summary, draw_figures(results)
    (below, above), middle = results.spectrum.gap, results.spectrum.midgap
    sections = [
        section(
            "Bands of a cell it has never seen",
            f"Lines: a direct DFT run on {results.bands.title}. Circles: the predicted Hamiltonian of the same cell. "
            f"Occupied bands and the lowest conduction band differ by {summary['band_mae_meV']:.1f} meV on average.",
            pictures["bands"],
        ),
        section(
            "The long chain: a state in the middle of the gap",
            f"Where the two bond alternations meet, a single state stands {middle - below:.2f} eV above the valence "
            f"states and {above - middle:.2f} eV below the conduction states: the soliton of Su, Schrieffer and "
            "Heeger. No DFT run of this chain was made; its overlap is computed from the Gaussians alone. Ticks: "
            "single levels at Gamma.",
            pictures["dos"],
        ),
        section(
            "Error of H by distance",
            f"{summary['n_train']} training and {summary['n_test']} test cells: the closed-form model is fitted by "
            "least squares, in seconds.",
            pictures["distances"],
        ),
        section(
            "Error of H by pair of shells",
            f"Mean |ΔH| over the test cells; over all entries {summary['test_mae_meV']:.2f} meV, at worst "
            f"{summary['test_max_meV']:.0f} meV.",
            pictures["errors"],
        ),
        section(
            "Provenance",
            "From the structures to the bands. Processes of one kind, and the data that link them, are drawn as one "
            f"box with their number; the whole graph hangs on process {summary['aiida_process_uuid']}.",
            pictures["provenance"],
            wide=True,
        ),
    ]
    numbers = [
        (f"{summary['test_mae_meV']:.2f} meV", "mean |ΔH| of the test cells"),
        (f"{summary['band_mae_meV']:.1f} meV", "mean band error, unseen cell"),
        (str(summary["n_labels"]), "DFT runs for the labels"),
        (str(summary["n_atoms_predicted"]), "atoms predicted"),
        (f"{summary['wall_s']['total'] / 60:.1f} min", "in all"),
    ]
    steps = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{seconds:.1f} s</td></tr>" for name, seconds in summary["wall_s"].items()
    )
    return PAGE.format(
        n_labels=summary["n_labels"],
        n_atoms_predicted=summary["n_atoms_predicted"],
        smallest=summary["n_atoms_labels"][0],
        largest=summary["n_atoms_labels"][1],
        numbers=tiles(numbers),
        sections="\n".join(sections),
        steps=steps,
        commands=html.escape("\n".join(results.commands)),
    )


def write(results: Results, folder: Path) -> tuple[Path, Path]:
    """Write `summary.json`, `report.html` and its pictures (`figures/NAME.svg`) into `folder`; give the first two."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, svg in draw_figures(results).items():
        write_text_atomic(folder / "figures" / f"{name}.svg", svg)
    summary, page = folder / "summary.json", folder / "report.html"
    write_text_atomic(summary, json.dumps(dict(results.summary), indent=2) + "\n")
    write_text_atomic(page, render(results))
    return summary, page
