// The messages of a room on the page. What people say is text, never markup.

import { day, sameDay, time } from "./time.js";

const TOGETHER = 5 * 60_000; // ms: what one says within that stands together
const NEAR = 60; // px from the bottom that count as being there
const SHOWN = 60; // messages that are shown at first, and so many more each time: each costs with every other one
const SLACK = 30; // how many more there may be before the first of them go

export class Log {
  /** `earlier` is called when somebody looks for more than there is: it gets older messages, and says whether. */
  constructor(scroll, list, below, above, earlier) {
    this.scroll = scroll;
    this.list = list;
    this.below = below;
    this.above = above;
    this.messages = [];
    this.shown = 0;
    this.last = null;
    this.missed = 0;
    this.earlier = earlier;
    this.more = false;
    above.addEventListener("click", () => this.#older());
    below.addEventListener("click", () => this.toBottom());
    scroll.addEventListener("scroll", () => {
      if (this.atBottom()) this.#none();
      else if (scroll.scrollTop < NEAR && !above.hidden) this.#older();
    });
    // What makes room for itself must not hide what was said last.
    new ResizeObserver(() => this.stuck && this.toBottom()).observe(scroll);
    scroll.addEventListener("scroll", () => { this.stuck = this.atBottom(); });
    this.stuck = true;
  }

  /** Show a room's messages in place of what is there: they are not read out. */
  fill(messages, more = false) {
    this.messages = messages;
    this.more = more;
    this.#show(SHOWN);
    this.toBottom();
  }

  /** Another message, the last of all that may be shown: the first of them go, when nobody looks at them. */
  add(message, messages) {
    const follow = this.atBottom() || message.own;
    const most = follow ? SHOWN : messages.length;
    if (this.shown >= most + SLACK) {
      this.messages = messages.slice(0, -1);
      this.#show(most);
    }
    this.messages = messages;
    this.list.append(...this.#items(message));
    this.#count(this.shown + 1);
    if (follow) {
      this.toBottom();
    } else {
      this.missed += 1;
      this.below.textContent = `${this.missed} new ${this.missed > 1 ? "messages" : "message"} below`;
      this.below.hidden = false;
    }
  }

  /** Whether there may be older messages than those that were given. */
  setMore(more) {
    this.more = more;
    this.#count(this.shown);
  }

  /** Older messages have come in front of those that were shown. */
  prepend(messages, more) {
    this.more = more;
    this.messages = messages;
    this.#show(this.shown + SHOWN);
  }

  // Show more of what there is; have more got where all of it is shown.
  #older() {
    if (this.shown < this.messages.length) this.#show(this.shown + SHOWN);
    else this.earlier();
    if (this.above.hidden) this.scroll.focus({ preventScroll: true });
  }

  atBottom() {
    return this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < NEAR;
  }

  toBottom() {
    this.scroll.scrollTop = this.scroll.scrollHeight;
    this.stuck = true;
    this.#none();
  }

  // The last so many: what is on the screen stays where it is, and nothing is read out.
  #show(count) {
    const below = this.scroll.scrollHeight - this.scroll.scrollTop;
    this.scroll.setAttribute("aria-busy", "true");
    this.last = null;
    this.list.replaceChildren(...this.messages.slice(-count).flatMap((message) => this.#items(message)));
    this.#count(Math.min(count, this.messages.length));
    this.scroll.scrollTop = this.scroll.scrollHeight - below;
    this.scroll.removeAttribute("aria-busy");
  }

  #count(shown) {
    this.shown = shown;
    this.above.hidden = shown >= this.messages.length && !this.more;
  }

  #none() {
    this.missed = 0;
    this.below.hidden = true;
  }

  #items(message) {
    if (message.gap) {
      this.last = null;
      return [make("li", "rule", "Some messages are missing here.")];
    }
    const items = [];
    if (!this.last || !sameDay(this.last.at, message.at)) items.push(make("li", "rule", day(message.at)));
    const together = this.last && !items.length && this.last.client === message.client && this.last.name === message.name && message.at - this.last.at < TOGETHER;
    this.last = message;
    items.push(item(message, together));
    return items;
  }
}

function item(message, together) {
  const element = make("li", `message${message.own ? " own" : ""}${together ? " together" : ""}`);
  const head = make("p", together ? "head unseen" : "head");
  const name = make("b", "name", message.name || "the chat");
  name.dir = "auto";
  name.style.setProperty("--hue", hue(message.client));
  const when = make("time", "", time(message.at));
  when.dateTime = new Date(message.at).toISOString();
  head.append(name, " ", when);
  const text = make("p", "text");
  text.append(...linked(message.data?.text ?? ""));
  text.dir = "auto";
  element.append(head, text);
  return element;
}

// A text with its addresses as links. Marks behind an address end the sentence.
function linked(text) {
  return text.split(/(https?:\/\/[^\s<>"]*[^\s<>".,:;!?)\]'’])/u).map((part, number) => {
    if (number % 2 === 0) return part;
    const link = make("a", "", part);
    link.href = part;
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    return link;
  });
}

/** A colour's hue, the same for one person everywhere. */
export function hue(client) {
  let sum = 0;
  for (const letter of client) sum = (sum * 31 + letter.codePointAt(0)) % 65_521;
  // By the golden angle: neighbours lie far apart.
  return Math.round((sum * 137.508) % 360);
}

export function make(tag, kind = "", text = "") {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  if (text) element.textContent = text;
  return element;
}
