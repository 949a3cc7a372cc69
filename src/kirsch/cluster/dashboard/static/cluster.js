// What is known of the cluster: one copy for all pages, kept up to date by /events.

import * as api from "./api.js";
import { KINDS, isTemplate, isWrong, kindOf, severity, short } from "./words.js";

const MACHINES_PAUSE = 1000; // ms between two readings of the machines, which events say nothing of
const MACHINES_AGAIN = 10_000;
const MOST_HAPPENINGS = 2000;

const keyOf = (name, machine) => `${name}\0${machine}`;

export class Cluster extends EventTarget {
  lines = new Map(); // by unit and machine
  machines = new Map(); // by id
  seen = new Map(); // the same, with those that are away now
  releases = new Map(); // by application/number
  applications = new Map(); // name -> Set of unit names
  happenings = []; // {at, unit, kind, text}, the latest last
  figures = new Map(); // by machine: the last sample
  sampled = 0; // counts them
  sorted = null; // what units returned since the last change
  trouble = "";
  ready = false;

  constructor(session) {
    super();
    this.session = session;
  }

  start() {
    let whole = true;
    new api.Stream("events?figures=yes", {
      message: (event) => {
        if (event.figures) return this.#sample(event.figures);
        this.take(event, whole);
        whole = false;
      },
      state: (reason) => {
        whole = true;
        this.trouble = reason;
        this.#tell();
      },
    });
    this.#readMachines();
    setInterval(() => { if (!document.hidden) this.#readMachines(); }, MACHINES_AGAIN);
  }

  #sample(figures) {
    this.figures.set(figures.machine, figures);
    this.sampled += 1;
    this.#tell();
  }

  /** Take a message of /events: the first has all lines, those after it what changed. */
  take(event, first) {
    const before = first ? new Map(this.lines) : null;
    this.sorted = null;
    if (first) this.lines.clear();
    for (const line of event.units) {
      if (line.gone) {
        for (const [key, known] of this.lines) if (known.name === line.name) this.lines.delete(key);
        this.#note(line.name, "gone", `${short(line.name)} was destroyed`);
        continue;
      }
      const key = keyOf(line.name, line.machine);
      const known = (before ?? this.lines).get(key);
      // One that is on a machine is not on none any more.
      this.lines.delete(keyOf(line.name, ""));
      this.lines.set(key, line);
      if (this.ready) this.#compare(known, line);
    }
    for (const { name, machine } of event.left) this.lines.delete(keyOf(name, machine));
    for (const release of event.releases) this.#takeRelease(release);
    if (event.releases.length || first) this.#readReleases();
    this.ready = true;
    this.#readMachines();
    this.#tell();
  }

  #compare(known, line) {
    if (isTemplate(line.name)) return;
    const kind = kindOf(line);
    const changed = !known || kindOf(known) !== kind;
    const again = known && line.restarts > known.restarts;
    if (!changed && !again) return;
    const why = isWrong(line) && line.reasons.length ? `: ${line.reasons.join("; ")}` : "";
    const text = again && !changed ? "was started again" : `is ${KINDS[kind][1]}${why}`;
    this.#note(line.name, kind, `${short(line.name)} ${text}`.replace("is failed", "failed").replace("is cannot", "cannot"));
  }

  #note(unit, kind, text) {
    this.happenings.push({ at: Date.now() / 1000, unit, kind, text });
    if (this.happenings.length > MOST_HAPPENINGS) this.happenings.shift();
  }

  #takeRelease(release) {
    this.releases.set(`${release.application}/${release.number}`, release);
  }

  async #readReleases() {
    try {
      const { releases } = await api.read("releases");
      for (const release of releases) this.#takeRelease(release);
      const names = new Set(releases.map((release) => release.application));
      for (const name of names) {
        this.applications.set(name, new Set((await api.read(`applications/${api.encode(name)}`)).units));
      }
      this.#tell();
    } catch {
      // The stream says why nothing is heard.
    }
  }

  async #readMachines() {
    if (this.reading) {
      this.readAgain = true;
      return;
    }
    this.reading = true;
    try {
      const { machines } = await api.read("machines");
      const store = await api.read("store");
      this.machines = new Map(machines.map((machine) => [machine.id, machine]));
      for (const machine of machines) this.seen.set(machine.id, machine);
      this.store = store;
      this.#tell();
    } catch {
      // As above.
    }
    setTimeout(() => {
      this.reading = false;
      if (this.readAgain) this.#readMachines();
      this.readAgain = false;
    }, MACHINES_PAUSE);
  }

  /** Tell the page, once a frame however much has changed. */
  #tell() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      performance.mark("update");
      this.dispatchEvent(new Event("change"));
      performance.measure("update", "update");
    });
  }

  /** Lines of units that can run, by name. */
  get units() {
    return this.sorted ??= [...this.lines.values()].filter((line) => !isTemplate(line.name)).sort(byName);
  }

  linesOf(name) {
    return [...this.lines.values()].filter((line) => line.name === name);
  }

  get wrong() {
    return this.units.filter(isWrong).sort((one, other) => severity(one) - severity(other) || byName(one, other));
  }

  /** Ids of machines that this cluster has, and that are away. */
  get away() {
    if (!this.machines.size) return [];
    return [...new Set([...Object.keys(this.session.names), ...this.seen.keys()])].filter((id) => id && !this.machines.has(id));
  }

  /** The name of a machine, by its id or the beginning of that. */
  nameOf = (id) => {
    const known = [...this.seen.values()].find((machine) => machine.id.startsWith(id));
    const recorded = Object.entries(this.session.names).find(([each]) => each.startsWith(id));
    return known?.metadata.hostname || recorded?.[1] || (id.length > 8 ? `${id.slice(0, 8)}…` : id);
  };

  applicationOf(name) {
    for (const [application, units] of this.applications) if (units.has(name)) return application;
    return "";
  }

  releasesOf(application) {
    return [...this.releases.values()]
      .filter((release) => release.application === application)
      .sort((one, other) => one.number - other.number);
  }
}

/** Names with numbers of one length, by which notes@2 comes before notes@10; kept, for they are compared often. */
const sortable = new Map();
function sortKey(name) {
  if (!sortable.has(name)) sortable.set(name, name.replace(/\d+/g, (digits) => digits.padStart(10, "0")));
  return sortable.get(name);
}

function byName(one, other) {
  const [first, second] = [sortKey(one.name), sortKey(other.name)];
  return first < second ? -1 : Number(first > second);
}
