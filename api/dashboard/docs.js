// The reference, drawn from the daemon's own description of its routes.

import { make } from "./words.js";

const el = (id) => document.getElementById(id);
const plain = (text) => (text || "").replaceAll("``", "");

// Writes a schema the way people write JSON, names of other shapes resolved, at most five deep.
function shape(schema, all, deep = 0) {
  if (!schema) return "anything";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return deep > 4 ? name : shape(all[name], all, deep);
  }
  const some = schema.anyOf || schema.oneOf;
  if (some) return some.map((s) => shape(s, all, deep + 1)).join(" | ");
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `[${shape(schema.items, all, deep + 1)}, ...]`;
  if (schema.type === "object" && schema.properties) {
    const must = schema.required || [];
    const pad = "  ".repeat(deep + 1);
    const lines = Object.entries(schema.properties)
      .map(([name, s]) => `${pad}${name}${must.includes(name) ? "" : "?"}: ${shape(s, all, deep + 1)}`);
    return `{\n${lines.join("\n")}\n${"  ".repeat(deep)}}`;
  }
  if (schema.type === "object") {
    const inner = schema.additionalProperties;
    return inner && inner !== true ? `{name: ${shape(inner, all, deep + 1)}, ...}` : "{...}";
  }
  return schema.format || schema.type || "anything";
}

function body(content, all) {
  const [kind, held] = Object.entries(content || {})[0] || [];
  return kind ? [make("pre", { text: `${kind}\n${shape(held.schema, all)}` })] : [];
}

function route(path, verb, operation, all) {
  const head = make("summary", {}, make("span", { text: verb.toUpperCase(), kind: "verb" }), make("code", { text: path }),
    make("span", { text: plain(operation.description), kind: "what" }));
  const box = make("details", { kind: "route card" }, head);
  const taken = (operation.parameters || []).filter((p) => p.in !== "path");
  if (taken.length) {
    box.append(make("h3", { text: "Parameters" }));
    for (const p of taken) {
      box.append(make("pre", { text: `${p.name} (${p.in}): ${shape(p.schema, all)}${p.description ? "  - " + p.description : ""}` }));
    }
  }
  if (operation.requestBody) box.append(make("h3", { text: "Body" }), ...body(operation.requestBody.content, all));
  for (const [status, answer] of Object.entries(operation.responses)) {
    if (status >= "300") continue;
    box.append(make("h3", { text: `${status} ${answer.description || ""}` }), ...body(answer.content, all));
  }
  const errors = Object.entries(operation.responses).filter(([status]) => status >= "400").map(([status, a]) => `${status} ${a.description}`);
  box.append(make("h3", { text: "Errors" }), make("p", { text: errors.join(", ") }));
  return box;
}

async function begin() {
  const described = await (await fetch("/openapi.json")).json();
  const all = described.components.schemas;
  const groups = new Map();
  for (const [path, operations] of Object.entries(described.paths)) {
    for (const [verb, operation] of Object.entries(operations)) {
      const tag = (operation.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, make("section", {}, make("h2", { text: tag, kind: "tag" })));
      groups.get(tag).append(route(path, verb, operation, all));
    }
  }
  el("routes").replaceChildren(...groups.values());
  el("find").addEventListener("input", () => {
    const wanted = el("find").value.toLowerCase();
    for (const box of document.querySelectorAll(".route")) {
      box.hidden = !box.querySelector("summary").textContent.toLowerCase().includes(wanted);
    }
    for (const group of groups.values()) group.hidden = !group.querySelector(".route:not([hidden])");
  });
}

begin();
