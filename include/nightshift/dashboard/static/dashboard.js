// Draws each figure's table as a chart, renews what is live, and leads out of Airflow's frame. Without it, the tables show.
"use strict";

const LIVE_SECONDS = 15;
const HEIGHT = 190;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// One column of a table as a series: numbers from `data-y`, null where an interval has none.
function column(rows, index) {
  return rows.map((row) => {
    const text = row.cells[index].dataset.y;
    return text === undefined || text === "" ? null : Number(text);
  });
}

function seriesOf(head, index) {
  const role = head.dataset.role;
  const shades = { line: "accent", second: "second", challenger: "second", warn: "warn-line", fail: "fail-line" };
  const floor = role === "warn" || role === "fail";
  return {
    index,
    label: head.textContent.trim(),
    stroke: colour(shades[role]),
    width: floor ? 1.5 : 2,
    dash: floor ? (role === "warn" ? [3, 4] : [8, 4]) : undefined,
    points: { show: !floor, size: 5 },
    spanGaps: false,
    scale: role === "second" ? "second" : "y",
  };
}

function short(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
}

// Ticks at intervals that exist, from the newest backwards, with room for each label.
function ticks(xs, names, width) {
  const label = ((10 + 6 * names[0].length) / width) * (xs.at(-1) - xs[0]);
  let free = Infinity;
  const shown = xs.toReversed().filter((x) => {
    if (x > free) return false;
    free = x - label;
    return true;
  });
  return shown.reverse();
}

// Where another model began to answer, or another share of the traffic: a line and its name.
function marks(rows, xs) {
  return (plot) => {
    const context = plot.ctx;
    context.save();
    context.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    context.fillStyle = context.strokeStyle = colour("muted");
    context.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
    context.textAlign = "left";
    let free = 0; // from here on to the right, no name is written above
    rows.forEach((row, place) => {
      if (!row.dataset.mark) return;
      const x = plot.valToPos(xs[place], "x", true);
      context.beginPath();
      context.moveTo(x, plot.bbox.top);
      context.lineTo(x, plot.bbox.top + plot.bbox.height);
      context.stroke();
      // Above the lines of the chart; below its edge, where the name before needs the place.
      const width = context.measureText(row.dataset.mark).width;
      const left = Math.min(x, plot.bbox.left + plot.bbox.width - width);
      const above = left > free;
      context.fillText(row.dataset.mark, left, plot.bbox.top + (above ? -4 : 11) * devicePixelRatio);
      if (above) free = left + width;
    });
    context.restore();
  };
}

// What was drawn stays known to uPlot and to the observer until both are told.
function erase(figure) {
  const place = figure.querySelector(".plot");
  widths.unobserve(place);
  figure.plot?.destroy();
  figure.plot = undefined;
  place.replaceChildren();
}

function draw(figure) {
  const table = figure.querySelector("details table");
  const rows = [...table.tBodies[0].rows];
  const place = figure.querySelector(".plot");
  erase(figure);
  if (typeof uPlot === "undefined") return;
  const ofIntervals = figure.dataset.chart === "intervals";
  const xs = rows.map((row) => Number(row.dataset.x));
  const names = rows.map((row) => row.cells[0].textContent);
  const room = (xs.at(-1) - xs[0]) / 40 || 1; // else the first and the last point, or a single one, would be half cut
  const series = [...table.tHead.rows[0].cells].map((head, index) => (head.dataset.role ? seriesOf(head, index) : null)).filter(Boolean);
  const data = [xs, ...series.map((one) => column(rows, one.index))];
  const failed = rows.map((row, index) => (row.dataset.state === "FAIL" ? data[1][index] : null));
  if (failed.some((value) => value !== null)) {
    series.push({ label: "FAIL intervals", stroke: colour("fail-line"), paths: () => null, scale: "y",
      points: { show: true, size: 10, fill: colour("fail-line") } });
    data.push(failed);
  }
  const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") }, font: "11px system-ui, sans-serif" };
  const two = series.some((one) => one.scale === "second");
  const plot = new uPlot(
    {
      width: Math.max(place.clientWidth, 200),
      height: HEIGHT,
      scales: { x: { time: false, range: () => [ofIntervals ? xs[0] - room : 0, xs.at(-1) + room] }, y: { range: (_plot, low, high) => [Math.min(0, low), high > 0 ? high * 1.1 : 1] },
        second: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, space: 70, ...(ofIntervals ? { splits: (plot) => ticks(xs, names, plot.width), values: (_plot, values) => values.map((value) => names[xs.indexOf(value)].slice(5)) } : {}) },
        { ...axis, size: 48, values: (_plot, values) => values.map(short) },
        ...(two ? [{ ...axis, side: 1, scale: "second", size: 48, grid: { show: false }, values: (_plot, values) => values.map(short) }] : []),
      ],
      series: [
        { label: ofIntervals ? "interval" : "step", value: (_plot, value, _series, index) => (value === null ? "–" : names[index]) },
        ...series.map((one) => ({ ...one, value: (_plot, value) => short(value) })),
      ],
      cursor: { drag: { x: false, y: false } },
      // The legend has the newest values, until somebody points at others.
      hooks: { draw: [marks(rows, xs)], ready: [(drawn) => drawn.setLegend({ idx: xs.length - 1 })] },
    },
    data,
    place,
  );
  place.firstElementChild.setAttribute("aria-hidden", "true");
  figure.plot = plot;
}

