// What the pages do beyond links and forms. Without it everything still works, but
// for the chart (its numbers are in a table) and copying.
"use strict";

const $ = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

// A link that logs in once has its code behind #, which no server sees.
function once() {
  const form = $("#login"), code = location.hash.slice(1);
  if (!form || !code) return;
  history.replaceState(null, "", location.pathname);
  $("#token").value = code;
  form.submit();
}
once();
addEventListener("hashchange", once);

// dress gives a part of the page what it needs a script for.
function dress(part) {
  for (const button of all("[data-copy]", part)) button.hidden = !navigator.clipboard;
  for (const button of all("[data-step], .print", part)) button.hidden = false;
  for (const at of all("nav [aria-current=page]", part)) at.scrollIntoView({ block: "nearest", inline: "center" });
  draw();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.copy) {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
    const was = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = was; }, 2000);
  }
  if (button.dataset.step) {
    const units = $("#units");
    if (button.dataset.step > 0) units.stepUp(); else units.stepDown();
    units.dispatchEvent(new Event("input", { bubbles: true }));
  }
  if (button.classList.contains("print")) window.print();
});

// A form is sent once, however often its button is pushed.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => { for (const form of all("form")) delete form.dataset.sent; });

// Readers of the screen hear that something changed, and not each time.
const kinds = { order: "Orders have changed.", device: "Devices have changed.", price: "A price has changed.", session: "Sessions have changed.", payment: "A payment was made." };
let told = 0;
for (const [kind, text] of Object.entries(kinds)) {
  $("#events")?.addEventListener(kind, () => {
    if (Date.now() - told < 15000) return;
    told = Date.now();
    $("#news").textContent = text;
  });
}

// A buyer hears the sentence only when it has changed.
function say() {
  const state = $("#state"), says = $("#says");
  if (!state || !says || says.textContent.trim() === state.dataset.says) return;
  says.className = "says-now " + state.dataset.colour;
  $("use", says).setAttribute("href", "#s-" + state.dataset.sign);
  $("span", says).textContent = state.dataset.says;
}

document.addEventListener("htmx:after:swap", () => { dress(document); say(); });

// The chart: what was earned as bars, what was spent as a line.
let chart, drawn;
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => { drawn = ""; draw(); });
addEventListener("resize", () => chart?.setSize(size($("#plot"))));

const size = (box) => ({ width: box.clientWidth, height: innerWidth < 600 ? 210 : 260 });

function draw() {
  const box = $("#plot");
  if (!box || typeof uPlot === "undefined" || drawn === box.dataset.points) return;
  drawn = box.dataset.points;
  chart?.destroy();
  const style = getComputedStyle(document.documentElement);
  const probe = document.createElement("i"); // light-dark() is resolved on an element only
  box.append(probe);
  const colour = (name) => { probe.style.color = style.getPropertyValue(name); return getComputedStyle(probe).color; };
  const ink = colour("--dim"), line = colour("--line"), teal = colour("--teal"), brass = colour("--brass");
  probe.remove();
  const hourly = box.dataset.hourly === "true", rate = Number(box.dataset.sat) / 1e6, currency = box.dataset.currency;
  const sat = (_, v) => v == null ? "–" : v.toLocaleString("en", { maximumFractionDigits: 3 }) + " sat" +
    (rate > 0 ? " · " + (v * rate / 1e8).toLocaleString("en", { maximumFractionDigits: v * rate / 1e8 < 0.1 ? 4 : 2 }) + " " + currency : "");
  const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const label = (t) => { const d = new Date(t * 1000); return hourly ? String(d.getUTCHours()).padStart(2, "0") + ":00" : d.getUTCDate() + " " + months[d.getUTCMonth()]; };
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
  const data = JSON.parse(drawn);
  const step = hourly ? 3600 : 86400;
  const last = data[0].length - 1; // what the legend says while nobody points
  chart = new uPlot({
    ...size(box),
    hooks: { ready: [(u) => u.setLegend({ idx: last })], setCursor: [(u) => { if (u.cursor.idx == null) u.setLegend({ idx: last }); }] },
    tzDate: (t) => uPlot.tzDate(new Date(t * 1000), "Etc/UTC"),
    cursor: { points: { size: 8 }, drag: { x: false, y: false } },
    scales: {
      x: { range: () => [data[0][0] - step * 0.6, data[0].at(-1) + step * 0.6] },
      y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] },
    },
    axes: [
      { ...axis, grid: { show: false }, space: 56, splits: () => data[0].filter((_, i) => i % Math.ceil(data[0].length * 60 / Math.max(box.clientWidth - 60, 60)) === 0), values: (_, at) => at.map(label) },
      { ...axis, size: 62, values: (_, at) => at.map((v) => v >= 1e6 ? v / 1e6 + " M" : v >= 1e4 ? v / 1e3 + " k" : String(v)) },
    ],
    series: [
      { label: hourly ? "Hour" : "Day", value: (_, t) => t == null ? "–" : label(t) },
      { label: "Earned", stroke: teal, fill: teal, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.7, 40], radius: 0.15 }), value: sat },
      { label: "Spent", stroke: brass, width: 2, points: { show: true, size: 5, fill: brass }, value: sat },
    ],
  }, data, box);
}

dress(document);
