"use strict";
// Figures of the page: drawn by plotly in the colours of the theme; all that a mouse can do, keys and buttons can.
const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const root = document.documentElement;
const colour = name => getComputedStyle(root).getPropertyValue("--" + name).trim();
const themed = value => typeof value === "string" && value.startsWith("@") ? colour(value.slice(1))
  : Array.isArray(value) ? value.map(themed)
  : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v)])) : value;

function layoutOf(figure) {
  const axis = { gridcolor: colour("line"), linecolor: colour("muted"), zerolinecolor: colour("line"), automargin: true };
  const layout = themed(figure.layout);
  for (const key of ["xaxis", "yaxis", "yaxis2"])
    if (layout[key] || key !== "yaxis2") layout[key] = { ...axis, ...(layout[key] || {}) };
  return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: colour("ink"), size: 12 },
    margin: { l: 10, r: 10, t: 10, b: 10 }, showlegend: false, hovermode: "closest", height: figure.height,
    dragmode: matchMedia("(max-width: 600px)").matches ? "pan" : "zoom", autosize: true, ...layout };
}

function draw(figure) {
  const plot = document.getElementById("plot-" + figure.key);
  const kept = plot.data ? plot.data.map(trace => trace.visible) : [];
  const traces = themed(figure.traces).map((trace, n) => kept[n] === false ? { ...trace, visible: false } : trace);
  return Plotly.react(plot, traces, layoutOf(figure), { displayModeBar: false, responsive: true });
}

function zoom(plot, factor, shiftX, shiftY) {
  const changes = {};
  for (const [name, shift] of [["xaxis", shiftX], ["yaxis", shiftY]]) {
    const axis = plot._fullLayout[name];
    if (!axis || axis.type === "category") continue;
    const [low, high] = axis.range, middle = (low + high) / 2 + shift * (high - low), half = factor * (high - low) / 2;
    changes[name + ".range"] = [middle - half, middle + half];
  }
  return Plotly.relayout(plot, changes);
}
const reset = plot => Plotly.relayout(plot, { "xaxis.autorange": true,
  "yaxis.autorange": plot.layout.yaxis.autorange === "reversed" ? "reversed" : true });
const KEYS = { "+": [0.8, 0, 0], "-": [1.25, 0, 0], ArrowLeft: [1, -0.1, 0], ArrowRight: [1, 0.1, 0], ArrowUp: [1, 0, 0.1],
  ArrowDown: [1, 0, -0.1] };

for (const figure of FIGURES) {
  const plot = document.getElementById("plot-" + figure.key), tools = document.getElementById("tools-" + figure.key);
  draw(figure);
  plot.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "0") reset(plot);
    else if (KEYS[event.key]) zoom(plot, ...KEYS[event.key]);
    else return;
    event.preventDefault();
  });
  const button = (text, action) => {
    const element = document.createElement("button");
    element.type = "button"; element.textContent = text; element.addEventListener("click", action);
    element.setAttribute("aria-label", text + ", " + figure.title); tools.prepend(element);
  };
  for (const kind of ["svg", "png"])
    button(kind.toUpperCase(), () => Plotly.downloadImage(plot, { format: kind, filename: figure.key, width: 900, height: 600, scale: 2 }));
  button("Whole", () => reset(plot)); button("−", () => zoom(plot, 1.25, 0, 0)); button("+", () => zoom(plot, 0.8, 0, 0));
  for (const box of tools.querySelectorAll("input[type=checkbox]"))
    box.addEventListener("change", () => Plotly.restyle(plot, { visible: box.checked }, [Number(box.value)]));
}

const switcher = document.getElementById("theme");
const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
switcher.hidden = false;
switcher.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; FIGURES.forEach(draw); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => FIGURES.forEach(draw));
root.dataset.ready = "true";
