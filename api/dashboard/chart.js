// One picture of a job: what was observed, the band foretold, what the machine holds, and what is known to come.

import { columnName, figure, known, short } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const EDGE = { left: 50, right: 14, top: 26, bottom: 28 };

function draw(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Reads both answers into points {x, step, ...} over steps or over time (seconds since the epoch).
export function scene(past, ahead, column, axis) {
  const time = (text) => Date.parse(text) / 1000;
  const over = (step, at) => (axis === "step" ? step : at);
  const observed = past.step.map((step, i) => ({
    x: over(step, time(past.at[i])), step, y: (past.columns[column] || [])[i] ?? null,
  }));
  const band = (ahead.quantiles || {})[column];
  const made = ahead.made_at ? time(ahead.made_at) : null;
  const timed = axis === "step" || ahead.seconds.length === ahead.steps.length;
  const foretold = !band || !timed ? [] : ahead.steps.map((step, k) => ({
    x: over(step, made + (ahead.seconds[k] ?? 0)), step, low: band.p10[k], y: band.p50[k], high: band.p90[k],
  })).filter((p) => known(p.y));
  // the band grows out of what was seen last
  const last = observed.filter((p) => known(p.y)).pop();
  if (last && foretold.length && last.x <= foretold[0].x) foretold.unshift({ ...last, low: last.y, high: last.y, joint: true });
  const machines = [...past.capacity, ...ahead.capacity]
    .map((c) => ({ x: over(c.from_step, time(c.at)), offer: c.offer, y: c.limits[column] ?? null }))
    .filter((c) => known(c.x));
  const changes = past.declared
    .map((d) => ({ x: placeOf(d.from_step, past, ahead, over, time, made), what: d.hyperparameters }))
    .filter((d) => known(d.x));
  const now = observed.length ? observed[observed.length - 1].x : null;
  return { observed, foretold, machines: merged(machines), changes, now, axis, column };
}

// Where a step lies on the axis: between the points that are known.
function placeOf(step, past, ahead, over, time, made) {
  const points = past.step.map((s, i) => [s, time(past.at[i])]);
  ahead.steps.forEach((s, k) => points.push([s, made + (ahead.seconds[k] ?? NaN)]));
  const after = points.findIndex(([s]) => s >= step);
  if (after < 0 || (after === 0 && points[0][0] > step)) return null;
  if (after === 0) return over(step, points[0][1]);
  const [[s0, t0], [s1, t1]] = [points[after - 1], points[after]];
  return over(step, t0 + ((step - s0) / (s1 - s0)) * (t1 - t0));
}

function merged(machines) {
  return machines.filter((m, i) => i === 0 || m.offer !== machines[i - 1].offer);
}

function nice(low, high, count) {
  const raw = (high - low) / Math.max(count, 1) || 1;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s >= raw);
  const ticks = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-6; t += step) ticks.push(Number(t.toPrecision(12)));
  return ticks;
}

