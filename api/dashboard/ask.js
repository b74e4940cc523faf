// Asking the daemon: the token, JSON calls, and the stream of events read through fetch (so that it carries the token).

const KEY = "scaleahead-token";

export const token = {
  get: () => sessionStorage.getItem(KEY) || "",
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

// A token given in the address (#token=...) is taken and wiped from the address at once.
export function takeToken() {
  const found = /^#token=([^&]+)(?:&(.*))?$/.exec(location.hash);
  if (!found) return;
  token.set(decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname + location.search + (found[2] ? "#" + found[2] : "#/"));
}

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

function headers(more) {
  const given = { ...more };
  if (token.get()) given.Authorization = "Bearer " + token.get();
  return given;
}

export async function ask(path, method = "GET") {
  let answer;
  try {
    answer = await fetch(path, { method, headers: headers({ Accept: "application/json" }), cache: "no-store" });
  } catch {
    throw new Refused(0, "the daemon does not answer - is it running?");
  }
  if (answer.ok) return answer.json();
  let detail = answer.statusText;
  try {
    detail = (await answer.json()).detail || detail;
  } catch {
    // not a problem document: the status text has to do
  }
  throw new Refused(answer.status, detail);
}

// Follows the events until the stream ends; resumes after `last.id`. Calls `heard` for each, `opened` once.
export async function follow(last, opened, heard, signal) {
  const more = { Accept: "text/event-stream" };
  if (last.id !== null) more["Last-Event-ID"] = last.id;
  const answer = await fetch("/v1/events", { headers: headers(more), cache: "no-store", signal });
  if (!answer.ok || !answer.body) throw new Refused(answer.status, "no stream of events");
  opened();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const id = /^id: (.*)$/m.exec(part);
      if (id) last.id = id[1];
      if (/^event: /m.test(part)) heard();
    }
  }
}