function drawAll(within) {
  for (const figure of within.querySelectorAll("figure[data-chart]")) {
    if (!figure.classList.contains("drawn")) figure.querySelector("details").open = false; // the chart says it shorter
    figure.classList.add("drawn");
    draw(figure);
    widths.observe(figure.querySelector(".plot"));
  }
}

const widths = new ResizeObserver((entries) => {
  for (const entry of entries) {
    const plot = entry.target.closest("figure").plot;
    if (plot && entry.contentRect.width > 0 && Math.abs(plot.width - entry.contentRect.width) > 1) {
      plot.setSize({ width: entry.contentRect.width, height: HEIGHT });
    }
  }
});

let renewing = false;
const shown = new WeakMap(); // part -> what the server said of it last

// Parts of the page that change while people look: fetched with the page itself, so that there is one truth.
async function renew() {
  if (document.hidden || renewing) return; // one at a time, however slow the server is
  renewing = true;
  const page = await fetchPage();
  renewing = false;
  document.getElementById("behind").hidden = page !== null;
  if (page === null) return; // the next one may come through
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(part.id);
    if (fresh === null || fresh.innerHTML === shown.get(part) || part.contains(document.activeElement)) continue;
    shown.set(part, fresh.innerHTML);
    part.querySelectorAll("figure[data-chart]").forEach(erase);
    const open = [...part.querySelectorAll("details")].map((one) => one.open);
    part.replaceChildren(...fresh.childNodes);
    drawAll(part);
    part.querySelectorAll("details").forEach((one, index) => (one.open = open[index] ?? one.open));
  }
}

async function fetchPage() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error" });
    return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
  } catch {
    return null;
  }
}

// Airflow's frame lets no link out of it; a link of the same kind in the page around it may.
function leadOut(event) {
  const link = event.target.closest("a[target]");
  if (link === null || window.parent === window || event.button !== 0) return;
  let around;
  try {
    around = window.parent.document;
  } catch {
    return;
  }
  event.preventDefault();
  const twin = around.createElement("a");
  twin.href = link.href;
  twin.rel = "noopener";
  twin.target = link.target === "_blank" || event.ctrlKey || event.metaKey ? "_blank" : "_self";
  around.body.append(twin);
  twin.click();
  twin.remove();
}

// A form that starts a DAG, or keeps what somebody says of an answer: Airflow asks who it is and whether they may.
async function send(event) {
  const form = event.target.closest("form[data-runs], form[data-review]");
  if (form === null) return;
  event.preventDefault();
  const said = form.querySelector("output");
  const button = form.querySelector("button");
  const conf = Object.fromEntries(new FormData(form));
  const { runs, review } = form.dataset;
  if (runs) conf.hours = Number(conf.hours);
  button.disabled = true;
  try {
    const answer = await fetch(runs ?? review, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(runs ? { logical_date: null, conf } : conf),
    });
    if (answer.ok) {
      said.textContent = runs ? "Airflow does it now; this page shows it in a moment." : "Kept.";
      if (review) form.querySelectorAll("input, textarea").forEach((one) => (one.disabled = true));
      button.blur(); // a part of the page in which somebody types is not renewed
      return;
    }
    const { detail } = await answer.json().catch(() => ({}));
    said.textContent = `${runs ? "Airflow refused it" : "Not kept"} (${answer.status})${typeof detail === "string" ? `: ${detail}` : ""}`;
  } catch {
    said.textContent = runs ? "Airflow did not answer; nothing was done." : "The server did not answer: load the page to see whether it is kept.";
  }
  button.disabled = false;
}

document.addEventListener("submit", send);
document.addEventListener("click", leadOut);
document.addEventListener("themechange", () => drawAll(document));
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(document));
document.querySelectorAll("[data-live]").forEach((part) => shown.set(part, part.innerHTML));
drawAll(document);
if (document.querySelector("main [data-live]")) setInterval(renew, LIVE_SECONDS * 1000);
