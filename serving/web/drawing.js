// Pictures: HTML for bars, SVG for lines. Text goes in as text, never as HTML: labels come from whoever made the model.

const COLOURS = 8;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function short(value) {
  if (value === null || !Number.isFinite(value)) return "none";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toFixed(size < 10 ? 4 : 2)));
}

/** The largest values as bars, the largest first. */
function bars(values, names, most = 10) {
  const order = values.map((value, index) => ({ value: value ?? 0, index })).sort((a, b) => b.value - a.value);
  const table = element("table", { class: "bars" });
  for (const { value, index } of order.slice(0, most)) {
    const fill = element("div", { class: "fill" });
    fill.style.width = `${100 * Math.min(1, Math.max(0, value))}%`;
    table.append(element(
      "tr", {},
      element("th", { scope: "row", title: names(index) }, names(index)),
      element("td", {}, element("div", { class: "track", "aria-hidden": "true" }, fill)),
      element("td", { class: "number" }, value.toFixed(4)),
    ));
  }
  const rest = order.length - most;
  return rest > 0 ? [table, element("p", { class: "hint" }, `and ${rest} more`)] : [table];
}

/**
 * Lines over time in `place`, drawn again whenever its width changes.
 *
 * lines: [{name, colour, points: [[step, value], ...]}]; a value that is null leaves a gap.
 * range: {first, last, low, high}; low and high are found where they are missing. now: a step to mark.
 */
function plot(place, lines, label, range, now) {
  const draw = () => place.replaceChildren(picture(lines, label, range, now, place.clientWidth || 600), legend(lines));
  place.drawAgain = draw;
  observer.observe(place);
  draw();
}

const observer = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    if (target.drawnWidth !== contentRect.width) {
      target.drawnWidth = contentRect.width;
      target.drawAgain();
    }
  }
});

/** Round numbers from low to high, about as many as wanted. */
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const first = Math.ceil(low / size - 1e-9);
  const count = Math.floor(high / size + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, index) => Number(((first + index) * size).toPrecision(12)));
}

function picture(lines, label, range, now, width) {
  const [height, left, right, top, bottom] = [170, 46, 10, 8, 22];
  const values = lines.flatMap(({ points }) => points.map(([, value]) => value)).filter(Number.isFinite);
  let low = range.low ?? Math.min(...values), high = range.high ?? Math.max(...values);
  if (!(low < high)) [low, high] = Number.isFinite(low) ? [low - 1, high + 1] : [0, 1];
  const last = Math.max(range.last, range.first + 1);
  const x = (step) => left + ((step - range.first) / (last - range.first)) * (width - left - right);
  const y = (value) => top + ((high - value) / (high - low)) * (height - top - bottom);
  const made = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  for (const value of ticks(low, high, 4)) {
    made.append(svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    made.append(svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  for (const step of ticks(range.first, last, Math.min(8, last - range.first)).filter(Number.isInteger)) {
    const anchor = x(step) > width - 20 ? "end" : "middle";
    made.append(svg("text", { x: x(step), y: height - 5, "text-anchor": anchor }, String(step)));
  }
  if (now !== undefined) made.append(svg("line", { class: "now", x1: x(now), x2: x(now), y1: top, y2: height - bottom }));
  for (const { colour, points } of lines) {
    const there = points.filter(([, value]) => Number.isFinite(value));
    if (there.length === 1) made.append(svg("circle", { class: `s${colour}`, cx: x(there[0][0]), cy: y(there[0][1]), r: 3 }));
    let pen = "M", path = "";
    for (const [step, value] of points) {
      path += Number.isFinite(value) ? `${pen}${x(step).toFixed(1)} ${y(value).toFixed(1)}` : "";
      pen = Number.isFinite(value) ? "L" : "M";
    }
    made.append(svg("path", { class: `s${colour}`, d: path }));
  }
  return made;
}

function legend(lines) {
  if (lines.length < 2) return "";
  const items = lines.map(({ name, colour }) => element("li", { class: `s${colour}` }, element("span", {}, name)));
  return element("ul", { class: "legend", "aria-hidden": "true" }, ...items);
}

/** The columns of rows [[...], ...] as lines; of more than the colours allow, those that come highest. */
function columns(rows, names, first = 0) {
  const peak = (index) => rows.reduce((most, [, row]) => Math.max(most, row[index] ?? -Infinity), -Infinity);
  const all = Array.from({ length: rows[0]?.[1].length ?? 0 }, (_, index) => index);
  const shown = all.length > COLOURS
    ? all.sort((a, b) => peak(b) - peak(a)).slice(0, COLOURS).sort((a, b) => a - b) : all;
  return shown.map((index, place) => ({
    name: names(index), colour: place % COLOURS, points: rows.map(([step, row]) => [first + step, row[index]]),
  }));
}
