// What units write, as it comes: searched, paused, kept as a file.

import { Stream, encode } from "./api.js";
import { h, setText } from "./dom.js";
import { levelOf, short, time } from "./words.js";

const LINES = 500; // that are read at first
const MOST = 5000; // that the page keeps
const COLOUR = /\x1b\[[\d;]*m/g; // what a program says to terminals

export class Journal {
  constructor(cluster, units) {
    this.units = units;
    this.lines = [];
    this.waiting = [];
    this.list = h("div", { class: "journal", tabindex: "0", role: "log", "aria-label": "Journal", "aria-live": "off" });
    this.search = h("input", { type: "search", placeholder: "Search", "aria-label": "Search the journal", oninput: () => this.#show() });
    this.level = h("select", { "aria-label": "Lines of", onchange: () => this.#show() },
      h("option", { value: "" }, "all lines"), h("option", { value: "warning" }, "warnings and errors"),
      h("option", { value: "error" }, "errors"), h("option", { value: "err" }, "standard error"),
      h("option", { value: "kirsch" }, "kirsch itself"));
    this.pause = h("button", { type: "button", class: "button", "aria-pressed": "false", onclick: () => this.#toggle() }, "Pause");
    this.count = h("span", { class: "hint", role: "status" });
    this.element = h("section", { class: "log" }, h("h2", {}, "Journal"),
      h("div", { class: "buttons" }, this.search, this.level, this.pause,
        h("button", { type: "button", class: "button", onclick: () => this.#download() }, "Download"), this.count),
      this.list);
    const query = units.map((unit) => `unit=${encode(unit)}`).join("&");
    let seen = 0;
    this.stream = new Stream(`journal?lines=${LINES}&${query}`, {
      message: (line, first) => {
        // Opened again, it tells once more what was there before.
        if (first) seen = this.lines.at(-1)?.time ?? 0;
        if (line.time > seen) this.#take(line);
      },
    });
  }

  #take(line) {
    this.lines.push(line);
    if (this.lines.length > MOST) this.lines.shift();
    if (this.pause.getAttribute("aria-pressed") === "true") {
      this.kept = (this.kept ?? 0) + 1;
      setText(this.count, `${this.kept} more lines`);
      return;
    }
    this.waiting.push(line);
    this.frame ??= requestAnimationFrame(() => this.#append());
  }

  /** Append what has come since the last frame; a reader who has scrolled up stays there. */
  #append() {
    this.frame = null;
    const { list } = this;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.append(...this.waiting.splice(0).slice(-MOST).filter((line) => this.#matches(line)).map((line) => this.#row(line)));
    while (list.children.length > MOST) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  #row(line) {
    return h("div", { class: line.stream === "kirsch" ? "own" : levelOf(line.text) },
      h("time", {}, time(line.time)), this.units.length > 1 ? h("b", {}, short(line.unit)) : null, h("span", {}, line.text.replace(COLOUR, "")));
  }

  #matches(line) {
    const sought = this.search.value.toLowerCase();
    const { value } = this.level;
    const level = levelOf(line.text);
    return (!sought || line.text.toLowerCase().includes(sought))
      && (!value || value === line.stream || value === level || (value === "warning" && level === "error"));
  }

  #show() {
    this.waiting = [];
    const found = this.lines.filter((line) => this.#matches(line));
    this.list.replaceChildren(...found.map((line) => this.#row(line)));
    this.list.scrollTop = this.list.scrollHeight;
    setText(this.count, this.search.value || this.level.value ? `${found.length} of ${this.lines.length} lines` : "");
  }

  #toggle() {
    const paused = this.pause.getAttribute("aria-pressed") !== "true";
    this.pause.setAttribute("aria-pressed", String(paused));
    setText(this.pause, paused ? "Go on" : "Pause");
    this.kept = 0;
    if (paused) setText(this.count, "paused");
    else this.#show();
  }

  #download() {
    const text = this.lines.filter((line) => this.#matches(line))
      .map((line) => `${new Date(line.time * 1000).toISOString()} ${line.unit} ${line.text}\n`).join("");
    const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: `${short(this.units[0])}.log` });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  close() {
    this.stream.close();
    if (this.frame) cancelAnimationFrame(this.frame);
  }
}
