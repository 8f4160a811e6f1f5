// Measures reports in frames of this page: charts that are cut or empty, text that is cut, overlaps
// or is too small, and whatever is wider than the page. Writes one JSON object: the name of each
// frame, what was measured, and what is wrong.
"use strict";

const SMALLEST_TEXT_PX = 9;
// Half the width of a line or the radius of a point.
const POINT_PX = 5;

const within = (inner, outer, slack) =>
  inner.left >= outer.left - slack && inner.right <= outer.right + slack &&
  inner.top >= outer.top - slack && inner.bottom <= outer.bottom + slack;

const overlap = (a, b) =>
  Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;

function checkChart(figure, page, found) {
  const view = figure.ownerDocument.defaultView;
  const wrong = (what) => found.problems.push(`${figure.querySelector("h3").textContent}: ${what}`);
  const svg = figure.querySelector("svg");
  if (!svg) {
    wrong("there is no chart");
    return;
  }
  found.charts += 1;
  const box = svg.getBoundingClientRect();
  if (box.width < 250 || !within(box, page, 0.5)) wrong(`the chart is cut or too small: ${box.left} to ${box.right}`);

  const scale = box.width / svg.viewBox.baseVal.width;
  const [left, top, right, bottom] = figure.dataset.plot.split(" ").map((at) => Number(at) * scale);
  const plot = { left: box.left + left, top: box.top + top, right: box.left + right, bottom: box.top + bottom };

  const said = (text) => text.textContent.trim();
  const texts = [...svg.querySelectorAll("text")].filter(said);
  const boxes = texts.map((text) => text.getBoundingClientRect());
  found.texts += texts.length;
  texts.forEach((text, at) => {
    if (!within(boxes[at], box, 0.5)) wrong(`text is cut: ${said(text)}`);
    const size = parseFloat(view.getComputedStyle(text).fontSize) * scale;
    if (size < SMALLEST_TEXT_PX) wrong(`text is too small: ${said(text)}, ${size} px`);
    const hidden = texts.findIndex((_, other) => other < at && overlap(boxes[at], boxes[other]));
    if (hidden >= 0) wrong(`texts overlap: ${said(text)} and ${said(texts[hidden])}`);
  });

  // Every series of the legend is drawn, in its color, within the plot.
  const shapes = [...svg.querySelectorAll("polyline, polygon, line, circle, path")];
  for (const item of figure.querySelectorAll(".legend li")) {
    const color = view.getComputedStyle(item.querySelector("b")).color;
    const drawn = shapes.filter((shape) => {
      const style = view.getComputedStyle(shape);
      return style.stroke === color || style.fill === color;
    });
    const seen = drawn.map((shape) => shape.getBoundingClientRect()).filter((at) => at.width > 0 || at.height > 0);
    found.series += 1;
    if (seen.length === 0) wrong(`nothing is drawn for ${item.textContent}`);
    if (seen.some((at) => !within(at, plot, POINT_PX))) wrong(`points outside of the plot: ${item.textContent}`);
  }
  if (!figure.querySelector(".legend li")) wrong("there is no series");
}

function check(frame) {
  const page = frame.contentDocument;
  const root = page.documentElement;
  const found = { width: root.clientWidth, charts: 0, series: 0, texts: 0, rows: 0, problems: [] };
  if (root.scrollWidth > root.clientWidth) {
    found.problems.push(`the page scrolls sideways: ${root.scrollWidth} of ${root.clientWidth} px`);
  }
  const area = { left: 0, top: 0, right: root.clientWidth, bottom: root.scrollHeight };
  page.querySelectorAll("figure").forEach((figure) => checkChart(figure, area, found));
  for (const element of page.querySelectorAll("main *")) {
    const scrolls = element.closest(".scroll");
    const box = element.getBoundingClientRect();
    const mayScroll = scrolls && page.defaultView.getComputedStyle(scrolls).overflowX === "auto";
    if (box.width > 0 && box.right > root.clientWidth + 0.5 && !mayScroll) {
      found.problems.push(`beyond the page: ${element.tagName} ${element.textContent.slice(0, 40)}`);
    }
  }
  found.rows = [...page.querySelectorAll("tbody tr")].filter((row) => row.checkVisibility({ contentVisibilityAuto: true }) && row.getBoundingClientRect().height > 0).length;
  return found;
}

addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) found[frame.name] = check(frame);
  const text = JSON.stringify(found).replace(/[<>&\u00a0]/g, "_");
  document.body.innerHTML = `<pre id="found">${text}</pre>`;
});
