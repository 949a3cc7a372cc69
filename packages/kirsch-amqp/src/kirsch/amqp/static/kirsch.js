/**
 * kirsch.js: rooms over a WebSocket, for pages. The other side is kirsch.amqp.Bridge.
 *
 *   import { KirschClient } from "/kirsch.js";
 *   const client = new KirschClient("/ws", { name: "Ada" });
 *   const room = client.join("lobby", { last: 50 });
 *   room.on("message", (message) => console.log(message.name, message.data));
 *   await room.send({ text: "hello" });          // the broker has it
 *
 * It connects again when the connection is lost, sends again what was not confirmed, hears what it has missed,
 * and gives each message once. An ES module without dependencies.
 */

// Milliseconds.
const FIRST = 500;
const LONGEST = 30_000;
const SILENCE = 20_000;
// Where something was sent and is not answered, a shorter silence is told from a slow broker by a ping.
const UNANSWERED = 5_000;
const PATIENCE = 5_000;
const AGAIN = 1_000;
// A token is renewed when so much of its time is left, at least.
const EARLY = 0.2;
// How many messages wait to be confirmed before `send` refuses; how many of a room are told from their doubles.
const WAITING = 1_000;
const REMEMBERED = 2_000;
// Close codes after which the same would happen again.
const FINAL = new Map([
  [1003, "not-text"],
  [1009, "too-large"],
  [4400, "malformed"],
  [4401, "unauthenticated"],
  [4403, "banned"],
  [4409, "replaced"],
]);
// Errors after which the same message may be sent again.
const PASSING = new Set(["rate", "busy", "unconfirmed"]);

/** Why something was not done: `code` is the protocol's, or "closed", "full", "too-large", "away", "token", "ticket". */
export class KirschError extends Error {
  constructor(code, reason) {
    super(reason);
    this.name = "KirschError";
    this.code = code;
  }
}

/** What has listeners: `on` returns a function that takes the listener away again. */
class Emitter {
  #listeners = new Map();

  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.#listeners.get(type).delete(listener);
  }

  emit(type, detail) {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        // A listener's failure is its own.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }
}

/**
 * A room that a client is in, until `leave()`, or until the server has it leave.
 *
 * Options: `last`, `presence`; `ticket` of a private room: a text, or a function (async too) that gives one each time.
 *
 * Events: "message" ({room, client, name, number, at, data, offset, own}), "signal" ({client, name, data}),
 * "presence" ({joined, left}, arrays of {client, name}; `members` and `count` are up to date), "joined"
 * ({complete}), "gap" (messages were missed that are not kept any more), "left" ({reason}: the server has us leave),
 * "error" (KirschError).
 */
export class Room extends Emitter {
  #client;
  #last;
  #ticket;
  // client → its user, where it has an id.
  #users = new Map();
  #seen = new Set();
  // Offset below which `history` begins; null before the first `joined`. The page that is being waited for.
  #oldest = null;
  #page = null;

  constructor(client, name, { last = 0, presence = true, ticket } = {}) {
    super();
    this.#client = client;
    this.#last = last;
    this.#ticket = ticket;
    this.name = name;
    this.presence = presence;
    /** The last message's offset; null before the first `joined`. */
    this.offset = null;
    /** The stream that the offset is of: another once the broker has lost it. */
    this.stream = "";
    /** The server's process that told us. */
    this.process = "";
    /** Whether the server has us in the room now. */
    this.joined = false;
    /** client → name of those who are there; empty in rooms too large to name them. */
    this.members = new Map();
    this.count = 0;
    /** Whether `history` may have messages that were not given yet. */
    this.more = false;
  }

  /** Say something for good: a promise that is kept once the broker has it; else a KirschError. */
  send(data) {
    return this.#client._send(this.name, data);
  }

  /** Say something that is worth nothing later, to those who are there now. */
  signal(data) {
    if (this.joined) this.#client._say({ type: "signal", room: this.name, data });
  }

