"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const asked = new URLSearchParams(location.hash.slice(1));
const PALETTE = {
  light: ["#0067a5", "#c24a00", "#00795a", "#9c2f86", "#6a5300", "#3c3cc4", "#5d646e", "#b0203a"],
  dark: ["#5cb8f5", "#ff9d57", "#45d3a4", "#ee9bd8", "#e8cf5a", "#a9a9ff", "#b4bbc6", "#ff8fa0"],
};

// Theme: as the system, light or dark; plotly's figures are painted to go with it.
const THEMES = ["system", "light", "dark"];
let theme = THEMES.includes(asked.get("theme")) ? asked.get("theme") : "system";
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const dark = () => theme === "dark" || (theme === "system" && systemDark.matches);
const css = (name) => {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(${name})`;
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
};
function painted(figure) {
  const colours = PALETTE[dark() ? "dark" : "light"], ink = css("--ink"), rule = css("--rule");
  const axis = { gridcolor: rule, linecolor: css("--soft"), showline: true, zerolinecolor: rule, ticks: "outside" };
  const traces = figure.data.map((trace) => {
    if (trace.type === "heatmap") return { ...trace, reversescale: !dark() };
    const colour = colours[trace.meta.colour % colours.length];
    return trace.meta.band ? { ...trace, fillcolor: colour + "33" }
      : { ...trace, line: { ...trace.line, color: colour }, marker: { ...trace.marker, color: colour } };
  });
  const layout = {
    ...figure.layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    font: { color: ink, size: 13, family: "system-ui, 'DejaVu Sans', sans-serif" },
    xaxis: { ...axis, ...figure.layout.xaxis }, yaxis: { ...axis, ...figure.layout.yaxis },
    hoverlabel: { bgcolor: css("--page"), bordercolor: rule, font: { color: ink } },
  };
  return [traces, layout, { responsive: true, displayModeBar: false }];
}
// The slider's layer as a line, in figures over layers that stand under a slider.
function layerLine(box) {
  const layer = Number(box.closest("[data-layer]")?.dataset.layer);
  const { layers } = data.figures[box.dataset.figure].layout.meta;  // the axis of layers: x, y or none
  if (Number.isNaN(layer) || !layers) return [];
  const across = layers === "x" ? "y" : "x", line = { color: css("--ink"), width: 2 };
  return [{ type: "line", line, [`${layers}0`]: layer, [`${layers}1`]: layer,
    [`${across}0`]: 0, [`${across}1`]: 1, [`${across}ref`]: "paper" }];
}
const drawn = new Set();
function draw(box) {
  const [traces, layout, config] = painted(data.figures[box.dataset.figure]);
  layout.shapes = [...(layout.shapes || []), ...layerLine(box)];
  drawn.add(box);
  return Plotly.react(box, traces, layout, config);
}
function moveLine(box) {
  const shapes = data.figures[box.dataset.figure].layout.shapes || [], line = layerLine(box);
  if (line.length) Plotly.relayout(box, { shapes: [...shapes, ...line] });
}
const boxes = [...document.querySelectorAll("[data-figure]")];
const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
  if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
}), { rootMargin: "800px" });
boxes.forEach((box) => (asked.has("all") ? draw(box) : seen.observe(box)));
addEventListener("beforeprint", () => boxes.forEach((box) => drawn.has(box) || box.closest("details:not([open])") || draw(box)));
document.querySelectorAll("details.more").forEach((more) => more.addEventListener("toggle", () =>
  boxes.forEach((box) => more.contains(box) && drawn.has(box) && Plotly.Plots.resize(box))));
function setTheme(next) {
  theme = next;
  root.style.colorScheme = theme === "system" ? "" : theme;
  root.dataset.theme = theme;
  document.getElementById("theme").textContent = `Theme: ${theme === "system" ? "as the system" : theme}`;
  drawn.forEach(draw);
}
setTheme(theme);
systemDark.addEventListener("change", () => setTheme(theme));
document.getElementById("theme").addEventListener("click",
  () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]));

// Downloads: the text stands in this file as it is.
document.querySelectorAll("[data-csv]").forEach((button) => button.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([data.csv[button.dataset.csv]], { type: "text/csv" }));
  link.download = `phasebench-${button.dataset.csv}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}));

// Areas that are wider than the window say so.
const hint = (target) => {
  const area = target.closest(".wide");
  area.classList.toggle("scrolls", area.scrollWidth > area.clientWidth + 1);
};
const width = new ResizeObserver((entries) => requestAnimationFrame(() => entries.forEach(({ target }) => hint(target))));
document.querySelectorAll(".wide").forEach((area) => { width.observe(area); width.observe(area.firstElementChild); });

