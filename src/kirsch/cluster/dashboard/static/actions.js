// What people do: asked once, done, and what came of it told.

import { change, encode, unitPath } from "./api.js";
import { h, setText } from "./dom.js";
import { KINDS, RELEASES, kindOf, named, short } from "./words.js";

const FOLLOWED = 60_000; // ms for which the outcome of an order is shown
const SHOWN = 12_000;

export class Actions {
  constructor(cluster, place) {
    this.cluster = cluster;
    this.place = place;
  }

  /** A button for a request that kirschd may refuse: then it is grey, and says why. */
  button(label, request, act, { danger = false, why = "" } = {}) {
    const button = h("button", { type: "button", class: danger ? "button danger" : "button" }, label);
    this.allow(button, why || this.cluster.session.refused[request] || "");
    button.addEventListener("click", () => (button.dataset.why ? this.say(button.dataset.why) : act()));
    return button;
  }

  /** Make a button grey with a reason, or usable with none. */
  allow(button, why) {
    if (button.dataset.why === why) return;
    button.dataset.why = why;
    button.title = why;
    button.setAttribute("aria-disabled", String(Boolean(why)));
  }

  unitButtons(name) {
    const title = short(name);
    const set = (body) => () => change("PUT", unitPath(name), body);
    const order = (verb, body, question, options) =>
      this.button(verb, "PUT /units/{name}", () => this.ask(question, verb, set(body), { ...options, unit: name }), options);
    return {
      start: order("Start", { desiredState: "launched", again: true }, `Start ${title}?`),
      restart: order("Restart", { desiredState: "launched", again: true }, `Restart ${title}? It stops and starts again.`),
      stop: order("Stop", { desiredState: "loaded" }, `Stop ${title}? Nobody can use it then.`, { danger: true }),
      move: this.button("Move…", "POST /units/{name}/move", () => this.move(name)),
    };
  }

  /** Which buttons make sense now, and why the others do not. */
  allowUnit(buttons, lines) {
    const refused = this.cluster.session.refused;
    const kinds = lines.map(kindOf);
    const runs = kinds.some((kind) => !["off", "done", "failed", "refused", "waiting"].includes(kind));
    const wanted = lines.some((line) => line.desired === "launched");
    const put = refused["PUT /units/{name}"] ?? "";
    this.allow(buttons.start, put || (runs ? "It runs." : ""));
    this.allow(buttons.restart, put || (runs ? "" : "It does not run: start it."));
    this.allow(buttons.stop, put || (runs || wanted ? "" : "It does not run."));
    const others = [...this.cluster.machines.keys()].filter((id) => !lines.some((line) => line.machine === id));
    const stays = lines.some((line) => line.is_global) ? "It is on every machine." : others.length ? "" : "There is no other machine.";
    this.allow(buttons.move, (refused["POST /units/{name}/move"] ?? "") || stays);
  }

  move(name) {
    const here = new Set(this.cluster.linesOf(name).map((line) => line.machine));
    const options = [...this.cluster.machines.values()].filter((machine) => !here.has(machine.id));
    const select = h("select", {}, h("option", { value: "" }, "any other machine"),
      options.map((machine) => h("option", { value: machine.id }, this.cluster.nameOf(machine.id))));
    const act = () => change("POST", unitPath(name, "/move"), select.value ? { machine: select.value } : {});
    const question = `Move ${short(name)}? It is stopped here and started there. What it keeps on its machine's disk stays behind.`;
    this.ask(question, "Move", act, { unit: name, more: h("label", {}, "To ", select) });
  }

