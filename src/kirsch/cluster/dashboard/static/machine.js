// One machine: what it has and runs, its settings.

import { Plots, bytes } from "./figures.js";
import { h, keyed, setText } from "./dom.js";
import { KINDS, kindOf, short, span, time } from "./words.js";

export class Machine {
  constructor({ cluster, actions }, [id]) {
    Object.assign(this, { cluster, actions, id, title: "Machine" });
    this.heading = h("h1", {});
    this.marks = h("p", { class: "marks" });
    this.problems = h("ul", { class: "reasons" });
    this.buttons = h("div", { class: "buttons" });
    this.facts = h("div", { class: "facts" });
    this.plots = new Plots(cluster, { machine: id });
    this.units = h("tbody");
    this.use = h("dl", {});
    this.element = h("div", {}, this.heading, this.marks, this.problems, this.buttons, this.facts, this.plots.element,
      h("section", {}, h("h2", {}, "Units"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Units" },
        h("table", {}, h("thead", {}, h("tr", {}, ["Unit", "State", "Restarts", "For"].map((name) => h("th", { scope: "col" }, name)))), this.units))));
  }

  update() {
    const { cluster, id } = this;
    const machine = cluster.machines.get(id);
    this.title = cluster.nameOf(id);
    setText(this.heading, this.title);
    if (cluster.machines.size) setText(this.marks, machine ? machine.address : "This machine is away.");
    const told = JSON.stringify([machine, cluster.machines.size, cluster.store]);
    if (machine && told !== this.told) {
      this.told = told;
      this.buttons.replaceChildren(...this.actions.machineButtons(machine));
      keyed(this.problems, machine.problems, (text) => text, (text) => h("li", { class: "bad" }, text), () => {});
      const rows = [
        ["Id", machine.id],
        ["Takes units", machine.drained ? "no: it is drained" : machine.cordoned ? "no: it is cordoned" : "yes"],
        ["Engine", machine.leads ? "this machine decides where units go" : "another machine decides"],
        ["Runs", machine.runs.join(", ")],
        ["Store", member(cluster.store, machine)],
        ["Network", machine.number ? `number ${machine.number} of the flat network${machine.meshed ? "" : ", and not in it now"}` : ""],
        ["Certificate", machine.certificateEnds ? `ends ${time(machine.certificateEnds)}, in ${span(machine.certificateEnds - Date.now() / 1000)}` : ""],
        ...Object.entries(machine.metadata),
      ].filter(([, value]) => value);
      this.facts.replaceChildren(facts(rows), this.use);
    }
    if (machine) this.#showUse(machine);
    this.plots.update();
    const lines = cluster.units.filter((line) => line.machine === id);
    keyed(this.units, lines, (line) => line.name, (line) => h("tr", {}, h("td", {}, h("a", { href: `#/unit/${encodeURIComponent(line.name)}` }, short(line.name))), h("td"), h("td"), h("td")),
      (row, line) => {
        const [sign, words, tone] = KINDS[kindOf(line)];
        row.className = tone;
        setText(row.children[1], `${sign} ${words}`);
        setText(row.children[2], line.restarts ? String(line.restarts) : "");
        setText(row.children[3], line.since ? span(Date.now() / 1000 - line.since) : "");
      });
  }

  /** What units reserve, beside what is used and what there is. */
  #showUse(machine) {
    const figures = this.cluster.figures.get(this.id);
    const [cpu, memory] = [figures?.cpu.at(-1), figures?.memory.at(-1)];
    const rows = [
      ["CPU", `${machine.reservedCpu} of ${machine.cpu} cores reserved${cpu ? `, ${cpu.toFixed(2)} used` : ""}`],
      ["Memory", `${bytes(machine.reservedMemory)} of ${bytes(machine.memory)} reserved${memory ? `, ${bytes(memory)} used` : ""}`],
      ...(figures?.diskSize ? [["Disk", `${bytes(figures.diskFree)} of ${bytes(figures.diskSize)} free`]] : []),
    ];
    keyed(this.use, rows, ([term]) => term, ([term]) => h("div", {}, h("dt", {}, term), h("dd")), (row, [, value]) => setText(row.children[1], value));
  }
}

const facts = (rows) => h("dl", {}, rows.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));

/** A machine's member of the store, in words; empty where it has none. */
function member(store, machine) {
  const found = store?.members?.find((each) => new URL(each.url).hostname.replace(/^\[|\]$/g, "") === machine.address);
  if (!found) return "";
  const state = found.role ? `${found.role} of etcd ${found.version}, ${bytes(found.size)}` : `etcd does not answer: ${found.silence}`;
  return [state, ...found.errors].join("; ");
}