// Example images: one cell an image token, filled anew for each layer.
const bare = (word) => word.toLowerCase().replace(/[^\p{L}]/gu, "");
const visible = (word) => (word.trim() === "" ? "␣" : word.trim().replace(/\s/g, "␣"));
const percent = (share) => `${(100 * share).toPrecision(2)} %`;
const SCALE = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];  // viridis, as in the style
const DECADES = 2;  // the colours are logarithmic, because a few patches may get nearly all of the attention
const logarithmic = (part) => Math.max(0, 1 + Math.log10(part || 1e-9) / DECADES);
function colour(part) {
  const at = Math.min(part, 1) * (SCALE.length - 1), from = Math.min(Math.floor(at), SCALE.length - 2);
  return SCALE[from].map((low, k) => Math.round(low + (at - from) * (SCALE[from + 1][k] - low))).join(" ");
}
function filled(list, count, grid) {
  list.append(...Array.from({ length: count }, () => {
    const cell = document.createElement("li");
    cell.append(document.createElement("span"));
    return cell;
  }));
  if (list.closest(".stage")) {
    list.style.gridTemplate = `repeat(${grid.rows}, 1fr) / repeat(${grid.columns}, 1fr)`;
    list.style.fontSize = `clamp(5px, ${(22 / grid.columns).toFixed(2)}cqw, 17px)`;
  }
  return [...list.children];
}
function showWords(box, cells, words, wanted) {
  const hits = new Set(), counts = new Map();
  words.forEach((word, index) => {
    const cell = cells[index], hit = wanted.has(bare(word));
    cell.firstChild.textContent = visible(word);
    cell.title = `image token ${index + 1}: ${visible(word)}`;
    cell.classList.toggle("hit", hit);
    if (hit) hits.add(bare(word));
    counts.set(visible(word), (counts.get(visible(word)) || 0) + 1);
  });
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([word, n]) => `“${word}” ×${n}`).join(", ");
  box.querySelector(".tally").textContent = `Most often: ${most}. Caption words: ${[...hits].join(", ") || "none"}.`;
}
function showAttention(box, cells, shares, layer) {
  const most = shares ? Math.max(...shares) : 0, sum = shares ? shares.reduce((a, b) => a + b, 0) : 0;
  cells.forEach((cell, index) => {
    const part = most ? shares[index] / most : 0;
    if (cell.closest(".attention")) {
      cell.style.background = shares ? `rgb(${colour(logarithmic(part))} / .75)` : "";
      cell.title = shares ? `image token ${index + 1}: ${percent(shares[index])}` : "";
    } else cell.style.setProperty("--part", `${100 * part}%`);
  });
  if (box.querySelector(".scale")) {
    box.querySelector(".least").textContent = shares ? `≤ ${percent(most / 10 ** DECADES)}` : "";
    box.querySelector(".most").textContent = shares ? percent(most) : "";
  }
  box.querySelector(".shares").textContent = shares
    ? `Attention at layer ${layer}: ${percent(sum)} on the image, at most ${percent(most)} on one image token.`
    : `At layer ${layer}, there is no attention: it is before the first block.`;
}
function example(box) {
  const { words, attention, references, grid } = data.examples[box.dataset.example];
  const count = (words ? words[0] : attention[attention.length - 1]).length, wanted = new Set(references);
  const find = (name) => { const list = box.querySelector(name); return list && filled(list, count, grid); };
  const wordCells = find(".words"), attentionCells = find(".attention") || wordCells;
  return (layer) => {
    if (words) showWords(box, wordCells, words[layer], wanted);
    if (attention) showAttention(box, attentionCells, attention[layer], layer);
  };
}
document.querySelectorAll(".by-layer").forEach((part) => {
  const slider = part.querySelector("input[type=range]"), output = part.querySelector("output");
  if (!slider) return;
  const last = Number(part.dataset.last), shows = [...part.querySelectorAll("[data-example]")].map(example);
  const figures = boxes.filter((box) => part.contains(box));
  let waiting = false;
  function show() {
    waiting = false;
    const layer = Number(slider.value);
    part.dataset.layer = layer;
    output.textContent = `${layer} of ${last}, depth ${(layer / last).toFixed(2)}`;
    slider.setAttribute("aria-valuetext", `layer ${layer} of ${last}`);
    shows.forEach((showAt) => showAt(layer));
    figures.forEach((box) => drawn.has(box) && moveLine(box));
  }
  const wish = asked.has("layer") ? Number(asked.get("layer")) : last;
  slider.value = Number.isFinite(wish) ? wish : last;
  slider.addEventListener("input", () => { waiting = waiting || requestAnimationFrame(show); });
  slider.addEventListener("change", () => {
    asked.set("layer", slider.value);
    asked.set("at", part.dataset.run);
    history.replaceState(null, "", `#${asked}`);  // a link to this layer
  });
  part.querySelector("[data-show]")?.addEventListener("change", (event) =>
    part.classList.toggle("nopicture", !event.target.checked));
  show();
});
if (asked.has("at")) document.querySelector(`[data-run="${CSS.escape(asked.get("at"))}"]`)?.scrollIntoView();
root.dataset.ready = "yes";
