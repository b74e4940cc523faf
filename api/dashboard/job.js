// The second page: one job, its picture and its decisions.

import { ask } from "./ask.js";
import { paint, point, scene } from "./chart.js";
import { endOf, nextOf, progressOf } from "./fleet.js";
import { chip, clock, columnName, known, machine, make, money, say, share, short, span } from "./words.js";

const el = (id) => document.getElementById(id);
const FIRST = ["usage.gpu_memory_gib", "usage.memory_gib", "step_seconds"];

const view = { name: "", picture: null, painted: null, index: 0, full: new Map() };

export function openJob(name) {
  if (view.name === name) return;
  Object.assign(view, { name, picture: null, painted: null, index: 0, full: new Map() });
  say(el("job-name"), name);
  for (const id of ["facts", "chart", "decisions", "column", "legend"]) el(id).replaceChildren();
  say(el("reading"), "");
  say(el("forecast-note"), "");
  document.title = name + " · Scaleahead";
}

export function closeJob() {
  view.name = "";
}

export async function showJob(refresh) {
  const name = view.name;
  const path = "/v1/jobs/" + encodeURIComponent(name);
  const wanted = el("column").value;
  const columns = wanted ? "?columns=" + encodeURIComponent(wanted) : "";
  const [fleet, past, ahead, log] = await Promise.all([
    ask("/v1/fleet?job=" + encodeURIComponent(name)),
    ask(path + "/history" + columns), ask(path + "/forecast" + columns), ask(path + "/decisions?limit=50"),
  ]);
  if (view.name !== name) return fleet;
  const job = fleet.jobs[0];
  choices(past.available);
  if (el("column").value !== wanted) return showJob(refresh);
  if (job) facts(job, ahead, fleet.at);
  picture(past, ahead);
  decisions(log.decisions, refresh);
  return fleet;
}

function choices(available) {
  const select = el("column");
  const shown = [...select.options].map((o) => o.value);
  if (shown.join() === available.join()) return;
  const before = select.value;
  select.replaceChildren(...available.map((name) => make("option", { text: columnName(name), value: name })));
  const first = FIRST.find((name) => available.includes(name));
  select.value = available.includes(before) ? before : first || available[0] || "";
}

function facts(job, ahead, at) {
  chip(el("job-state"), job.state === "active" ? job.training : job.state);
  const rows = [
    ["Machine", machine(job.machine)],
    ["Now", known(job.usd_per_hour) ? money(job.usd_per_hour) + "/h" : "unknown"],
    ["Spent", money(job.spent_usd) + (known(job.budget_usd) ? " of " + money(job.budget_usd) : "")],
    ["Progress", progressOf(job)],
    ["Ends (p10–p90)", endOf(job, at)],
    ["Next planned", nextOf(job)],
    ["Forecast", skill(ahead)],
  ];
  if (job.kills) rows.push(["Out of memory", `killed ${job.kills}×`]);
  if (job.error) rows.push(["Not heard", job.error]);
  const box = el("facts");
  const shown = make("dl", {}, ...rows.map(([term, what]) => make("div", {}, make("dt", { text: term }), make("dd", {}, what))));
  if (box.innerHTML !== shown.innerHTML) {
    box.replaceChildren(...shown.childNodes);
    const bar = box.querySelector("progress");
    if (bar) bar.value = job.progress;
  }
}

function skill({ drift, method }) {
  if (!method) return "none yet";
  const box = make("span", { text: drift.trusted ? method : method + ", not trusted now" });
  const gain = known(drift.gain)
    ? `${share(Math.abs(drift.gain))} ${drift.gain >= 0 ? "less" : "more"} error than "as now", ${drift.pairs} checks`
    : "not enough checks yet";
  box.append(make("small", { text: gain }));
  return box;
}

function picture(past, ahead) {
  const column = el("column").value;
  view.picture = scene(past, ahead, column, el("axis").value);
  repaint();
  const { observed, foretold, machines, changes } = view.picture;
  const entries = [
    [observed.length, "observed", ""], [foretold.length, "p10–p90 ahead", "of-band"], [foretold.length, "median", "of-median"],
    [machines.some((m) => known(m.y)), "the machine holds", "of-capacity"], [changes.length, "declared change", "of-declared"],
  ];
  el("legend").replaceChildren(...entries.filter(([on]) => on).map(([, text, kind]) => make("li", { text, kind })));
  const parts = [];
  if (ahead.missing) parts.push(ahead.missing);
  if (ahead.reason) parts.push("Forecast: " + ahead.reason);
  if (ahead.unknown.length) parts.push("cannot be foretold: " + ahead.unknown.join(", "));
  if (ahead.plan.length) parts.push("Plan: " + ahead.plan.map((m) => `${short(m.offer)} from step ${m.at_step}`).join(", then "));
  say(el("forecast-note"), parts.join(". "));
}

export function repaint() {
  if (!view.picture || !view.name) return;
  view.painted = paint(el("chart"), view.picture);
  if (view.painted && document.activeElement === el("chart")) pointTo(view.index);
}

function pointTo(index) {
  if (!view.painted?.points.length) return;
  view.index = Math.max(0, Math.min(index, view.painted.points.length - 1));
  point(el("chart"), view.painted, view.picture, view.index, el("reading"));
}