  machineButtons(machine) {
    const path = `machines/${machine.id}`;
    const name = this.cluster.nameOf(machine.id);
    const patch = (label, body, question, options) =>
      this.button(label, "PATCH /machines/{name}", () => this.ask(question, label, () => change("PATCH", path, body), options), options);
    const alone = this.cluster.machines.size < 2 ? "There is no other machine." : "";
    const took = machine.cordoned || machine.drained;
    return took
      ? [patch("Uncordon", { cordoned: false, drained: false }, `Have units come to ${name} again?`, {})]
      : [
          patch("Cordon", { cordoned: true }, `Have no more units come to ${name}? Those it has stay.`, { why: alone }),
          patch("Drain", { drained: true }, `Move all units off ${name}? Sticky ones stay.`,
            { danger: true, why: alone, tell: () => this.#drained(machine.id) }),
        ];
  }

  releaseButtons(release) {
    const path = `releases/${encode(release.application)}/${release.number}`;
    const name = `release ${release.number} of ${release.application}`;
    const steer = (label, verb, question, options) =>
      this.button(label, "POST /releases/{name}/{number}",
        () => this.ask(question, label, () => change("POST", path, { do: verb }), options), options);
    const buttons = [];
    if (release.state === "running") buttons.push(steer("Pause", "pause", `Pause ${name}?`));
    if (release.state === "paused") buttons.push(steer("Go on", "resume", `Go on with ${name}?`));
    if (release.state === "canary") buttons.push(steer("Promote", "promote", `Replace the other instances too, by ${name}?`));
    if (["running", "paused", "canary", "waiting"].includes(release.state)) {
      buttons.push(steer("Call off", "abort", `Call ${name} off? What it has replaced goes back.`, { danger: true }));
    }
    return buttons;
  }

  rollbackButton(release) {
    const back = () => change("POST", `releases/${encode(release.application)}`, { number: release.number });
    const question = `Bring release ${release.number} of ${release.application} back? Instances are replaced one after another.`;
    return this.button("Bring back", "POST /releases/{name}", () => this.ask(question, "Bring back", back, { danger: true }), { danger: true });
  }

  /** Ask once, do it, and show what happens: to a unit, or as `tell` returns it, a text and whether it is bad. */
  ask(question, label, act, { danger = false, unit = "", more = null, tell = unit ? () => this.#became(label, unit) : null } = {}) {
    const dialog = h("dialog", { "aria-labelledby": "question" },
      h("form", { method: "dialog" },
        h("p", { id: "question" }, question), more,
        h("div", { class: "buttons" },
          h("button", { class: "button", value: "" }, "Cancel"),
          h("button", { class: danger ? "button danger" : "button primary", value: "yes" }, label))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (dialog.returnValue === "yes") this.#carryOut(label, act, unit, tell);
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  async #carryOut(label, act, unit, tell) {
    const line = this.say(`${label}${unit ? ` ${short(unit)}` : ""} …`, FOLLOWED);
    try {
      const answer = await act();
      const warnings = answer?.warnings?.length ? ` ${answer.warnings.join("; ")}` : "";
      if (tell) this.#follow(line, tell);
      else setText(line, `${label}: ${answer?.release ? `release ${answer.release.number} is ${RELEASES[answer.release.state]}` : "done"}.${warnings}`);
    } catch (failure) {
      line.classList.add("bad");
      setText(line, `${label} failed: ${failure.message}`);
    }
  }

  /** Show what comes of it, with each change of the cluster. */
  #follow(line, tell) {
    const show = () => {
      const [text, bad] = tell();
      line.classList.toggle("bad", bad);
      if (text) setText(line, text);
    };
    this.cluster.addEventListener("change", show);
    setTimeout(() => this.cluster.removeEventListener("change", show), FOLLOWED);
    show();
  }

  /** The state of a unit that was told to do something. */
  #became(label, unit) {
    const lines = this.cluster.linesOf(unit);
    if (!lines.length) return ["", false];
    const worst = lines.find((each) => !each.settled) ?? lines[0];
    const kind = kindOf(worst);
    const why = worst.reasons.length && kind !== "off" ? `: ${worst.reasons.join("; ")}` : "";
    const text = `${label} ${short(unit)}: it is ${KINDS[kind][1]}${named(why, this.cluster.nameOf)}`.replace("it is failed", "it failed");
    return [text, KINDS[kind][2] === "bad"];
  }

  /** The units that a drained machine still has. */
  #drained(id) {
    const lines = this.cluster.units.filter((line) => line.machine === id && line.desired !== "inactive");
    const stays = (line) => line.is_global || line.sticky || line.bound;
    const names = (some) => some.map((line) => short(line.name)).join(", ");
    const [leaving, kept] = [lines.filter((line) => !stays(line)), lines.filter(stays)];
    const name = this.cluster.nameOf(id);
    if (leaving.length) return [`Drain ${name}: ${names(leaving)} still ${leaving.length > 1 ? "have" : "has"} to leave it.`, false];
    return [`${name} is drained${kept.length ? `; it keeps ${names(kept)}` : ""}.`, false];
  }

  /** Say something at the foot of the page for a while. */
  say(text, ms = SHOWN) {
    const line = h("p", {}, text);
    this.place.prepend(line);
    setTimeout(() => line.remove(), ms);
    while (this.place.children.length > 4) this.place.lastElementChild.remove();
    return line;
  }
}
