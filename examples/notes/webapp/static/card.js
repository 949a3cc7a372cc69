// One note on the page: shown, edited, deleted, and what happens when someone else was faster.

import * as api from "./api.js";
import { showTime } from "./time.js";

const template = document.getElementById("card");

/** A text with its addresses as links. Marks behind an address end the sentence. */
function linked(text) {
  return text.split(/(https?:\/\/[^\s<>"]*[^\s<>".,:;!?)\]'’])/u).map((part, number) => {
    if (number % 2 === 0) return part;
    const link = document.createElement("a");
    link.href = link.textContent = part;
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    return link;
  });
}

/** Calls of the page a card needs: announce(text), added(note), and removed(card) once its note is gone. */
export class Card {
  constructor(note, page) {
    this.page = page;
    this.element = template.content.firstElementChild.cloneNode(true);
    const find = (selector) => this.element.querySelector(selector);
    this.view = find(".view");
    this.text = find(".text");
    this.time = find("time");
    this.usual = this.view.querySelector(".row");
    this.confirm = find(".confirm");
    this.editor = find(".editor");
    this.area = find("textarea");
    this.conflict = find(".conflict");
    this.error = find(".error");
    this.editButton = find(".edit");
    this.deleteButton = find(".delete");
    this.#listen(find);
    this.show(note);
  }

  show(note) {
    this.note = note;
    this.element.dataset.id = note.id;
    this.text.replaceChildren(...linked(note.text));
    showTime(this.time, note);
    const name = note.text.trim().slice(0, 60);
    this.editButton.setAttribute("aria-label", `Edit: ${name}`);
    this.deleteButton.setAttribute("aria-label", `Delete: ${name}`);
  }

  #listen(find) {
    this.editButton.addEventListener("click", () => this.edit());
    this.deleteButton.addEventListener("click", () => this.#ask(true));
    find(".keep").addEventListener("click", () => this.#ask(false));
    find(".really").addEventListener("click", () => this.#delete());
    find(".cancel").addEventListener("click", () => this.#leave());
    this.editor.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save(this.note);
    });
    this.area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.editor.requestSubmit();
    });
    this.editor.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing) this.#leave();
    });
    this.confirm.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#ask(false);
    });
  }

  edit() {
    this.#complain(null);
    this.conflict.hidden = true;
    this.view.hidden = true;
    this.editor.hidden = false;
    this.#settle();
    this.area.value = this.note.text;
    this.area.focus();
    this.area.setSelectionRange(this.area.value.length, this.area.value.length);
  }

  #leave() {
    if (this.busy) return;
    this.editor.hidden = true;
    this.view.hidden = false;
    this.#complain(null);
    this.editButton.focus();
  }

  #ask(asking) {
    this.usual.hidden = asking;
    this.confirm.hidden = !asking;
    this.#complain(null);
    (asking ? this.confirm.querySelector(".really") : this.deleteButton).focus();
  }

  /** Save what was typed over the note as `base` knows it. */
  async #save(base) {
    const text = this.area.value;
    if (!this.conflict.hidden && base === this.note) return;
    if (text === base.text) return this.#leave();
    await this.#working(async () => {
      try {
        this.show(await api.replace(base, text));
        this.busy = false;
        this.#leave();
        this.page.announce("Saved.");
      } catch (failure) {
        if (failure.status === 412) await this.#changedMeanwhile();
        else if (failure.status === 404) this.#deletedMeanwhile();
        else throw failure;
      }
    });
  }

  async #changedMeanwhile() {
    let theirs;
    try {
      theirs = await api.read(this.note.id);
    } catch (failure) {
      if (failure.status !== 404) throw failure;
      return this.#deletedMeanwhile();
    }
    this.show(theirs);
    this.#dispute({
      explanation: "This note was changed while you were editing it. It now reads:",
      theirs: theirs.text,
      reload: ["Reload, drop mine", () => this.#leave()],
      overwrite: ["Overwrite with mine", () => { this.#settle(); this.#save(theirs); }],
    });
  }

  #deletedMeanwhile() {
    this.#dispute({
      explanation: "This note was deleted while you were editing it.",
      theirs: "",
      reload: ["Drop mine", () => this.page.removed(this)],
      overwrite: ["Save mine as a new note", () => this.#saveAsNew()],
    });
  }

  #dispute({ explanation, theirs, reload, overwrite }) {
    this.conflict.querySelector(".explanation").textContent = explanation;
    const shown = this.conflict.querySelector(".theirs");
    shown.textContent = theirs;
    shown.hidden = !theirs;
    for (const [name, [label, act]] of Object.entries({ reload, overwrite })) {
      const button = this.conflict.querySelector(`.${name}`);
      button.textContent = label;
      button.onclick = act;
    }
    this.conflict.hidden = false;
    this.editor.querySelector(".usual").hidden = true;
    this.afterwards = this.conflict.querySelector(".reload");
  }

  #settle() {
    this.conflict.hidden = true;
    this.editor.querySelector(".usual").hidden = false;
  }

  async #saveAsNew() {
    await this.#working(async () => {
      this.page.added(await api.create(this.area.value));
      this.page.removed(this);
    });
  }

  async #delete() {
    await this.#working(async () => {
      try {
        await api.remove(this.note);
        this.page.announce("Deleted.");
        this.page.removed(this);
      } catch (failure) {
        if (failure.status === 404) {
          this.page.announce("It was deleted already.");
          return this.page.removed(this);
        }
        if (failure.status !== 412) throw failure;
        this.show(await api.read(this.note.id));
        this.confirm.hidden = true;
        this.usual.hidden = false;
        this.afterwards = this.deleteButton;
        throw new api.Failure("Not deleted: the note was changed in the meantime. This is how it reads now.", 412);
      }
    });
  }

  /** Do something that takes a while: no button works meanwhile, focus comes back, a failure is shown. */
  async #working(act) {
    if (this.busy) return;
    const focused = document.activeElement;
    this.busy = this.area.readOnly = true;
    this.afterwards = null;
    this.element.setAttribute("aria-busy", "true");
    this.#complain(null);
    try {
      await act();
    } catch (failure) {
      this.#complain(failure.message);
      this.afterwards ??= focused;
    } finally {
      this.busy = this.area.readOnly = false;
      this.element.removeAttribute("aria-busy");
      this.afterwards?.focus();
    }
  }

  #complain(message) {
    this.error.textContent = message ?? "";
    this.error.hidden = !message;
  }
}
