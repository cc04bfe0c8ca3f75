"use strict";
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const byId = (id) => document.getElementById(id);
const data = read("data");
const titles = Object.fromEntries(data.methods.map((m) => [m.name, m.title]));
const minus = (text) => text.replace("-", "\u2212");
const number = (v, digits = 3) => (v === null ? "undefined" : v === "" ? "" : minus(v.toFixed(digits)));

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "g", "circle"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/* Tables: a click on a column's head sorts by it, another one turns the order. */
function sortTable(table, head) {
  const column = [...head.parentNode.children].indexOf(head);
  const numeric = head.classList.contains("num");
  const now = head.getAttribute("aria-sort");
  const down = now ? now === "ascending" : numeric;
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const key = (row) => row.children[column].dataset.key;
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    return (numeric ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
  });
  table.tBodies[0].append(...rows);
}
for (const table of document.querySelectorAll("table.sortable"))
  for (const head of table.tHead.rows[table.tHead.rows.length - 1].cells)
    head.querySelector("button").addEventListener("click", () => sortTable(table, head));

/* Curves. Colours differ for every kind of colour vision in groups of seven; dashes tell the groups apart. */
const drawn = data.methods.map((m) => m.name).filter((name) => data.charts.some((c) => c.curves.some((k) => k.method === name)));
const others = drawn.filter((name) => name !== data.reference);
const hidden = new Set();
let raised = null;
const look = (name) => {
  const at = others.indexOf(name);
  return at < 0 ? { stroke: "var(--accent)" } : { stroke: `var(--c${at % 7})`, "stroke-dasharray": ["none", "6 3", "2 2.5", "9 3 2 3"][Math.floor(at / 7) % 4] };
};
const swatch = (name) => make("svg", { width: 22, height: 8, "aria-hidden": "true" },
  make("line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-width": name === data.reference ? 3.4 : 2, ...look(name) }));

