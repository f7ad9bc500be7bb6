// What the page does beyond showing: a pointer or the arrow keys read out a chart's points from the
// table behind it, and a page that is served renews itself. Without it every number is still there.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function readable(figure) {
  const plot = figure.querySelector(".plot");
  const rows = [...figure.querySelectorAll("tbody tr")];
  if (!plot || !rows.length) return;
  const svg = plot.querySelector("svg");
  const readout = figure.querySelector(".readout");
  const names = [...figure.querySelectorAll("thead th")].map((cell) => cell.textContent);
  const at = rows.map((row) => Number(row.dataset.x));
  const [left, span, height] = ["left", "span", "height"].map((name) => Number(plot.dataset[name]));
  const top = svg.viewBox.baseVal.height - height;
  const cursor = document.createElementNS(SVG, "line");
  cursor.setAttribute("class", "cursor");
  let shown = null;

  const show = (index) => {
    shown = Math.max(0, Math.min(rows.length - 1, index));
    const x = left + span * at[shown];
    for (const [name, value] of [["x1", x], ["x2", x], ["y1", top], ["y2", height]]) cursor.setAttribute(name, value);
    svg.append(cursor);
    const [first, ...cells] = [...rows[shown].children].map((cell) => cell.textContent);
    const told = cells.map((text, place) => text && `${names[place + 1]} ${text}`).filter(Boolean);
    readout.textContent = [first, ...told].join(" · ");
  };
  const hide = () => {
    shown = null;
    cursor.remove();
    readout.textContent = "";
  };

  plot.tabIndex = 0;
  plot.setAttribute("role", "group");
  plot.setAttribute("aria-label", `${figure.querySelector("h4").textContent}: the arrow keys read out its points`);
  plot.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const wanted = (x - left) / span;
    let nearest = 0;
    at.forEach((place, index) => {
      if (Math.abs(place - wanted) < Math.abs(at[nearest] - wanted)) nearest = index;
    });
    show(nearest);
  });
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", (event) => {
    const now = shown ?? rows.length;
    const wanted = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: rows.length - 1 }[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    show(wanted);
  });
}

function start() {
  document.querySelectorAll(".chart").forEach(readable);
}

// The new page in place of the old one; what was opened stays open, and the focus stays where it was.
async function renew() {
  if (document.hidden) return;
  let text;
  try {
    const answer = await fetch(location.href);
    if (!answer.ok) throw new Error(answer.statusText);
    text = await answer.text();
  } catch {
    document.querySelector(".ages").textContent = "Not renewed: kt dashboard --serve does not answer.";
    return;
  }
  const page = new DOMParser().parseFromString(text, "text/html");
  const open = [...document.querySelectorAll("details[open]")].map((each) => each.id);
  const focus = document.activeElement.closest("[id]");
  const inside = focus && [...focus.querySelectorAll("[tabindex], summary, a")].indexOf(document.activeElement);
  for (const part of ["header", "main"]) document.querySelector(part).replaceWith(page.querySelector(part));
  document.title = page.title;
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  start();
  const again = focus && document.getElementById(focus.id);
  if (again) (inside >= 0 ? again.querySelectorAll("[tabindex], summary, a")[inside] : again)?.focus();
}

start();
const every = Number(document.body.dataset.live);
if (every) setInterval(renew, every * 1000);
