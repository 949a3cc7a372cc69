// The page of rooms: asks for the figures again and again, and shows them. Names are text, never markup.

const EVERY = 2000; // ms
const MINUTE = 60_000;
const base = document.body.dataset.base;
const byId = (id) => document.getElementById(id);
// Process and room → messages and the time of the last answers, so that a rate is of ten seconds, not of two.
const KEPT = 5;
let before = new Map();

function make(tag, kind, text) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.textContent = text;
  return element;
}

function rate(key, messages, now) {
  // A balancer may give us another process each time, and each counts for itself.
  const answers = [...(before.get(key) ?? []), { messages, now }].slice(-KEPT);
  before.set(key, answers);
  const { messages: then, now: since } = answers[0];
  return now > since ? Math.round(((messages - then) * MINUTE) / (now - since)) : 0;
}

function row(room, process, now) {
  const line = document.createElement("tr");
  const name = make("th", "", room.room);
  name.scope = "row";
  name.dir = "auto";
  const number = (value, trouble = false) => make("td", trouble && value ? "number trouble" : "number", String(value));
  const more = room.people - room.names.length;
  const who = make("td", "", room.names.join(", ") + (more > 0 ? ` and ${more} more` : ""));
  who.dir = "auto";
  line.append(name, number(room.people), number(room.windows), number(rate(`${process} ${room.room}`, room.messages, now)), number(room.behind, true), number(room.gaps, true), who);
  return line;
}

function show(told) {
  const now = performance.now();
  byId("name").textContent = `of ${told.name}`;
  byId("figures").replaceChildren(...Object.entries(told.figures).map(([what, value]) => {
    const part = document.createElement("div");
    part.append(make("dt", "", what), make("dd", "", value.toLocaleString()));
    return part;
  }));
  byId("rooms").replaceChildren(...told.rooms.map((room) => row(room, told.process, now)));
  before = new Map([...before].filter(([, answers]) => now - answers.at(-1).now < MINUTE));
  byId("more").textContent = told.more ? `and ${told.more} more rooms` : told.rooms.length ? "" : "There are no rooms yet.";
  byId("state").textContent = told.broker ? "the broker is there" : "the broker is away";
  byId("state").dataset.state = told.broker ? "open" : "lost";
}

async function ask() {
  try {
    if (!document.hidden) {
      const response = await fetch(`${base}/data`, { signal: AbortSignal.timeout(10_000) });
      if (!response.ok) throw new Error(String(response.status));
      show(await response.json());
    }
  } catch {
    byId("state").textContent = "no answer: what stands here is old";
    byId("state").dataset.state = "lost";
  }
  setTimeout(ask, EVERY);
}

ask();
