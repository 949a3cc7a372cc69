// Overview: what is wrong, then machines as columns with their units as cells.

import { h, keyed, setText } from "./dom.js";
import { KINDS, RELEASES, isOver, kindOf, named, plural, short } from "./words.js";

const DENSE = 120; // units of a machine from which cells are small

export class Overview {
  title = "Overview";

  constructor({ cluster, actions }) {
    Object.assign(this, { cluster, actions });
    this.summary = h("h1", { class: "summary" });
    this.wrong = h("ul", { class: "wrong" });
    this.grid = h("div", { class: "grid" });
    this.element = h("div", {}, this.summary, this.wrong, legend(), this.grid);
  }

  update() {
    const { cluster } = this;
    const units = cluster.units.filter((line) => line.desired !== "inactive" || line.machine || kindOf(line) !== "off");
    const wanted = units.filter((line) => line.desired === "launched");
    const wrong = cluster.wrong;
    const others = troubles(cluster);
    setText(this.summary, summary(wanted.length, wrong.length));
    keyed(this.wrong, [...wrong.slice(0, 50).map((line) => ({ line })), ...others],
      (row) => row.text ?? `${row.line.name}\0${row.line.machine}`, (row) => this.#makeWrong(row), (item, row) => this.#showWrong(item, row));
    this.wrong.hidden = !this.wrong.children.length;

    const columns = [...cluster.machines.values()].map((machine) => ({ id: machine.id, machine, units: [] }));
    const nowhere = { id: "", units: [] };
    const present = new Map(columns.map((column) => [column.id, column]));
    const away = new Map();
    for (const line of units) {
      let column = line.machine ? present.get(line.machine) : nowhere;
      if (!column) {
        column = away.get(line.machine) ?? { id: line.machine, units: [] };
        away.set(line.machine, column);
      }
      column.units.push(line);
    }
    const shown = [...columns, ...away.values(), ...(nowhere.units.length ? [nowhere] : [])];
    keyed(this.grid, shown, (column) => `machine ${column.id}`, makeColumn, (element, column) => this.#showColumn(element, column));
  }

  #makeWrong(row) {
    if (!row.line) return h("li", { class: row.bad ? "bad" : "" }, h("span", { class: "sign", "aria-hidden": "true" }, "!"), h("p", {}, row.text));
    const { name } = row.line;
    const restart = this.actions.unitButtons(name);
    const item = h("li", {}, h("span", { class: "sign", "aria-hidden": "true" }),
      h("p", {}, h("a", { href: `#/unit/${encodeURIComponent(name)}` }, short(name)), " ", h("span", { class: "why" })),
      h("span", { class: "buttons" }, h("a", { class: "button", href: `#/unit/${encodeURIComponent(name)}/journal` }, "Journal"), restart.start));
    item.buttons = restart;
    return item;
  }

  #showWrong(item, row) {
    if (!row.line) return;
    const kind = kindOf(row.line);
    const [sign, words, tone] = KINDS[kind];
    setText(item.querySelector(".sign"), sign);
    item.className = tone;
    const on = row.line.machine && this.cluster.machines.size > 1 ? ` on ${this.cluster.nameOf(row.line.machine)}` : "";
    const why = row.line.reasons.join("; ");
    setText(item.querySelector(".why"), named(`${kind === "failed" || kind === "refused" ? words : `is ${words}`}${on}${why ? `: ${why}` : ""}`, this.cluster.nameOf));
    this.actions.allowUnit(item.buttons, [row.line]);
  }

  #showColumn(element, column) {
    const { machine } = column;
    const name = column.id ? this.cluster.nameOf(column.id) : "On no machine";
    const link = element.querySelector("h2 a");
    setText(link, name);
    if (column.id) link.setAttribute("href", `#/machine/${column.id}`);
    else link.removeAttribute("href");
    const marks = [
      machine ? machine.address : column.id ? "away" : "",
      machine?.leads && this.cluster.machines.size > 1 ? "leads" : "",
      machine?.drained ? "drained" : machine?.cordoned ? "takes no units" : "",
      plural(column.units.length, "unit"),
    ];
    setText(element.querySelector(".marks"), marks.filter(Boolean).join(" · "));
    element.classList.toggle("dense", column.units.length > DENSE);
    keyed(element.querySelector("ul"), column.units, (line) => line.name, makeCell, showCell);
  }
}

function summary(wanted, wrong) {
  if (!wanted) return "Nothing is to run yet.";
  if (!wrong) return wanted === 1 ? "The unit is as it should be." : `All ${wanted} units are as they should be.`;
  return `${wrong} of ${plural(wanted, "unit")} ${wrong === 1 ? "is" : "are"} not as wanted.`;
}

/** What is wrong besides units. */
function troubles(cluster) {
  const found = [];
  if (cluster.store && cluster.store.quorum === false) found.push({ bad: true, text: "The store has no quorum: nothing can be changed, and what runs goes on." });
  for (const id of cluster.away) found.push({ bad: true, text: `${cluster.nameOf(id)} is away: nothing is heard from its kirschd.` });
  for (const member of cluster.store?.members ?? []) {
    if (member.silence) found.push({ bad: true, text: `The store's member ${member.url} does not answer: ${member.silence}` });
  }
  for (const machine of cluster.machines.values()) {
    for (const problem of machine.problems) found.push({ bad: true, text: `${cluster.nameOf(machine.id)}: ${problem}` });
  }
  for (const release of cluster.releases.values()) {
    if (!isOver(release)) found.push({ text: `Release ${release.number} of ${release.application}: ${RELEASES[release.state] ?? release.state}` });
  }
  return found;
}

const legend = () => h("ul", { class: "legend", "aria-label": "Legend" },
  ["ready", "starting", "unready", "failed", "off"].map((kind) =>
    h("li", { class: `cell ${KINDS[kind][2]}` }, h("span", { class: "sign", "aria-hidden": "true" }, KINDS[kind][0]), KINDS[kind][1])));

const makeColumn = () => h("section", { class: "machine" }, h("h2", {}, h("a", {})), h("p", { class: "marks" }), h("ul", { class: "cells" }));

function makeCell(line) {
  return h("li", {}, h("a", { href: `#/unit/${encodeURIComponent(line.name)}` }, short(line.name)));
}

function showCell(item, line) {
  const kind = kindOf(line);
  const told = `${kind} ${line.role}`;
  if (item.told === told) return;
  item.told = told;
  const [sign, words, tone] = KINDS[kind];
  const [link] = item.children;
  link.className = `cell ${tone}`;
  link.title = `${short(line.name)}: ${words}${line.role ? `, ${line.role}` : ""}`;
  link.setAttribute("aria-label", link.title);
  link.dataset.sign = sign;
}