  /**
   * Older messages than have been given so far: a promise of {messages, more}, oldest first, at most 100 at a time.
   * `more` is false at the beginning of what is kept. Rejected with a KirschError where there is no connection.
   */
  async history(limit = 50) {
    for (;;) {
      const page = await this.#ask(limit);
      this.#oldest = page.before;
      this.more = page.more;
      const messages = page.messages.map((message) => this.#own(message));
      // A room in which little is said may have none among the messages that one page looks through.
      if (messages.length > 0 || !page.more) return { messages, more: page.more };
    }
  }

  leave() {
    this.#client._leave(this);
  }

  /** The users who are there: user → {name, clients}. Somebody with three windows is there once. */
  get people() {
    const people = new Map();
    for (const [client, name] of this.members) {
      const user = this.#users.get(client) ?? `~${client}`;
      if (people.has(user)) people.get(user).clients.push(client);
      else people.set(user, { name, clients: [client] });
    }
    return people;
  }

  #ask(limit) {
    if (!this.joined) return Promise.reject(new KirschError("away", "there is no connection"));
    if (this.#page) return Promise.reject(new KirschError("busy", "wait for the page that you asked for"));
    return new Promise((resolve, reject) => {
      this.#page = { resolve, reject };
      this.#client._say({ type: "history", room: this.name, before: this.#oldest, limit });
    });
  }

  #own(message) {
    return { ...message, own: message.client === this.#client.client };
  }

  // For KirschClient.

  /** Whether a ticket has to be asked for each time. */
  get _asks() {
    return typeof this.#ticket === "function";
  }

  async _ticket() {
    return this.#ticket(this.name);
  }

  _join(ticket = this.#ticket) {
    const said = { type: "join", room: this.name };
    if (ticket !== undefined) said.ticket = ticket;
    if (!this.presence) said.presence = false;
    if (this.offset !== null) {
      said.since = this.offset;
      if (this.stream) said.stream = this.stream;
      if (this.process) said.process = this.process;
    } else if (this.#last) said.last = this.#last;
    return said;
  }

  _hear(said, own) {
    switch (said.type) {
      case "joined": {
        const again = this.offset !== null;
        this._follow(said);
        // What has the same place now may be another message.
        if (!said.complete) this.#forgetPlaces();
        this.process = said.process ?? "";
        this.more = said.more ?? (this.more || !said.complete);
        this.joined = true;
        this.#present(said);
        this.emit("joined", { complete: said.complete, again });
        if (!said.complete) this.emit("gap", {});
        break;
      }
      case "message": {
        // It is of another stream already.
        if (said.offset <= this.offset) this.#forgetPlaces();
        this.offset = said.offset;
        const id = said.client ? `${said.client}:${said.number}` : `@${said.offset}`;
        if (this.#seen.has(id)) return;
        this.#seen.add(id);
        if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value);
        this.#oldest = Math.min(this.#oldest, said.offset);
        this.emit("message", { ...said, own: said.client === own });
        break;
      }
      case "history":
        this.#page?.resolve(said);
        this.#page = null;
        break;
      case "presence":
        this.#present(said);
        break;
      case "left":
        this.joined = false;
        if (said.reason !== undefined) this.emit("left", said);
        break;
      default:
        this.emit(said.type, said);
    }
  }

  _lost() {
    this.joined = false;
    this._noPage(new KirschError("away", "the connection was lost"));
  }

  /** The page that is being waited for does not come; whether there was one. */
  _noPage(error) {
    const page = this.#page;
    this.#page = null;
    page?.reject(error);
    return Boolean(page);
  }

  /** All up to this offset of this stream has come. */
  _follow({ offset, stream = "" }) {
    if (stream !== this.stream) this.#forgetPlaces();
    // Places of another stream are no use.
    if (this.#oldest === null || stream !== this.stream) this.#oldest = offset + 1;
    this.offset = offset;
    this.stream = stream;
  }

  #forgetPlaces() {
    for (const id of this.#seen) if (id.startsWith("@")) this.#seen.delete(id);
  }

  #present(said) {
    let { joined = [], left = [] } = said;
    if (said.members) {
      const now = new Map(said.members.map(({ client, name }) => [client, name]));
      joined = said.members.filter(({ client }) => !this.members.has(client));
      left = [...this.members].filter(([client]) => !now.has(client)).map(([client, name]) => ({ client, name }));
      this.members = now;
      this.#users.clear();
    } else {
      joined = joined.filter(({ client, name }) => this.members.get(client) !== name);
      left = left.filter(({ client }) => this.members.has(client));
      for (const { client, name } of joined) this.members.set(client, name);
      for (const { client } of left) this.members.delete(client);
    }
    if (said.count !== undefined) this.count = said.count;
    for (const { client, user } of [...(said.members ?? []), ...joined]) if (user) this.#users.set(client, user);
    for (const { client } of left) if (!this.members.has(client)) this.#users.delete(client);
    if (said.count > this.members.size) this.members.clear();
    this.emit("presence", { joined, left });
  }
}

/**
 * A connection that comes back.
 *
 * Options: `name`; `token`, a value or a function (async too) that gives one for each connection; `key`, the
 * client's secret, where it is to be the same one after the page was loaded anew (then `number` has to go on,
 * too: the highest number it has sent); `unsent`, what the property of that name said before the page was loaded
 * anew: it is sent first; `WebSocket`, the class to use.
 *
 * Events: "state" ("connecting", "open", "waiting" with `retry`, the milliseconds until the next attempt,
 * "closed"), "welcome", "broker" ({connected}), "error" (KirschError), "unsent" (the property has changed), "closed" ({code, reason}: it will not
 * come back by itself; `connect()` has it try again).
 */
export class KirschClient extends Emitter {
  #url;
  #options;
  #WebSocket;
  #socket = null;
  #failures = 0;
  #timer = null;
  #watch = null;
  #refresh = null;
  #heard = 0;
  // When it was asked for a sign of life that has not come; 0 if it was not.
  #asked = 0;
  // Hello was said; it was answered.
  #greeted = false;
  #welcome = false;
  #rooms = new Map();
  // number → what was sent and is not confirmed, in order.
  #outbox = new Map();
  #paused = null;
  // Something was refused for now: one at a time, in order, until all of it has gone.
  #narrow = false;
  #limits = { message: 65536, unconfirmed: 100 };
  // Why it is.
  #closed = "closed";
  #online = () => this.#hurry();
  #offline = () => {
    if (this.state === "open" || this.state === "connecting") this.#lost(1006, "offline");
  };

  constructor(url, options = {}) {
    super();
    this.#url = url;
    this.#options = options;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.key = options.key ?? random();
    this.number = options.number ?? 0;
    this.name = options.name ?? "";
    /** What others know us by, once welcome; and the user that we are. */
    this.client = "";
    this.user = "";
    this.state = "closed";
    /** Whether the broker is there. */
    this.broker = false;
    for (const { room, number, data } of options.unsent ?? []) {
      // Nobody waits for a promise of it any more.
      const reject = (error) => (this.#rooms.get(room) ?? this).emit("error", error);
      this.#queue(room, number, data, () => {}, reject);
      this.number = Math.max(this.number, number);
    }
    this.connect();
  }

  /** Connect, unless it does or is. */
  connect() {
    if (this.state === "connecting" || this.state === "open") return;
    clearTimeout(this.#timer);
    globalThis.addEventListener?.("online", this.#online);
    globalThis.addEventListener?.("offline", this.#offline);
    this.#open();
  }

  /** End it for good: what was not confirmed is refused with "closed". */
  close() {
    this.#end(1000, "");
  }

  /** Be in a room: at once, or as soon as it is connected. */
  join(name, options) {
    let room = this.#rooms.get(name);
    if (room === undefined) {
      room = new Room(this, name, options);
      this.#rooms.set(name, room);
      if (this.#greeted) this.#join(room);
    }
    return room;
  }

  /** What is not confirmed yet, in order: {room, number, data}. To be kept where it is to outlive the page. */
  get unsent() {
    return [...this.#outbox].map(([number, { room, data }]) => ({ room, number, data }));
  }

  /** Messages that are not confirmed yet. */
  get unconfirmed() {
    return this.#outbox.size;
  }

  // For Room.

  _say(said) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(said));
  }

  _send(room, data) {
    if (this.state === "closed") return Promise.reject(new KirschError(this.#closed, "the client is closed"));
    if (this.#outbox.size >= WAITING) return Promise.reject(new KirschError("full", "too much waits to be sent"));
    const { size } = encoded(room, this.number + 1, data);
    if (size > this.#limits.message) return Promise.reject(this.#tooLarge());
    this.number += 1;
    return new Promise((resolve, reject) => {
      this.#queue(room, this.number, data, resolve, reject);
      this.#flush();
    });
  }

  #queue(room, number, data, resolve, reject) {
    this.#outbox.set(number, { ...encoded(room, number, data), room, data, resolve, reject, flying: false });
    this.emit("unsent", {});
  }

  #settled(number) {
    this.#outbox.delete(number);
    this.emit("unsent", {});
  }

  _leave(room) {
    if (this.#rooms.get(room.name) === room) {
      this.#rooms.delete(room.name);
      if (this.#greeted) this._say({ type: "leave", room: room.name });
      room._lost();
    }
  }

  // How it connects.

  async #open() {
    this.#set("connecting");
    let token = this.#options.token;
    try {
      if (typeof token === "function") token = await token();
    } catch (error) {
      // Closed meanwhile, it is for good.
      if (this.state !== "connecting") return;
      this.emit("error", new KirschError("token", String(error)));
      this.#later();
      return;
    }
    if (this.state !== "connecting") return;
    let socket;
    try {
      socket = new this.#WebSocket(absolute(this.#url));
    } catch (error) {
      this.#end(1006, String(error));
      return;
    }
    this.#socket = socket;
    socket.onopen = () => {
      if (socket !== this.#socket) {
        // Another was begun meanwhile.
        socket.close();
        return;
      }
      const hello = { type: "hello", key: this.key, name: this.name };
      if (token !== undefined) hello.token = token;
      this._say(hello);
      this.#greeted = true;
      for (const room of this.#rooms.values()) this.#join(room);
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#hear(JSON.parse(data));
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#lost(code, reason);
    };
    this.#listen();
  }

  async #join(room) {
    if (!room._asks) {
      this._say(room._join());
      return;
    }
    const socket = this.#socket;
    try {
      const ticket = await room._ticket();
      if (socket === this.#socket && this.#rooms.get(room.name) === room) this._say(room._join(ticket));
    } catch (error) {
      room.emit("error", new KirschError("ticket", String(error)));
    }
  }

  // The token is renewed before it expires, without another connection, where a function gives it.
  #expires(seconds) {
    clearTimeout(this.#refresh);
    if (typeof this.#options.token !== "function" || typeof seconds !== "number") return;
    const socket = this.#socket;
    this.#refresh = setTimeout(async () => {
      try {
        const token = await this.#options.token();
        if (socket === this.#socket) this._say({ type: "refresh", token });
      } catch (error) {
        // The server ends the connection when the token has expired: it is asked for again then.
        this.emit("error", new KirschError("token", String(error)));
      }
    }, Math.min(Math.max(1000, seconds * (1 - EARLY) * 1000), 2 ** 31 - 1));
  }

  #listen() {
    // A connection that is dead says nothing at all.
    this.#heard = Date.now();
    this.#asked = 0;
    clearInterval(this.#watch);
    this.#watch = setInterval(() => {
      // Pages that are hidden come to this once a minute only: none is dead that was not asked.
      const now = Date.now();
      if (this.#asked && now - this.#asked > PATIENCE) {
        this.#lost(1006, "no sign of life");
      } else if (!this.#asked && now - this.#heard > (this.#outbox.size > 0 ? UNANSWERED : SILENCE)) {
        this.#asked = now;
        this._say({ type: "ping" });
      }
    }, 1_000);
  }

  #lost(code, reason) {
    const socket = this.#socket;
    this.#drop();
    socket?.close();
    const final = FINAL.has(code) && !(code === 4401 && typeof this.#options.token === "function");
    if (final) this.#end(code, reason);
    else this.#later();
  }

  #drop() {
    clearInterval(this.#watch);
    clearTimeout(this.#refresh);
    clearTimeout(this.#paused);
    this.#paused = null;
    this.#narrow = false;
    this.#socket = null;
    this.#greeted = this.#welcome = false;
    for (const room of this.#rooms.values()) room._lost();
    for (const waiting of this.#outbox.values()) waiting.flying = false;
  }

  #later() {
    // Full jitter: clients that lost one server together do not come back together.
    const retry = Math.random() * Math.min(LONGEST, FIRST * 2 ** this.#failures);
    this.#failures += 1;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), retry);
    this.#set("waiting", retry);
  }

  #hurry() {
    if (this.state === "waiting") {
      this.#failures = 0;
      clearTimeout(this.#timer);
      this.#open();
    }
  }

  #end(code, reason) {
    if (this.state === "closed") return;
    const socket = this.#socket;
    this.#drop();
    clearTimeout(this.#timer);
    globalThis.removeEventListener?.("online", this.#online);
    globalThis.removeEventListener?.("offline", this.#offline);
    socket?.close();
    this.#closed = FINAL.get(code) ?? "closed";
    const error = new KirschError(this.#closed, reason || "the client is closed");
    const outbox = [...this.#outbox.values()];
    this.#outbox.clear();
    for (const { reject } of outbox) reject(error);
    this.#set("closed");
    this.emit("closed", { code, reason });
  }

  #set(state, retry) {
    this.state = state;
    this.emit("state", { state, retry });
  }

  // What comes.

  #hear(said) {
    this.#heard = Date.now();
    this.#asked = 0;
    switch (said.type) {
      case "welcome":
        this.#welcome = true;
        this.#failures = 0;
        this.client = said.client;
        this.user = said.user ?? said.client;
        this.#expires(said.expires);
        this.broker = said.broker;
        this.#limits = { ...this.#limits, ...said.limits };
        this.#set("open");
        this.emit("welcome", said);
        this.emit("broker", { connected: said.broker });
        this.#flush();
        break;
      case "sent":
        this.#outbox.get(said.number)?.resolve();
        this.#settled(said.number);
        if (this.#outbox.size === 0) this.#narrow = false;
        this.#flush();
        break;
      case "broker":
        this.broker = said.connected;
        this.emit("broker", said);
        break;
      case "error":
        this.#refused(said);
        break;
      case "stream":
        for (const room of this.#rooms.values()) if (room.joined) room._follow(said);
        break;
      case "pong":
        break;
      case "refreshed":
        this.#expires(said.expires);
        break;
      case "left": {
        const room = this.#rooms.get(said.room);
        room?._hear(said, this.client);
        if (said.reason === undefined || room === undefined) break;
        // Whoever gives a ticket each time says whether there is another.
        if (room._asks) this.#join(room);
        else this.#rooms.delete(said.room);
        break;
      }
      default:
        // A copy of this page has our key: what it has used is no number for what we say next.
        if (said.type === "message" && said.client === this.client) this.number = Math.max(this.number, said.number);
        this.#rooms.get(said.room)?._hear(said, this.client);
    }
  }

  #refused(said) {
    const error = new KirschError(said.code, said.reason);
    const waiting = this.#outbox.get(said.number);
    if (waiting === undefined) {
      const room = this.#rooms.get(said.room);
      if (room?.joined && room._noPage(error)) return;
      (room ?? this).emit("error", error);
      if (room !== undefined && !room.joined && PASSING.has(said.code)) {
        setTimeout(() => {
          if (this.#welcome && !room.joined && this.#rooms.get(room.name) === room) this.#join(room);
        }, AGAIN);
      }
    } else if (PASSING.has(said.code)) {
      // Nothing new goes out before that has.
      waiting.flying = false;
      this.#narrow = true;
      this.#paused ??= setTimeout(() => {
        this.#paused = null;
        this.#flush();
      }, AGAIN);
    } else {
      this.#settled(said.number);
      waiting.reject(error);
      this.#flush();
    }
  }

  #tooLarge() {
    return new KirschError("too-large", `a message has ${this.#limits.message} bytes at most`);
  }

  #flush() {
    if (!this.#welcome || this.#paused !== null) return;
    const most = this.#narrow ? 1 : this.#limits.unconfirmed;
    let flying = 0;
    for (const waiting of this.#outbox.values()) flying += waiting.flying;
    for (const [number, waiting] of this.#outbox) {
      if (flying >= most) return;
      if (waiting.flying) continue;
      if (waiting.size > this.#limits.message) {
        // This server takes less than was known when it was said: it would end the connection.
        this.#settled(number);
        waiting.reject(this.#tooLarge());
        continue;
      }
      waiting.flying = true;
      flying += 1;
      this.#socket.send(waiting.text);
    }
  }
}

/** A message as it is sent, and its bytes. */
function encoded(room, number, data) {
  const text = JSON.stringify({ type: "send", room, number, data: data ?? null });
  return { text, size: new TextEncoder().encode(text).length };
}

/** A secret of 192 bits. */
function random() {
  const bytes = crypto.getRandomValues(new Uint8Array(24));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

function absolute(url) {
  const base = globalThis.location?.href;
  return new URL(url, base).href.replace(/^http/, "ws");
}
