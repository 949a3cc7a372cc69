// One unit: its state and why, its buttons, its file line by line, its journal.

import { fileOf, read } from "./api.js";
import { Plots } from "./figures.js";
import { h, keyed, setText } from "./dom.js";
import { Journal } from "./journal.js";
import { KINDS, kindOf, linked, named, short, time } from "./words.js";

export class Unit {
  constructor({ cluster, actions }, [name, part]) {
    Object.assign(this, { cluster, actions, name, title: short(name), ports: {} });
    this.sign = h("span", { class: "sign", "aria-hidden": "true" });
    this.state = h("span", { class: "words" });
    this.description = h("p", { class: "marks" });
    this.reasons = h("ul", { class: "reasons" });
    this.buttons = actions.unitButtons(name);
    this.refused = h("p", { class: "hint" });
    this.facts = h("div", { class: "facts" });
    this.plots = new Plots(cluster, { unit: name });
    this.file = h("table", { class: "file" });
    this.journal = new Journal(cluster, [name]);
    this.element = h("div", {},
      h("h1", {}, this.sign, " ", short(name), " ", this.state), this.description, this.reasons,
      h("div", { class: "buttons" }, Object.values(this.buttons)), this.refused,
      this.facts, this.plots.element,
      this.journal.element,
      h("section", {}, h("h2", {}, "Unit file"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Unit file" }, this.file)));
    if (part === "journal") queueMicrotask(() => this.journal.element.scrollIntoView());
  }

  update() {
    const lines = this.cluster.linesOf(this.name);
    if (!lines.length) {
      if (this.cluster.ready) setText(this.state, "there is no such unit");
      return;
    }
    const worst = lines.find((line) => KINDS[kindOf(line)][2] === "bad") ?? lines[0];
    const [sign, words, tone] = KINDS[kindOf(worst)];
    this.element.className = tone;
    setText(this.sign, sign);
    setText(this.state, words);
    setText(this.description, worst.description);
    const reasons = [...new Set(lines.flatMap((line) => line.reasons))].map((text) => named(text, this.cluster.nameOf));
    keyed(this.reasons, reasons, (text) => text, (text) => h("li", {}, text), () => {});
    this.plots.update();
    this.actions.allowUnit(this.buttons, lines);
    setText(this.refused, this.cluster.session.refused["PUT /units/{name}"] ?? "");
    keyed(this.facts, lines, (line) => line.machine || "none", () => h("dl", {}), (list, line) => this.#facts(list, line));
    if (this.hash !== worst.hash) this.#readFile(worst.hash);
    if (worst.published.length && this.address !== worst.address) this.#readPorts(worst.address);
  }

  #facts(list, line) {
    const { cluster } = this;
    const names = cluster.units.map((each) => each.name);
    const unit = (name) => h("a", { href: `#/unit/${encodeURIComponent(name)}` }, short(name));
    const application = cluster.applicationOf(line.name);
    const host = cluster.machines.size > 1 ? cluster.machines.get(line.machine)?.address ?? "localhost" : "localhost";
    const rows = [
      ["Wanted", { launched: "to run", loaded: "loaded, not to run", inactive: "not to run" }[line.desired]],
      ["State", line.active === "-" ? "" : `${line.active} (${line.sub})${line.since ? ` since ${time(line.since)}` : ""}`],
      ["Ready", line.active === "active" ? (line.ready ? "yes" : "no") + (line.checked ? "" : " (it has no Health=)") : ""],
      ["Role", line.role],
      ["Machine", line.machine && h("a", { href: `#/machine/${line.machine}` }, cluster.nameOf(line.machine))],
      ["Address", line.address && `${line.address}${line.ports.length ? `:${line.ports.join(", ")}` : ""}`],
      ["Published", line.published.length && line.published.map((port) => [h("a", { href: `http://${host}:${port}/`, target: "_blank", rel: "noopener" }, this.#portName(port, `${host}:${port}`)), " "])],
      ["Uses", line.links.length && line.links.map((link) => [...linked(link, names).map((name) => [unit(name), " "]), h("small", {}, `(${link}) `)])],
      ["Application", application && h("a", { href: `#/application/${encodeURIComponent(application)}` }, application)],
      ["Restarts", line.restarts ? String(line.restarts) : ""],
      ["Result", line.result && line.result !== "success" ? line.result : ""],
      ["Process", line.pid ? String(line.pid) : ""],
    ].filter(([, value]) => value);
    const told = JSON.stringify([line, application, host, this.ports]);
    if (list.told === told) return;
    list.told = told;
    list.replaceChildren(...rows.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
  }

  /** What a published port is called: HAProxy's statistics are a page of their own. */
  #portName(port, address) {
    const name = this.ports[port];
    return name === "statistics" ? `HAProxy's statistics (${address})` : name ? `${address} (${name})` : address;
  }

  /** Read the names of ports, which endpoints have. */
  async #readPorts(address) {
    this.address = address;
    try {
      const { endpoints } = await read("endpoints");
      this.ports = Object.fromEntries(endpoints.filter((each) => each.unit === this.name).flatMap((each) => each.ports).map((port) => [port.number, port.name]));
      this.update();
    } catch {
      this.address = null; // it is tried again with the next change
    }
  }

  async #readFile(hash) {
    this.hash = hash;
    try {
      const { lines } = await fileOf(this.name);
      this.file.replaceChildren(
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Line"), h("th", { scope: "col" }, "Means"), h("th", { scope: "col" }, "Honoured"))),
        h("tbody", {}, lines.map((line) => h("tr", { class: line.text.startsWith("[") ? "section" : line.meaning ? "" : "comment" },
          h("td", {}, h("code", {}, line.text)), h("td", {}, line.meaning), h("td", {}, line.honoured)))));
    } catch (failure) {
      this.hash = "";
      this.file.replaceChildren(h("caption", {}, failure.message));
    }
  }

  close() {
    this.journal.close();
  }
}
