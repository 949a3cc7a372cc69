// kirschd's API, through the dashboard's own server.

const API = "kirsch/v1/";
const FIRST_PAUSE = 500; // ms before a stream is opened again; each time twice as long
const LONGEST_PAUSE = 5000;

/** What went wrong, in words for a person; status is 0 when the dashboard itself did not answer. */
export class Failure extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Path of a unit: names have @ and :, which stay. */
export const unitPath = (name, below = "") => `units/${encode(name)}${below}`;
export const encode = (name) => encodeURIComponent(name).replaceAll("%40", "@").replaceAll("%3A", ":");

export const session = () => ask("GET", "session");
export const logOut = () => ask("DELETE", "session");
export const fileOf = (name) => ask("GET", `file/${encode(name)}`);
export const read = (path) => ask("GET", API + path);
export const change = (method, path, body) => ask(method, API + path, body);

async function ask(method, path, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Failure("The dashboard has ended: run `kirsch dashboard` again.", 0);
  }
  const content = await response.json().catch(() => null);
  if (response.ok) return content;
  throw new Failure(content?.detail ?? `The dashboard answered ${response.status}.`, response.status);
}

/** A stream of kirschd's, opened again whenever it ends. `message(value, first)` gets what it says, `state("")` is
    called once it is open, and `state(reason)` when it is not. */
export class Stream {
  constructor(path, { message, state = () => {} }) {
    Object.assign(this, { path, message, state, pause: FIRST_PAUSE, closed: false });
    this.#open();
  }

  #open() {
    const url = new URL(API + this.path, document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = this.socket = new WebSocket(url);
    let first = true;
    socket.addEventListener("message", (event) => {
      if (this.closed) return;
      if (first) {
        this.pause = FIRST_PAUSE;
        this.state("");
      }
      this.message(JSON.parse(event.data), first);
      first = false;
    });
    socket.addEventListener("close", (event) => {
      if (this.closed) return;
      this.state(event.reason || "The dashboard has ended: run `kirsch dashboard` again.");
      this.timer = setTimeout(() => this.#open(), this.pause);
      this.pause = Math.min(2 * this.pause, LONGEST_PAUSE);
    });
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket.close();
  }
}