export function listen(refresh) {
  const chart = el("chart");
  chart.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 }[event.key];
    if (!steps) return;
    event.preventDefault();
    pointTo(view.index + steps);
  });
  chart.addEventListener("focus", () => {
    const seen = view.painted?.points.findIndex((p) => known(p.low)) ?? -1;
    if (!view.index) view.index = seen < 1 ? 0 : seen - 1;
    pointTo(view.index);
  });
  chart.addEventListener("pointermove", (event) => {
    if (!view.painted) return;
    const at = event.clientX - chart.getBoundingClientRect().left;
    const gaps = view.painted.points.map((p) => Math.abs(view.painted.x(p.x) - at));
    pointTo(gaps.indexOf(Math.min(...gaps)));
  });
  el("column").addEventListener("change", refresh);
  el("axis").addEventListener("change", refresh);
  new ResizeObserver(repaint).observe(chart);
}

function decisions(found, refresh) {
  const list = el("decisions");
  const items = new Map([...list.children].map((item) => [item.dataset.id, item]));
  for (const decision of found) {
    const item = items.get(decision.id) || newItem(decision);
    items.delete(decision.id);
    fillItem(item, decision, refresh);
    list.append(item);
  }
  for (const gone of items.values()) gone.remove();
  el("no-decisions").hidden = found.length > 0;
}

function newItem(decision) {
  const more = make("div", { kind: "more" });
  const head = make("span", { kind: "head" }, make("time"), make("span"), make("span"));
  const details = make("details", {}, make("summary", {}, head, make("span", { kind: "why" })), more);
  details.addEventListener("toggle", () => details.open && explain(decision.id, more));
  return make("li", { "data-id": decision.id, "data-test": "decision" }, details);
}

function fillItem(item, decision, refresh) {
  const [time, state, times] = item.querySelector(".head").children;
  const since = decision.repeats ? `${clock(decision.at)}–${clock(decision.last_at)}` : clock(decision.at);
  say(time, since);
  time.dateTime = decision.at;
  chip(state, decision.status);
  say(times, (decision.repeats ? `${decision.repeats + 1} times ` : "") + (decision.by ? "by " + decision.by : ""));
  say(item.querySelector(".why"), (decision.changes && decision.route !== "release" ? `To ${short(decision.chosen)}: ` : "") + decision.reason);
  const word = item.querySelector(".word");
  if (decision.status !== "waiting") word?.remove();
  else if (!word) item.append(buttons(decision, refresh));
  if (item.dataset.status !== decision.status) {
    view.full.delete(decision.id);
    item.dataset.status = decision.status;
    const details = item.querySelector("details");
    if (details.open) explain(decision.id, item.querySelector(".more"));
  }
}

function buttons(decision, refresh) {
  const box = make("div", { kind: "word" });
  for (const [verb, text, kind] of [["approve", "Approve", ""], ["reject", "Reject", "no"]]) {
    const name = `${text}: to ${short(decision.chosen)}`;
    const button = make("button", { text, kind, type: "button", "aria-label": name, "data-test": verb });
    button.addEventListener("click", async () => {
      for (const b of box.children) b.disabled = true;
      try {
        await ask(`/v1/decisions/${encodeURIComponent(decision.id)}/${verb}`, "POST");
      } catch (error) {
        refresh(error);
        for (const b of box.children) b.disabled = false;
        return;
      }
      refresh();
    });
    box.append(button);
  }
  return box;
}

async function explain(id, more) {
  let full = view.full.get(id);
  if (!full) {
    if (!more.childElementCount) say(more, "…");
    try {
      full = await ask("/v1/decisions/" + encodeURIComponent(id));
    } catch (error) {
      say(more, error.message);
      return;
    }
    view.full.set(id, full);
  }
  const head = make("tr", {}, ...["Option", "To the finish", "Takes", "Misfit"].map((t) => make("th", { text: t, scope: "col" })));
  const rows = full.options.flatMap(optionRows);
  const table = make("table", { kind: "options" }, make("thead", {}, head), make("tbody", {}, ...rows));
  const mode = `mode ${full.mode}, policy ${full.policy} @ ${full.policy_version}`;
  const shadow = full.shadow ? [make("p", { text: "Reactive twin: " + full.shadow })] : [];
  const other = full.rejected.filter((r) => !full.options.some((o) => o.offer.id === r.offer));
  const rest = other.length ? [make("p", { text: `Also ruled out: ${other.slice(0, 8).map((r) => `${short(r.offer)} (${r.limit})`).join(", ")}${other.length > 8 ? ` and ${other.length - 8} more` : ""}` })] : [];
  more.replaceChildren(make("div", { kind: "wide", tabindex: "0", role: "region", "aria-label": "options" }, table), ...rest, ...shadow, make("p", { text: mode }));
}

function optionRows(option) {
  const verdict = option.taken ? "taken" : option.limit ? `${option.limit}: ${option.detail}` : "not the best";
  const misfit = share(option.misfit) + (option.misfit_resource && option.misfit >= 0.001 ? ` ${option.misfit_resource.replace(/^usage\./, "").replaceAll("_", " ")}` : "");
  const kind = option.taken ? "taken" : "";
  const figures = make("tr", { kind },
    make("th", { text: short(option.offer.id) + (option.route === "stay" ? " (stay)" : option.route === "release" ? " (let go)" : ""), title: option.offer.id, scope: "row" }),
    make("td", { text: `${money(option.usd.p10)}–${money(option.usd.p90).replace("$", "")}` }),
    make("td", { text: span(hours(option.hours.p10), hours(option.hours.p90)) }),
    make("td", { text: misfit }));
  return [figures, make("tr", { kind: ("verdict " + kind).trim() }, make("td", { text: verdict, colspan: "4" }))];
}

const hours = (h) => (known(h) ? h * 3600 : null);
