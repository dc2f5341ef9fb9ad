"""Reports: what they hold, in a real browser, on any screen, without a network, whatever a label says."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from aiida import orm

from aiida_deeph.report import page as page_module
from aiida_deeph.report.figures import curve_figure, plain, structure_figure
from aiida_deeph.report.gather import gather
from aiida_deeph.report.page import page
from tests.browser import Browser

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Object of type <DbGroup> not in session")]
HOSTILE = "</script><script>document.title='x'</script><img src=http://evil.example/x onerror=alert(1)>"


class Text(HTMLParser):
    """Elements of a page with their attributes, and what stands outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += "" if self.inside in ("script", "style") else data

    def handle_endtag(self, tag):
        self.inside = ""


@pytest.fixture(scope="module")
def written(full, tmp_path_factory):
    """The report of the whole pipeline as a file, of a process with a label that is not meant well."""
    full.label = HOSTILE
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(full, gather(full)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        yield found


def test_everything_is_told_and_nothing_is_loaded(full, written):
    text = written.read_text(encoding="utf-8")
    seen = Text(text)
    for words in ("Structures", "Model card", "Provenance", f"verdi process status {full.pk}", full.uuid):
        assert words in seen.words
    for name, row in ((row["name"], row) for row in gather(full).rows):
        assert name in seen.words and str(row["process"]) in seen.words
    fetched = [a for tag, a in seen.elements if tag in ("link", "img", "iframe") or (tag == "script" and "src" in a)]
    assert fetched == []
    assert HOSTILE not in text and "&lt;img src=http" in text


def test_each_figure_has_words_and_data(written):
    seen = Text(written.read_text(encoding="utf-8"))
    plots = [attributes for _, attributes in seen.elements if attributes.get("class") == "plot"]
    data = [attributes for _, attributes in seen.elements if str(attributes.get("href")).startswith("data:text/csv")]
    assert len(plots) >= 4 and len(data) == len(plots) + 1
    for attributes in plots:
        assert attributes["role"] == "img" and len(attributes["aria-label"]) > 30 and attributes["tabindex"] == "0"


@pytest.mark.requires("chromium")
def test_browser_draws_it_without_a_word_of_complaint(written, browser, tmp_path):
    browser.view(1200)
    browser.open(written)
    n_figures = len(browser.evaluate("FIGURES"))
    assert browser.evaluate("document.querySelectorAll('.plot svg.main-svg').length") >= n_figures
    drawn = (
        "[...document.querySelectorAll('.plot')].every(p => p.querySelector('.trace path, .points path, .hm image'))"
    )
    assert browser.evaluate(drawn)
    assert browser.problems == [] and browser.requests == []
    assert "document.title" in browser.evaluate("document.title"), "the label is the title, as it is written"
    light = browser.screenshot(tmp_path / "light.png")
    browser.view(1200, scheme="dark")
    browser.evaluate("new Promise(resolve => setTimeout(resolve, 300))")
    dark = browser.screenshot(tmp_path / "dark.png")
    brightness = [browser_brightness(tmp_path / f"{name}.png") for name in ("light", "dark")]
    assert brightness[0] > 200 > 90 > brightness[1] and len(light) > 20_000 and len(dark) > 20_000


def browser_brightness(path) -> float:
    from PIL import Image

    with Image.open(path) as image:
        histogram = image.convert("L").histogram()
    return sum(level * count for level, count in enumerate(histogram)) / sum(histogram)


@pytest.mark.requires("chromium")
def test_it_fits_a_telephone(written, browser):
    browser.view(390, 800)
    browser.open(written)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    wide = "[...document.querySelectorAll('.plot svg')].filter(s => s.getBoundingClientRect().right > 391).length"
    assert browser.evaluate(wide) == 0
    assert browser.problems == []


@pytest.mark.requires("chromium")
def test_keys_reach_and_move_everything(written, browser):
    browser.view(1200)
    browser.open(written)
    reached = []
    for _ in range(12):
        browser.press("Tab")
        reached.append(browser.evaluate("document.activeElement.className || document.activeElement.id"))
    assert reached[:2] == ["skip", "theme"] and any(name.startswith("plot") for name in reached)
    bands = json.dumps(browser.evaluate("FIGURES.find(f => f.key.startsWith('bands')).key"))
    plot = f"document.getElementById('plot-' + {bands})"
    before = browser.evaluate(f"{plot}.focus(), {plot}._fullLayout.yaxis.range")
    browser.press("+")
    after = browser.evaluate(f"{plot}._fullLayout.yaxis.range")
    assert after[1] - after[0] < before[1] - before[0]
    browser.press("0")
    assert browser.evaluate(f"{plot}._fullLayout.yaxis.range") == pytest.approx(before)
    box = "document.querySelector('.tools input[type=checkbox]')"
    browser.evaluate(f"{box}.focus()")
    browser.press(" ")
    hidden = "[...document.querySelectorAll('.plot')].some(p => p.data.some(t => t.visible === false))"
    assert browser.evaluate(hidden) is True
    browser.evaluate("document.getElementById('theme').focus()")
    browser.press("Enter")
    assert browser.evaluate("document.documentElement.dataset.theme") in ("dark", "light")
    assert browser.evaluate(hidden) is True, "what is hidden stays hidden in other colours"
    assert browser.problems == [] and browser.requests == []


@pytest.mark.parametrize("label", ["predict", "target", "bands", "train", "dataset"])
def test_every_workflow_has_a_report(full, label):
    filters = {"process_type": f"aiida.workflows:deeph.{label}"}
    process = orm.QueryBuilder().append(orm.WorkChainNode, filters=filters).first(flat=True)
    report = gather(process)
    text = page(process, report)
    assert report.title and str(process.uuid) in text and "Go on from here" in text
    if label in ("target", "bands"):
        assert any(figure.key.startswith("bands") for figure in report.figures)


def test_command_writes_a_file(run, full, tmp_path):
    assert "figures" in run("report", full.pk, "--output", tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size > 4e6
    assert "boxes drawn" in run("graph", full.pk, "--output", tmp_path / "g.svg")
    assert (tmp_path / "g.svg").read_text().startswith("<svg")


def test_unfinished_and_failed_processes(full):
    node = orm.WorkChainNode(process_type="aiida.workflows:deeph.full").store()
    assert "not finished" in gather(node).facts["state"]
    node.set_process_state("finished")
    node.set_exit_status(310)
    node.set_exit_message("The dataset failed: too bad")
    report = gather(node)
    assert report.warnings == ["The dataset failed: too bad"] and "[310]" in report.facts["state"]
    assert "Nothing was computed yet" in page(node, report)


def test_figures_without_plotly_say_what_to_install(full, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(page_module.resources, "files", missing)
    with pytest.raises(Exception, match=r"plotly is not installed.*remedy: pip install"):
        page_module._plotly()


def test_words_of_figures():
    figure = curve_figure("k", "a curve", [0.0, 1, 2], {"total": [1.0, 3, 2]}, x_title="E (eV)", y_title="y")
    assert "largest, 3, at 1, and ends at 2" in figure.alt and figure.data.splitlines()[:2] == [
        "E (eV),total",
        "0.0,1.0",
    ]
    atoms = structure_figure("a", "atoms", ["C", "H"], [[0, 0, 0], [1, 0.5, 0]], [2.0, 5.0], "expected (meV)")
    assert "largest at H 1: 5" in atoms.alt and "seen along z" in atoms.alt
    assert plain("<b>x</b>") == "&lt;b&gt;x&lt;/b&gt;"
    assert not re.search(r"<script", page_module._json([HOSTILE]))