const CLOCK = [10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

// Whole minutes, hours or days of the reader's own time zone.
function hoursOf(low, high, count) {
  const step = CLOCK.find((s) => s >= (high - low) / Math.max(count, 1)) || CLOCK[CLOCK.length - 1];
  const shift = new Date(low * 1000).getTimezoneOffset() * 60;
  const ticks = [];
  for (let t = Math.ceil((low - shift) / step) * step + shift; t <= high; t += step) ticks.push(t);
  return ticks;
}

function bounds(picture) {
  const xs = [...picture.observed, ...picture.foretold].map((p) => p.x);
  const ys = [
    ...picture.observed.map((p) => p.y), ...picture.foretold.flatMap((p) => [p.low, p.high]),
  ].filter(known);
  if (!xs.length || !ys.length) return null;
  const top = Math.max(...ys);
  const low = Math.min(...ys);
  const held = picture.machines.map((m) => m.y).filter(known);
  const roof = held.length ? Math.max(top, Math.min(Math.max(...held), top * 2.4)) : top;
  const zero = picture.column.startsWith("usage.") || picture.column === "step_seconds" || low >= 0;
  const room = (roof - (zero ? 0 : low)) * 0.08 || 1;
  let [left, right] = [Math.min(...xs), Math.max(...xs)];
  if (left === right) right = left + 1;
  return { left, right, low: zero ? 0 : low - room, high: roof + room };
}

// A line through points; a gap where a value is unknown.
function line(points, x, y) {
  let path = "";
  let pen = "M";
  for (const p of points) {
    if (!known(p.y)) { pen = "M"; continue; }
    path += `${pen}${x(p.x).toFixed(1)},${y(p.y).toFixed(1)}`;
    pen = "L";
  }
  return path;
}

function stepped(machines, x, y, right) {
  let path = "";
  machines.forEach((m, i) => {
    if (!known(m.y)) return;
    const end = i + 1 < machines.length ? machines[i + 1].x : right;
    const joined = i > 0 && known(machines[i - 1].y);
    path += `${joined ? "L" : "M"}${x(m.x).toFixed(1)},${y(m.y).toFixed(1)}H${x(end).toFixed(1)}`;
  });
  return path;
}

function axes(svg, area, ticksX, ticksY, x, y, axis) {
  const places = Math.max(0, ...ticksY.map((t) => (String(t).split(".")[1] || "").length));
  for (const t of ticksY) {
    svg.append(draw("line", { class: "grid", x1: area.left, x2: area.right, y1: y(t), y2: y(t) }));
    svg.append(draw("text", { x: area.left - 7, y: y(t) + 4, "text-anchor": "end" },
      Math.abs(t) < 10000 && places < 4 ? t.toFixed(places) : figure(t)));
  }
  for (const t of ticksX) {
    const text = axis === "step" ? figure(t)
      : new Date(t * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
    const anchor = x(t) > area.right - 20 ? "end" : "middle";
    svg.append(draw("text", { x: x(t), y: area.bottom + 18, "text-anchor": anchor }, text));
  }
}

// Names on the chart keep a distance from each other and from its edges.
function labels(svg, area, wanted) {
  const taken = [];
  for (const { x, y, text, kind } of wanted) {
    const width = text.length * 6.6;
    const left = Math.max(area.left + 4, Math.min(x + 5, area.right - width));
    let top = Math.max(y, area.top - 10);
    // Those that begin near the bottom give way upwards, so that none lies over the axis.
    const away = top > area.bottom - 40 ? -14 : 14;
    while (taken.some((t) => Math.abs(t.top - top) < 14 && t.left < left + width && left < t.right)) top += away;
    taken.push({ top, left, right: left + width });
    svg.append(draw("text", { class: kind, x: left, y: top }, text));
  }
}

export function paint(svg, picture) {
  const width = svg.clientWidth || 600;
  const height = svg.clientHeight || 320;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  const box = bounds(picture);
  if (!box) {
    svg.append(draw("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing was reported of this yet"));
    svg.setAttribute("aria-label", "nothing to show yet");
    return null;
  }
  const area = { left: EDGE.left, right: width - EDGE.right, top: EDGE.top, bottom: height - EDGE.bottom };
  const x = (v) => area.left + ((v - box.left) / (box.right - box.left)) * (area.right - area.left);
  const y = (v) => area.bottom - ((Math.min(v, box.high) - box.low) / (box.high - box.low)) * (area.bottom - area.top);
  const ticks = picture.axis === "step" ? nice : hoursOf;
  axes(svg, area, ticks(box.left, box.right, width / 110), nice(box.low, box.high, 5), x, y, picture.axis);
  const { observed, foretold, machines, changes, now } = picture;
  const inside = changes.filter((d) => d.x >= box.left && d.x <= box.right);
  for (const d of inside) svg.append(draw("line", { class: "declared", x1: x(d.x), x2: x(d.x), y1: area.top, y2: area.bottom }));
  if (now !== null) svg.append(draw("line", { class: "now", x1: x(now), x2: x(now), y1: area.top, y2: area.bottom }));
  if (foretold.length) {
    const up = foretold.map((p) => ({ x: p.x, y: p.high }));
    const down = foretold.map((p) => ({ x: p.x, y: p.low })).reverse();
    const edge = [...up, ...down].map((p) => `${x(p.x).toFixed(1)},${y(p.y).toFixed(1)}`);
    svg.append(draw("path", { id: "band", d: `M${edge.join("L")}Z` }));
    svg.append(draw("path", { id: "median", d: line(foretold, x, y) }));
  }
  svg.append(draw("path", { id: "observed", d: line(observed, x, y) }));
  const steps = machines.map((m) => ({ ...m, x: Math.min(Math.max(m.x, box.left), box.right) }));
  if (steps.some((m) => known(m.y))) svg.append(draw("path", { id: "capacity", d: stepped(steps, x, y, box.right) }));
  const names = steps.filter((m) => known(m.y)).map((m) => ({
    x: x(m.x), y: y(m.y) - 6, kind: "machine",
    text: short(m.offer) + (m.y > box.high ? ` (${figure(m.y)}, above)` : ` (${figure(m.y)})`),
  }));
  const said = inside.map((d) => ({
    x: x(d.x), y: area.bottom - 8, kind: "declared-name",
    text: Object.entries(d.what).map(([k, v]) => `${k.slice(0, 24)} ${figure(v)}`).join(", ").slice(0, 40),
  }));
  labels(svg, area, [...names, ...said]);
  if (now !== null) svg.append(draw("text", { x: x(now), y: 12, "text-anchor": "middle" }, "now"));
  svg.append(draw("line", { class: "cursor", y1: area.top, y2: area.bottom, visibility: "hidden" }));
  svg.setAttribute("aria-label", summary(picture));
  return { x, area, points: [...observed, ...foretold].filter((p) => known(p.y) && !p.joint) };
}

function summary({ observed, foretold, machines, column }) {
  const last = observed.filter((p) => known(p.y)).pop();
  const end = foretold[foretold.length - 1];
  const parts = [columnName(column)];
  if (last) parts.push(`now ${figure(last.y)} at step ${figure(last.step)}`);
  if (end) parts.push(`foretold ${figure(end.low)} to ${figure(end.high)} at step ${figure(end.step)}`);
  if (machines.length) parts.push("on " + machines.map((m) => short(m.offer)).join(", then "));
  return parts.join("; ") + ". Arrow keys read single points.";
}

// Moves the cursor to a point and says what is there.
export function point(svg, painted, picture, index, reading) {
  const p = painted.points[index];
  const cursor = svg.querySelector(".cursor");
  cursor.setAttribute("x1", painted.x(p.x));
  cursor.setAttribute("x2", painted.x(p.x));
  cursor.setAttribute("visibility", "visible");
  const under = picture.machines.filter((m) => m.x <= p.x).pop();
  const holds = under && known(under.y) ? `; ${short(under.offer)} holds ${figure(under.y)}` : "";
  const told = known(p.low) ? `${figure(p.low)} – ${figure(p.high)}, median ${figure(p.y)}` : `observed ${figure(p.y)}`;
  reading.textContent = `step ${figure(p.step)}: ${told}${holds}`;
}
