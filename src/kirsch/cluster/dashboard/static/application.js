// One application: its units and their links as a graph, its releases as a line in time.

import { traffic } from "./figures.js";
import { h, keyed, s, setText } from "./dom.js";
import { KINDS, RELEASES, isTemplate, kindOf, layers, linked, short, span, time } from "./words.js";

const [WIDTH, HEIGHT, GAP_X, GAP_Y] = [170, 44, 90, 16];

export class Application {
  constructor({ cluster, actions }, [name]) {
    Object.assign(this, { cluster, actions, name, title: name });
    this.graph = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Units and their links" });
    this.releases = h("ol", { class: "releases", reversed: true, tabindex: "0", "aria-label": "Releases, the latest first" });
    this.element = h("div", {}, h("h1", {}, name), h("section", {}, h("h2", {}, "Units"), this.graph),
      h("section", {}, h("h2", {}, "Releases"), this.releases));
  }

  update() {
    const { cluster } = this;
    const mine = cluster.applications.get(this.name) ?? new Set();
    const lines = cluster.units.filter((line) => mine.has(line.name) && (line.desired !== "inactive" || line.machine));
    const told = JSON.stringify(lines.map((line) => [line.name, kindOf(line), line.links, line.role]));
    if (told !== this.told) {
      this.told = told;
      const focused = this.graph.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      this.graph.replaceChildren(drawn(lines));
      if (focused) this.graph.querySelector(`a[href="${focused}"]`)?.focus();
    }
    for (const rate of this.graph.querySelectorAll(".rate")) setText(rate, traffic(cluster.figures, rate.dataset.from, rate.dataset.to));
    const releases = cluster.releasesOf(this.name);
    const done = releases.filter((release) => release.state === "done");
    const before = new Map(releases.map((release, index) => [release.number, releases[index - 1]]));
    keyed(this.releases, releases.toReversed(), (release) => String(release.number), () => h("li"),
      (item, release) => this.#release(item, release, release === done.at(-1), before.get(release.number)));
  }

  #release(item, release, current, earlier) {
    const told = JSON.stringify([release, current]);
    if (item.told === told) return;
    item.told = told;
    item.className = { done: "good", failed: "bad", "rolled-back": "bad", aborted: "off", superseded: "off" }[release.state] ?? "busy";
    const buttons = this.actions.releaseButtons(release);
    if (release.state === "done" && !current) buttons.push(this.actions.rollbackButton(release));
    item.replaceChildren(...[
      h("h3", {}, `Release ${release.number}`, current ? h("small", {}, " runs now") : null),
      h("p", {}, h("time", { datetime: new Date(release.created * 1000).toISOString() }, time(release.created)),
        `${earlier ? `, ${span(release.created - earlier.created)} after release ${earlier.number}` : ""}${release.who ? `, by ${release.who}` : ""}`),
      h("p", {}, RELEASES[release.state] ?? release.state),
      release.message ? h("p", {}, release.message) : null,
      release.failure ? h("p", { class: "bad" }, Object.values(release.failure).filter((part) => typeof part === "string").join(": ")) : null,
      h("p", { class: "hint" }, release.replaced.length ? `${release.replaced.length} of ${release.units.length} replaced` : ""),
      buttons.length ? h("div", { class: "buttons" }, buttons) : null,
    ].filter(Boolean));
  }
}

/** Units as boxes in columns, users left of what they use, an arrow for each link. */
function drawn(lines) {
  const names = [...new Set(lines.map((line) => line.name))].filter((name) => !isTemplate(name));
  const worst = new Map();
  for (const line of lines) {
    const known = worst.get(line.name);
    if (!known || KINDS[kindOf(known)][2] !== "bad") worst.set(line.name, line);
  }
  const links = new Map(names.map((name) => [name, worst.get(name).links.flatMap((link) => linked(link, names)).filter((target) => target !== name)]));
  const columns = layers(links);
  const height = Math.max(1, ...columns.map((column) => column.length)) * (HEIGHT + GAP_Y);
  const place = new Map();
  columns.forEach((column, x) => column.forEach((name, y) => {
    const top = (height - column.length * (HEIGHT + GAP_Y)) / 2;
    place.set(name, [x * (WIDTH + GAP_X) + 2, top + y * (HEIGHT + GAP_Y) + GAP_Y / 2]);
  }));
  const width = columns.length * (WIDTH + GAP_X) - GAP_X + 4;
  const arrows = [...links].flatMap(([name, targets]) => targets.map((target) => {
    const [x1, y1] = place.get(name);
    const [x2, y2] = place.get(target);
    const [from, to, middle] = [x1 + WIDTH, x2 - 7, (x1 + WIDTH + x2) / 2];
    return s("path", { class: "link", "marker-end": "url(#arrow)", d: `M${from},${y1 + HEIGHT / 2}C${middle},${y1 + HEIGHT / 2} ${middle},${y2 + HEIGHT / 2} ${to},${y2 + HEIGHT / 2}` });
  }));
  const rates = [...links].flatMap(([name, targets]) => targets.map((target) => {
    const [x1] = place.get(name);
    const [x2, y2] = place.get(target);
    return s("text", { class: "rate", x: (x1 + WIDTH + x2) / 2, y: y2 + HEIGHT / 2 - 6, "data-from": name, "data-to": target });
  }));
  const boxes = names.map((name) => {
    const [x, y] = place.get(name);
    const [sign, words, tone] = KINDS[kindOf(worst.get(name))];
    const uses = links.get(name).map(short).join(", ");
    const label = `${short(name)}: ${words}${uses ? `, uses ${uses}` : ""}`;
    return s("a", { href: `#/unit/${encodeURIComponent(name)}`, class: `box ${tone}`, "aria-label": label },
      s("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 8 }),
      s("text", { x: x + 12, y: y + 19 }, `${sign} ${cut(short(name), 18)}`), s("text", { x: x + 12, y: y + 36, class: "state" }, words));
  });
  return s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "graph", role: "group", "aria-label": "Units and their links" },
    s("defs", {}, s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 1, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, s("path", { d: "M0,0L8,4L0,8z" }))),
    arrows, rates, boxes);
}

const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
