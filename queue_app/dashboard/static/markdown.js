// The run card on the screen: of Markdown what cards are written in. Whatever it says becomes text.

import { make } from "./words.js";

// Headings become one level lower for every step of `lower`.
export function markdownNodes(text, lower = 2) {
  return text.split(/\n{2,}/).reduce(joinFences, []).filter(Boolean).map((block) => nodeOf(block, lower));
}

// A block of code goes on over blank lines until its fence is closed.
function joinFences(blocks, block) {
  const last = blocks.at(-1);
  const isOpen = last?.startsWith("```") && !/\n```\s*$/.test(last);
  return isOpen ? [...blocks.slice(0, -1), `${last}\n\n${block}`] : [...blocks, block.replace(/^\n+|\n+$/g, "")];
}

function nodeOf(block, lower) {
  const heading = /^(#+) (.*)$/.exec(block);
  if (heading) return withCode(make(`h${Math.min(6, heading[1].length + lower)}`, ""), heading[2]);
  if (block.startsWith("```")) return make("pre", block.replace(/^```.*\n?/, "").replace(/\n?```\s*$/, ""));
  if (block.startsWith("|")) return table(block.split("\n"));
  if (block.startsWith("- ")) return list(block.split(/\n(?=- )/));
  return withCode(make("p", ""), block);
}

function table([head, , ...rows]) {
  const made = document.createElement("table");
  made.createTHead().append(row(head, "th"));
  made.createTBody().append(...rows.map((line) => row(line, "td")));
  return made;
}

function row(line, tag) {
  const made = document.createElement("tr");
  const cells = line.replace(/^\||\|\s*$/g, "").split(/(?<!\\)\|/);
  made.append(...cells.map((cell) => withCode(document.createElement(tag), cell.trim())));
  return made;
}

function list(items) {
  const made = document.createElement("ul");
  made.append(...items.map((item) => withCode(document.createElement("li"), item.replace(/^- /, ""))));
  return made;
}

// A backslash before a punctuation mark says that the mark is text.
function withCode(parent, text) {
  const parts = text.split(/(?<!\\)((?:\\\\)*)`/);
  const joined = parts.reduce((all, part, at) => (at % 2 ? [...all.slice(0, -1), all.at(-1) + part] : [...all, part]), []);
  parent.append(...joined.map((part, at) => (at % 2 ? make("code", part) : unescaped(part))));
  return parent;
}

function unescaped(text) {
  return text.replace(/\\([!-/:-@[-`{-~])/g, "$1");
}
