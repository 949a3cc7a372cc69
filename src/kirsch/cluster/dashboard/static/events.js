// One timeline: units as they change, releases, and what people asked for.

import { read } from "./api.js";
import { h, keyed, setText } from "./dom.js";
import { RELEASES, audited, named, time } from "./words.js";

const SHOWN = 500;
const AUDIT_PAUSE = 3000; // ms between two readings of the audit log, which /events says nothing of
const KINDS = { unit: "Units", release: "Releases", request: "Requests" };

export class Events {
  title = "Events";

  constructor({ cluster }) {
    this.cluster = cluster;
    this.audit = [];
    this.search = h("input", { type: "search", placeholder: "Search", "aria-label": "Search the events", oninput: () => this.update() });
    this.kinds = Object.entries(KINDS).map(([kind, label]) =>
      h("label", {}, h("input", { type: "checkbox", value: kind, checked: true, onchange: () => this.update() }), ` ${label}`));
    this.note = h("p", { class: "hint" });
    this.list = h("ol", { class: "events" });
    this.element = h("div", {}, h("h1", {}, "Events"), h("div", { class: "buttons" }, this.search, this.kinds), this.note, this.list);
    this.audited = 0;
  }

  async #readAudit() {
    this.audited = performance.now();
    const why = this.cluster.session.refused["GET /audit"];
    if (why) {
      setText(this.note, `Requests are not shown: ${why}.`);
      return;
    }
    try {
      const { entries, missing } = await read("audit?entries=500");
      this.audit = entries;
      setText(this.note, missing.length ? `Requests are missing: ${missing.join("; ")}.` : "");
    } catch (failure) {
      setText(this.note, failure.message);
    }
    this.update();
  }

  update() {
    const { cluster } = this;
    if (!this.audited || performance.now() - this.audited > AUDIT_PAUSE) this.#readAudit();
    const chosen = new Set(this.kinds.map((label) => label.firstElementChild).filter((box) => box.checked).map((box) => box.value));
    const sought = this.search.value.toLowerCase();
    const rows = [
      ...cluster.happenings.map((each) => ({ at: each.at, type: "unit", text: each.text, unit: each.unit, tone: ["failed", "refused", "unready"].includes(each.kind) ? "bad" : "" })),
      ...[...cluster.releases.values()].flatMap((release) => {
        const name = `Release ${release.number} of ${release.application}`;
        const by = release.who ? ` by ${release.who}` : "";
        const opened = { at: release.created, type: "release", text: `${name} was opened${by}${release.message ? `: ${release.message}` : ""}` };
        const state = RELEASES[release.state] ?? release.state;
        return release.ended ? [opened, { at: release.ended, type: "release", text: `${name}: ${state}`, tone: release.failure ? "bad" : "" }] : [opened];
      }),
      ...this.audit.map((entry) => ({ at: entry.at, type: "request", text: `${entry.who} (${entry.role}) asked for ${audited(entry)}`, tone: entry.status >= 400 ? "bad" : "" })),
    ].filter((row) => chosen.has(row.type)).map((row) => ({ ...row, text: named(row.text, cluster.nameOf) }))
      .filter((row) => !sought || row.text.toLowerCase().includes(sought))
      .sort((one, other) => other.at - one.at).slice(0, SHOWN);
    keyed(this.list, rows, (row) => `${row.at} ${row.text}`,
      (row) => h("li", { class: row.tone }, h("time", {}, time(row.at)), h("b", {}, KINDS[row.type]),
        row.unit ? h("a", { href: `#/unit/${encodeURIComponent(row.unit)}` }, row.text) : h("span", {}, row.text)),
      () => {});
  }
}
