// The first page: every job in a row.

import { chip, clock, figure, known, lasting, machine, make, money, say, share, short, span } from "./words.js";

const LABELS = ["", "Machine", "$/h", "Spent", "Progress", "Ends", "Next"];

export function sums(fleet) {
  say(document.getElementById("total-rate"), money(fleet.usd_per_hour) + "/h");
  say(document.getElementById("total-spent"), money(fleet.spent_usd));
  say(document.getElementById("total-jobs"), String(fleet.total));
  document.getElementById("sums").hidden = false;
  const ready = document.getElementById("ready");
  ready.hidden = false;
  chip(ready, fleet.ready ? "ready" : "not ready", fleet.ready ? "good" : "bad");
  const lines = [...fleet.reasons.map((r) => "Not ready: " + r), ...fleet.policy_problems.map((p) => "Policy: " + p)];
  const box = document.getElementById("problems");
  box.hidden = !lines.length;
  say(box, lines.join("\n"));
}

export function showFleet(fleet) {
  const body = document.getElementById("jobs");
  const rows = new Map([...body.children].map((row) => [row.dataset.job, row]));
  for (const job of fleet.jobs) {
    const row = rows.get(job.name) || newRow(job.name);
    rows.delete(job.name);
    const shown = JSON.stringify([job, fleet.at.slice(0, 18)]);
    if (row.dataset.shown !== shown) {
      fill(row, job, fleet.at);
      row.dataset.shown = shown;
    }
    body.append(row);
  }
  for (const gone of rows.values()) gone.remove();
  body.parentElement.hidden = !fleet.jobs.length;
  document.getElementById("no-jobs").hidden = fleet.jobs.length > 0;
}

function newRow(name) {
  const row = make("tr", { "data-job": name });
  LABELS.forEach((label, i) => row.append(make("td", { "data-label": label, kind: ["name", "", "figure", "figure"][i] || "" })));
  const link = make("a", { text: name, href: "#/jobs/" + encodeURIComponent(name) });
  row.children[0].append(link, make("span"), make("small"));
  return row;
}

function fill(row, job, at) {
  const [name, on, rate, spent, progress, ends, next] = row.children;
  const active = job.state === "active";
  const word = active ? job.training : job.state;
  chip(name.children[1], word, job.error && active ? "bad" : undefined);
  say(name.children[2], job.error || "");
  on.replaceChildren(make("div", {}, machine(job.machine)));
  say(rate, known(job.usd_per_hour) ? money(job.usd_per_hour) : "–");
  const of = known(job.budget_usd) ? [make("small", { text: "of " + money(job.budget_usd) })] : [];
  spent.replaceChildren(make("div", {}, money(job.spent_usd), ...of));
  progress.replaceChildren(progressOf(job));
  ends.replaceChildren(endOf(job, at));
  next.replaceChildren(nextOf(job));
}

export function progressOf(job) {
  const box = make("div");
  if (!known(job.progress)) {
    box.append(known(job.step) ? "step " + figure(job.step) : "–");
    return box;
  }
  const bar = make("progress", { max: "1", "aria-label": "progress of " + job.name });
  bar.value = job.progress;
  box.append(bar, share(job.progress));
  return box;
}

export function endOf(job, at) {
  const { p10, p90 } = job.finish.at;
  if (job.training === "done") return make("div", { text: "done" });
  if (!p10 || !p90) return make("div", { text: "unknown" });
  const away = (text) => (Date.parse(text) - Date.parse(at)) / 1000;
  const late = job.deadline && Date.parse(p90) > Date.parse(job.deadline);
  const note = `${clock(p10)}–${clock(p90)}` + (job.deadline ? `, due ${clock(job.deadline)}` : "");
  const box = make("div", { text: "in " + span(Math.max(away(p10), 0), Math.max(away(p90), 0)) });
  if (late) box.append(" ", make("span", { text: "may be late", kind: "chip bad" }));
  box.append(make("small", { text: note }));
  return box;
}

export function nextOf(job) {
  const next = job.next;
  if (!next) return make("div", { text: job.decision ? "stay" : "–", kind: "place" });
  const box = make("div", { title: next.offer });
  const soon = next.in_seconds < 1 ? "now" : "in " + lasting(next.in_seconds);
  if (next.waiting) {
    box.append("to " + short(next.offer), " ", make("span", { text: "waits for approval", kind: "chip wait" }));
  } else {
    box.append("to " + short(next.offer) + ", " + (job.status === "acting" ? "under way" : soon));
  }
  return box;
}