function ticks(low, high, count) {
  const rough = (high - low) / count, unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * unit).find((s) => s >= rough);
  const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
  return { values: Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step), digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function drawChart(figure, chart) {
  figure.querySelector("svg")?.remove();
  const width = Math.max(figure.clientWidth, 240), height = Math.min(340, Math.max(230, width * 0.6));
  const edge = { left: 44, right: 18, top: 10, bottom: 44 };
  const all = chart.curves.flatMap((c) => c.points).filter((v) => v !== null);
  const scale = ticks(Math.min(0, ...all), Math.max(1e-6, ...all), 5);
  const [low, high] = [scale.values[0], scale.values[scale.values.length - 1]];
  const x = (share) => edge.left + share * (width - edge.left - edge.right);
  const y = (v) => height - edge.bottom - ((v - low) / (high - low)) * (height - edge.top - edge.bottom);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, height, tabindex: 0, role: "img",
    "aria-label": `${chart.title}: ${chart.y_label} against ${chart.x_label.toLowerCase()}, ${chart.curves.length} curves. The areas are in the tables.` });
  for (const v of scale.values)
    svg.append(make("line", { class: "grid", x1: x(0), x2: x(1), y1: y(v), y2: y(v) }),
      make("text", { x: x(0) - 8, y: y(v) + 4, "text-anchor": "end" }, minus(v.toFixed(scale.digits))));
  for (const share of [0, 0.25, 0.5, 0.75, 1])
    svg.append(make("text", { x: x(share), y: height - edge.bottom + 18, "text-anchor": "middle" }, `${share * 100} %`));
  svg.append(make("text", { x: x(0.5), y: height - 6, "text-anchor": "middle" }, chart.x_label));
  const order = [...chart.curves].sort((a, b) => (a.method === data.reference) - (b.method === data.reference));
  for (const curve of order) {
    if (hidden.has(curve.method)) continue;
    let path = "", pen = false;
    curve.points.forEach((v, i) => {
      if (v !== null) path += `${pen ? "L" : "M"}${x(i / Math.max(1, curve.points.length - 1)).toFixed(1)} ${y(v).toFixed(1)}`;
      pen = v !== null;
    });
    const faint = raised !== null && raised !== curve.method ? " faint" : "";
    svg.append(make("path", { class: `curve${curve.method === data.reference ? " reference" : ""}${faint}`, d: path, "data-method": curve.method, ...look(curve.method) }));
  }
  const cross = make("line", { class: "cross", y1: edge.top, y2: height - edge.bottom, visibility: "hidden" });
  svg.append(cross);
  const tip = figure.querySelector(".tip");
  let at = 0.5;
  const hide = () => { cross.setAttribute("visibility", "hidden"); tip.hidden = true; };
  const show = (share) => {
    at = Math.min(1, Math.max(0, share));
    const values = chart.curves.filter((c) => !hidden.has(c.method)).map((c) => [c.method, c.points[Math.round(at * (c.points.length - 1))]])
      .filter(([, v]) => v !== null && v !== undefined).sort((a, b) => b[1] - a[1]);
    cross.setAttribute("x1", x(at)); cross.setAttribute("x2", x(at)); cross.setAttribute("visibility", "visible");
    tip.replaceChildren(make("b", {}, `${Math.round(at * 100)} %`), ...values.map(([name, v]) => make("div", {}, swatch(name), make("span", {}, titles[name]), make("span", {}, number(v)))));
    tip.hidden = false;
    const beside = at < 0.5 ? x(at) + 12 : x(at) - 12 - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(beside, width - tip.offsetWidth))}px`;
  };
  const follow = (event) => {
    const box = svg.getBoundingClientRect();
    show((event.clientX - box.left - edge.left) / (box.width - edge.left - edge.right));
  };
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
    if (event.key === "Escape") hide();
    if (step === undefined) return;
    event.preventDefault();
    show(tip.hidden ? at : at + step);
  });
  figure.insertBefore(svg, tip);
}

const figures = data.charts.map((chart) => {
  const figure = make("figure", {}, make("figcaption", {}, make("b", {}, chart.title), make("span", {}, `${chart.y_label}. ${chart.note}`)), make("div", { class: "tip", hidden: "" }));
  byId("charts").append(figure);
  return figure;
});
const drawCharts = () => figures.forEach((figure, i) => drawChart(figure, data.charts[i]));
const toggles = drawn.map((name) => {
  const button = make("button", { type: "button", "aria-pressed": "true", "data-method": name }, swatch(name), titles[name]);
  const raise = (value) => () => {
    raised = hidden.has(name) ? null : value;
    for (const path of document.querySelectorAll("path.curve")) path.classList.toggle("faint", raised !== null && path.dataset.method !== raised);
  };
  button.addEventListener("click", () => { hidden.has(name) ? hidden.delete(name) : hidden.add(name); raised = null; update(); });
  button.addEventListener("pointerenter", raise(name));
  button.addEventListener("pointerleave", raise(null));
  return button;
});
function update() {
  for (const button of toggles) button.setAttribute("aria-pressed", String(!hidden.has(button.dataset.method)));
  drawCharts();
}
if (figures.length) {
  const all = make("button", { type: "button", class: "plain" }, "all"), none = make("button", { type: "button", class: "plain" }, "none");
  all.addEventListener("click", () => { hidden.clear(); update(); });
  none.addEventListener("click", () => { drawn.forEach((name) => hidden.add(name)); update(); });
  byId("legend").append(...toggles, make("span", {}, all, none));
  let width = 0;
  new ResizeObserver(() => { if (byId("charts").clientWidth !== width) { width = byId("charts").clientWidth; drawCharts(); } }).observe(byId("charts"));
}

/* The gallery: cards are made as they come into view, and the pictures parsed when the first one is. */
const PAGE = 8;
let pictures = null, found = [], made = 0;
const metricSelect = byId("sort-metric"), methodSelect = byId("sort-method"), orderSelect = byId("sort-order"), filter = byId("filter"), more = byId("more");
const source = (png) => `data:image/png;base64,${png}`;
const picture = (png, alt) => (png ? make("img", { src: source(png), alt, loading: "lazy", decoding: "async" }) : make("span", { class: "blank" }, "no picture"));

function card(index) {
  const example = data.examples[index], metric = +metricSelect.value, chosen = metricSelect.value === "" ? -1 : +methodSelect.value;
  const maps = data.methods.map((method, m) => {
    const png = pictures.maps[index][m], value = metricSelect.value === "" ? "" : example.values[metric][m];
    if (!png && data.metrics.every((_, k) => example.values[k][m] === "")) return null;
    const classes = [method.name === data.reference && "reference", m === chosen && "chosen"].filter(Boolean).join(" ");
    return make("li", { class: classes }, picture(png, `Map of ${method.title}`), make("span", { class: "name" }, method.title), make("span", { class: "value" }, number(value)));
  }).filter(Boolean);
  const head = make("tr", {}, make("th", { scope: "col" }, "Method"), ...data.metrics.map((m) => make("th", { scope: "col", class: "num" }, m.title)));
  const rows = data.methods.map((method, m) => make("tr", {}, make("th", { scope: "row" }, method.title), ...data.metrics.map((_, k) => make("td", { class: "num" }, number(example.values[k][m])))));
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  return make("article", {}, make("h3", {}, example.target, make("span", {}, example.image)),
    make("div", { class: "photo" }, picture(pictures.photos[example.image], `Photograph ${example.image}`)), make("ul", { class: "maps" }, ...maps),
    ...(data.metrics.length ? [make("details", {}, make("summary", {}, "All values"), make("div", { class: "frame", tabindex: 0 }, table))] : []));
}
function showMore() {
  pictures ??= read("pictures");
  byId("gallery").append(...found.slice(made, made + PAGE).map(card));
  made = Math.min(found.length, made + PAGE);
  more.hidden = made >= found.length;
}
function arrange() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  found = data.examples.map((_, i) => i).filter((i) => {
    const text = `${data.examples[i].image} ${data.examples[i].target}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const metric = metricSelect.value, method = +methodSelect.value, sign = +orderSelect.value;
  const key = (i) => data.examples[i].values[+metric][method];
  const known = (v) => typeof v === "number";
  if (metric !== "") found.sort((a, b) => (known(key(b)) - known(key(a))) || (known(key(a)) ? (key(a) - key(b)) * sign : 0));
  methodSelect.disabled = orderSelect.disabled = metric === "";
  byId("shown").textContent = `${found.length} of ${data.examples.length}`;
  byId("gallery").replaceChildren();
  made = 0;
  showMore();
}
if (data.examples.length) {
  metricSelect.append(make("option", { value: "" }, "order of the run"), ...data.metrics.map((m, i) => make("option", { value: i }, m.title)));
  methodSelect.append(...data.methods.map((m, i) => make("option", { value: i }, m.title)));
  const reference = data.methods.findIndex((m) => m.name === data.reference);
  if (data.metrics.length) metricSelect.value = "0";
  methodSelect.value = String(Math.max(0, reference));
  for (const control of [metricSelect, methodSelect, orderSelect]) control.addEventListener("change", arrange);
  filter.addEventListener("input", arrange);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  byId("shown").textContent = `${data.examples.length} of ${data.examples.length}`;
  const near = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    if (pictures === null) arrange(); else if (!more.hidden) showMore();
  }, { rootMargin: "600px" });
  near.observe(byId("controls"));
  near.observe(more);
}
