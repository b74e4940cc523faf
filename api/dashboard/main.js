// The page as a whole: which view is open, when it is read again, and signing in.

import { ask, follow, Refused, takeToken, token } from "./ask.js";
import { showFleet, sums } from "./fleet.js";
import { closeJob, listen, openJob, repaint, showJob } from "./job.js";
import { chip, say } from "./words.js";

const el = (id) => document.getElementById(id);
const POLL_MS = 2000;
const GAP_MS = 300;

const state = { busy: false, again: false, at: 0, streaming: false, last: { id: null }, stream: null, keep: 0 };

function route() {
  const found = /^#\/jobs\/(.+)$/.exec(location.hash);
  if (!found) {
    closeJob();
    document.title = "Scaleahead";
    return "fleet";
  }
  try {
    openJob(decodeURIComponent(found[1]));
  } catch {
    return "fleet"; // a badly written address
  }
  return "job";
}

function only(id) {
  for (const section of ["sign-in", "fleet", "job"]) el(section).hidden = section !== id;
}

async function read() {
  const page = route();
  const fleet = page === "job" ? await showJob(refresh) : await ask("/v1/fleet");
  if (page !== "job") showFleet(fleet);
  if (page !== "job" || fleet.jobs.length) sums(page === "job" ? await ask("/v1/fleet") : fleet);
  only(page);
  if (page === "job") repaint();
}

async function refresh(error) {
  if (error instanceof Refused) {
    state.keep = Date.now() + 10000; // a refused click is read by a person: the next reading must not wipe it
    return complain(error);
  }
  if (state.busy) {
    state.again = true;
    return;
  }
  state.busy = true;
  try {
    await read();
    if (Date.now() > state.keep) el("said").hidden = true;
    el("forget").hidden = !token.get();
    if (!state.stream) stream();
  } catch (refused) {
    if (!(refused instanceof Refused)) throw refused;
    complain(refused);
  } finally {
    state.busy = false;
    state.at = Date.now();
  }
  if (state.again) {
    state.again = false;
    setTimeout(refresh, GAP_MS);
  }
}

function complain(refused) {
  const first = refused.status === 401 && !token.get();
  if (refused.status === 401) {
    token.forget();
    only("sign-in");
    if (!el("token").matches(":focus")) el("token").focus();
  }
  el("said").hidden = first;
  if (!first) say(el("said"), refused.message);
}

// The stream tells when to read again; while there is none the page reads every two seconds.
async function stream() {
  state.stream = new AbortController();
  try {
    await follow(state.last, () => shown(true), () => refresh(), state.stream.signal);
  } catch {
    // no stream: the timer below goes on
  }
  shown(false);
  setTimeout(() => { state.stream = null; }, POLL_MS);
}

function shown(live) {
  state.streaming = live;
  el("live").hidden = false;
  chip(el("live"), live ? "live" : "polling", live ? "good" : "wait");
}

function begin() {
  takeToken();
  const theme = localStorage.getItem("scaleahead-theme");
  if (theme) document.documentElement.dataset.theme = theme;
  el("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("scaleahead-theme", dark ? "light" : "dark");
  });
  el("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(el("token").value.trim());
    el("token").value = "";
    refresh();
  });
  el("forget").addEventListener("click", () => {
    token.forget();
    state.stream?.abort();
    location.reload();
  });
  window.addEventListener("hashchange", () => { takeToken(); refresh(); });
  listen(() => refresh());
  setInterval(() => {
    const idle = el("sign-in").hidden && !document.hidden && Date.now() - state.at >= POLL_MS - 50;
    if (idle) refresh();
  }, POLL_MS);
  refresh();
}

begin();
