// Words and figures as people read them. Everything reaches the page as text, never as markup.

export function make(tag, { text, kind, ...rest } = {}, ...children) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  for (const [name, value] of Object.entries(rest)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const known = (x) => x !== null && x !== undefined && Number.isFinite(x);

export function money(x) {
  if (!known(x)) return "unknown";
  const sign = x < 0 ? "-" : "";
  const size = Math.abs(x);
  if (size >= 1000) return sign + "$" + Math.round(size).toLocaleString("en-US");
  return sign + "$" + (size > 0 && size < 0.1 ? size.toFixed(4) : size.toFixed(2));
}

export function figure(x) {
  if (!known(x)) return "–";
  const size = Math.abs(x);
  if (Number.isInteger(x) && size < 10000) return String(x);
  if (size >= 10000) return Math.round(x).toLocaleString("en-US");
  if (size >= 100) return x.toFixed(0);
  if (size >= 10) return x.toFixed(1);
  if (size >= 0.01 || size === 0) return String(Number(x.toFixed(size >= 1 ? 2 : 3)));
  return x.toExponential(1);
}

export function share(x) {
  if (!known(x)) return "–";
  const percent = x * 100;
  if (percent > 0 && percent < 0.1) return "<0.1 %";
  return (percent < 10 ? percent.toFixed(1) : percent.toFixed(0)) + " %";
}

export function lasting(seconds) {
  if (!known(seconds)) return "unknown";
  if (seconds < 90) return Math.max(0, Math.round(seconds)) + " s";
  if (seconds < 90 * 60) return Math.round(seconds / 60) + " min";
  if (seconds < 48 * 3600) return (seconds / 3600).toFixed(1) + " h";
  return (seconds / 86400).toFixed(1) + " d";
}

export function span(low, high) {
  const a = lasting(low);
  const b = lasting(high);
  if (a === b) return a;
  const [x, unit] = a.split(" ");
  const [y, other] = b.split(" ");
  return unit === other ? `${x}–${y} ${unit}` : `${a} – ${b}`;
}

export function clock(text) {
  if (!text) return "unknown";
  const at = new Date(text);
  const day = at.toDateString() === new Date().toDateString() ? {} : { day: "numeric", month: "short" };
  return at.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit", hour12: false });
}

// The last part of an offer's id is what people call the machine; the rest is its place.
export function machine(id) {
  if (!id) return make("span", { text: "unknown", kind: "place" });
  const cut = id.lastIndexOf("/");
  return make("span", { title: id }, id.slice(cut + 1), make("small", { text: id.slice(0, Math.max(cut, 0)) }));
}

export const short = (id) => (id ? id.slice(id.lastIndexOf("/") + 1) : "unknown");

const NAMES = {
  "usage.memory_gib": "memory (GiB)",
  "usage.gpu_memory_gib": "GPU memory (GiB)",
  "usage.gpu_util": "GPU use (share)",
  "usage.cpu_cores": "CPU (cores)",
  "usage.network_mbps": "network (Mbit/s)",
  "usage.disk_mbps": "disk (MB/s)",
  step_seconds: "step time (s)",
};

export function columnName(column) {
  if (NAMES[column]) return NAMES[column];
  return column.startsWith("hp.") ? column.slice(3) + " (hyperparameter)" : column.replace(/^(metric|usage)\./, "");
}

const KINDS = {
  waiting: "wait", approved: "act", acting: "act", done: "good", no_change: "", observed: "", recommended: "act",
  rejected: "", rolled_back: "bad", needs_human: "bad", cancelled: "", expired: "",
  active: "good", paused: "wait", deleting: "bad", training: "good", checkpointing: "act", ready: "act",
  diverged: "bad", unheard: "wait",
};

export function chip(node, word, kind = KINDS[word] ?? "") {
  node.className = ("chip " + kind).trim();
  say(node, word.replaceAll("_", " "));
  return node;
}

export { known };
