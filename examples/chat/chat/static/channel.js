// One room as this window knows it: what was said, who is typing, who has read it, what has not been read or sent yet.

const MOST = 500; // messages
const TYPING = 6000; // ms: how long somebody types without saying so again
const TELL = 1000; // ms between two signs of how far one has read
const FEW = 20; // people of a room who tell each other how far they have read: in a crowd nobody asks

export class Channel {
  /** `seen` is the time of the last message that was read; 0 if it was never looked at. */
  constructor(room, seen, changed) {
    this.room = room;
    this.name = room.name;
    this.messages = [];
    // Older messages that were asked for: so many are kept besides the newest.
    this.older = 0;
    this.asking = false;
    this.pending = new Map();
    this.draft = "";
    this.unread = 0;
    // Where it was never looked at, what was said before is not news.
    this.seen = seen || Date.now();
    this.typing = new Map();
    // client → offset of the last message that it has read; this window's own, and what it has told of it.
    this.marks = new Map();
    this.mark = -1;
    this.told = -1;
    this.telling = null;
    room.on("message", (said) => {
      const message = plain(said);
      this.typing.delete(message.client);
      this.#add(message);
      if (message.own) this.pending.delete(message.number);
      else if (said.at > this.seen) this.unread += 1;
      changed(this, "message", message);
    });
    room.on("gap", () => {
      this.#add({ gap: true });
      changed(this, "gap", { gap: true });
    });
    room.on("presence", ({ joined, left }) => {
      for (const { client } of left) this.marks.delete(client);
      // Who has come has not heard it.
      if (joined.length) this.told = -1;
      changed(this, "presence");
    });
    room.on("joined", () => {
      this.told = -1;
      changed(this, "joined");
    });
    room.on("error", (error) => changed(this, "error", error));
    room.on("signal", ({ client, name, data }) => {
      if (Number.isInteger(data?.read)) {
        this.marks.set(client, Math.max(data.read, this.marks.get(client) ?? -1));
        changed(this, "read");
        return;
      }
      if (data?.typing) this.typing.set(client, { name, until: Date.now() + TYPING });
      else this.typing.delete(client);
      this.#still();
      changed(this, "typing");
    });
  }

  #add(message) {
    this.messages = [...this.messages, message].slice(-MOST - this.older);
  }

  /** Whether the server may have older messages. */
  get more() {
    return this.room.more;
  }

  /** Get a page of older messages; whether that was possible. */
  async earlier() {
    if (this.asking || !this.more) return false;
    this.asking = true;
    try {
      const { messages } = await this.room.history();
      this.older += messages.length;
      this.messages = [...messages.map(plain), ...this.messages];
      return true;
    } catch {
      // The connection was lost, or somebody else asks: it may be asked for again.
      return false;
    } finally {
      this.asking = false;
    }
  }

  #still() {
    const now = Date.now();
    for (const [client, { until }] of this.typing) if (until < now) this.typing.delete(client);
  }

  /** All that there is has been read. */
  read() {
    this.unread = 0;
    const last = this.messages.findLast((message) => !message.gap);
    if (last && last.at > this.seen) this.seen = last.at;
    this.mark = this.room.offset ?? -1;
    this.telling ??= setTimeout(() => {
      this.telling = null;
      this.#tell();
    }, TELL);
  }

  #tell() {
    const { people, joined } = this.room;
    if (!joined || people.size < 2 || people.size > FEW || this.mark <= this.told) return;
    this.told = this.mark;
    this.room.signal({ read: this.mark });
  }

  /** The names of others who have read the last message, where it is this window's. */
  readers() {
    const last = this.messages.findLast((message) => !message.gap);
    if (!last?.own) return [];
    return [...this.room.people.values()]
      .filter(({ clients }) => !clients.includes(last.client) && clients.some((client) => this.marks.get(client) >= last.offset))
      .map(({ name }) => name);
  }

  /** The names of those who type, without `own`. */
  typists(own) {
    this.#still();
    return [...this.typing].filter(([client]) => client !== own).map(([, { name }]) => name);
  }
}

// Another program, that publishes to the exchange, does not say when, and may say just a text.
function plain(said) {
  const message = { ...said, at: said.at ?? Date.now() };
  if (typeof said.data === "string") message.data = { text: said.data };
  return message;
}
