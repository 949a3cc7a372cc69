// What units, machines and backends use and do: the last samples, and an hour of them as a plot.

import { encode, read } from "./api.js";
import { h, s, setText } from "./dom.js";
import { time } from "./words.js";

const HOUR = 3600;
const [WIDTH, HEIGHT] = [320, 72];
const EXPORTED = "exported ";

const PLOTS = {
  cpu: ["CPU", (value) => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`],
  memory: ["Memory", bytes],
  requests: ["Requests", (value) => `${value.toFixed(1)} a second`],
  latency: ["Latency", milliseconds],
};

/** A size in words: 12 MiB. */
export function bytes(value) {
  const [size, unit] = value >= 2 ** 30 ? [value / 2 ** 30, "GiB"] : value >= 2 ** 20 ? [value / 2 ** 20, "MiB"] : [value / 1024, "KiB"];
  return `${size.toFixed(size < 10 ? 1 : 0)} ${unit}`;
}

/** A value of a metric that a unit exports: of a counter it is the rate a second, as its name says. */
function amount(value) {
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 0 });
}

function milliseconds(value) {
  return `${(1000 * value).toFixed(value < 0.01 ? 1 : 0)} ms`;
}

/** The name that a balancer has for a unit: HAProxy allows few signs, and no @. */
const serverOf = (unit) => unit.replace("@", ":").replace(/[^\w.:-]/g, "_");

/** What goes from a balancer to a unit now, in words; empty if nothing is known. */
export function traffic(figures, balancer, unit) {
  for (const machine of figures.values()) {
    const found = machine.backends?.find((each) => each.unit === balancer && each.server === serverOf(unit));
    const [requests, latency] = [found?.requests.at(-1), found?.latency.at(-1)];
    if (requests !== null && requests !== undefined) return `${requests.toFixed(1)}/s${latency && requests ? ` · ${milliseconds(latency)}` : ""}`;
  }
  return "";
}

/** Plots of a unit, or of a machine: an hour that was read, and each sample that comes. */
export class Plots {
  constructor(cluster, { unit = "", machine = "" }) {
    Object.assign(this, { cluster, unit, machine, rows: new Map(), seen: 0 });
    this.element = h("div", { class: "plots" });
    this.plots = new Map();
    this.#readHour();
  }

  async #readHour() {
    const balancers = this.unit ? [...new Set(this.#backends([...this.cluster.figures.values()]).map((each) => each.unit))] : [];
    const query = this.machine ? `machine=${this.machine}` : [this.unit, ...balancers].map((name) => `unit=${encode(name)}`).join("&");
    try {
      const { machines } = await read(`figures?since=${Math.floor(Date.now() / 1000) - HOUR}&${query}`);
      this.rows = new Map();
      this.#take(machines);
    } catch {
      return; // there is nothing to plot: a kirschd without figures
    }
    this.update();
  }

  #backends(machines) {
    const server = serverOf(this.unit);
    return machines.flatMap((machine) => (machine.backends ?? []).filter((each) => each.server === server));
  }

  #take(machines) {
    for (const machine of machines) {
      const own = this.machine ? (machine.machine === this.machine ? machine : null) : machine.units.find((each) => each.name === this.unit);
      const backend = this.unit ? this.#backends([machine])[0] : null;
      machine.times.forEach((at, index) => {
        const row = this.rows.get(at) ?? { at };
        if (own) Object.assign(row, { cpu: own.cpu[index], memory: own.memory[index] });
        for (const [name, values] of Object.entries(own?.exported ?? {})) row[EXPORTED + name] = values[index];
        if (backend) Object.assign(row, { requests: backend.requests[index], latency: backend.latency[index] });
        this.rows.set(at, row);
      });
    }
    const oldest = Date.now() / 1000 - HOUR;
    for (const at of this.rows.keys()) if (at < oldest) this.rows.delete(at);
  }

  update() {
    if (this.cluster.sampled === this.seen && this.plots.size) return;
    this.seen = this.cluster.sampled;
    this.#take([...this.cluster.figures.values()]);
    const rows = [...this.rows.values()].sort((one, other) => one.at - other.at);
    const exported = [...new Set(rows.flatMap((row) => Object.keys(row).filter((field) => field.startsWith(EXPORTED))))];
    const own = exported.map((field) => [field, [field.slice(EXPORTED.length), amount]]);
    for (const [field, [label, words]] of [...Object.entries(PLOTS), ...own]) {
      const points = rows.filter((row) => row[field] !== undefined && row[field] !== null);
      if (!points.length) continue;
      let plot = this.plots.get(field);
      if (!plot) {
        plot = new Plot(label, words);
        this.plots.set(field, plot);
        this.element.append(plot.element);
      }
      plot.show(points.map((row) => [row.at, row[field]]));
    }
  }
}

/** One line over time, with its last and its highest value in words. */
class Plot {
  constructor(label, words) {
    this.words = words;
    this.now = h("b");
    this.most = h("span", { class: "hint" });
    this.line = s("path", { class: "line" });
    this.area = s("path", { class: "area" });
    this.picture = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, this.area, this.line);
    this.label = label;
    this.begin = h("span", { class: "hint" });
    this.element = h("figure", {}, h("figcaption", {}, label, " ", this.now, " ", this.most), this.picture, this.begin);
  }

  show(points) {
    const [first, last] = [points[0][0], points.at(-1)[0]];
    const most = Math.max(...points.map(([, value]) => value));
    const x = (at) => (last === first ? WIDTH : (WIDTH * (at - first)) / (last - first));
    const y = (value) => HEIGHT - 2 - (most ? ((HEIGHT - 6) * value) / most : 0);
    const path = points.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join("L");
    this.line.setAttribute("d", `M${path}`);
    this.area.setAttribute("d", `M${x(first).toFixed(1)},${HEIGHT}L${path}L${WIDTH},${HEIGHT}Z`);
    const [now, top] = [this.words(points.at(-1)[1]), this.words(most)];
    setText(this.now, now);
    setText(this.most, `at most ${top}`);
    setText(this.begin, `since ${time(first)}`);
    this.picture.setAttribute("aria-label", `${this.label} since ${time(first)}: ${now} now, at most ${top}`);
  }
}
