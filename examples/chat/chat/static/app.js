// The page: a connection, the rooms this window is in, and the one that is shown.

import { KirschClient } from "/kirsch.js";
import { Channel } from "./channel.js";
import { Log, make } from "./log.js";
import * as me from "./me.js";
import { showBadge, showPeople, showRooms, showTyping, showUnread } from "./side.js";

const byId = (id) => document.getElementById(id);
const ALWAYS = ["lobby", "kitchen", "garden"];
const DIRECTORY = "~rooms"; // where those who open a room say so
const HISTORY = 50; // messages that one who comes in hears first
const SAID = 3000; // ms between two signs that somebody types
const KEEP = 1000; // ms until it is kept which message was read last
const FOLDED = 5; // messages that are shown while they wait
const MOST = 40; // rooms that a window is in
const LISTED = 500; // rooms that it lists
const SEEN = "chat.seen."; // and a room's name: when the last message that was read there was said
const ROOM = /^[\p{L}\p{N}_][\p{L}\p{N}_-]{0,39}$/u;

const channels = new Map();
const known = new Set(ALWAYS);
const log = new Log(byId("scroll"), byId("messages"), byId("below"), byId("above"), () => earlier(current));
const area = byId("text");
let client = null;
let current = null;
let said = 0;

// Who comes in.

async function start() {
  const name = me.name();
  byId("welcome").hidden = Boolean(name);
  byId("chat").hidden = !name;
  if (!name) {
    byId("name").focus();
    return;
  }
  byId("me").textContent = name;
  client = new KirschClient("/ws", { name, token: me.person(), ...(await me.identity()) });
  me.remember(client);
  client.on("unsent", () => me.remember(client));
  client.on("state", ({ state, retry }) => showState(state, retry));
  client.on("broker", () => showState(client.state));
  client.on("welcome", () => {
    byId("instance").textContent = document.cookie.match(/chat-instance="?([^";]+)/)?.[1] ?? "an instance";
    showSide();
  });
  client.on("closed", ({ code, reason }) => closed(code, reason));
  showState(client.state);
  const directory = client.join(DIRECTORY, { last: 200, presence: false });
  directory.on("message", ({ data }) => {
    if (known.has(data.room) || known.size >= LISTED || !ROOM.test(data.room)) return;
    known.add(data.room);
    showSide();
  });
  for (const room of [...ALWAYS, ...me.load("chat.rooms", [])].slice(0, MOST)) channelOf(room);
  // What was typed before the page was loaded anew, and is on its way still.
  for (const { room, number, data } of client.unsent) channels.get(room)?.pending.set(number, { text: data?.text });
  enter(wanted() ?? "lobby");
}

function closed(code, reason) {
  if (code === 4401) {
    // The name was refused.
    const refused = me.name();
    me.call("");
    byId("welcome").hidden = false;
    byId("chat").hidden = true;
    byId("name").value = refused;
    byId("name-error").textContent = reason;
    byId("name-error").hidden = false;
    byId("name").focus();
    return;
  }
  const state = byId("state");
  state.dataset.state = "lost";
  const again = make("button", "link", "Use it here");
  again.type = "button";
  again.addEventListener("click", () => client.connect());
  state.replaceChildren(code === 4409 ? "open in another window" : `closed: ${reason || code}`, " ", again);
}

byId("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("name").value.trim();
  if (!name) return;
  me.call(name);
  // All begins anew, with the new name.
  location.reload();
});
byId("rename").addEventListener("click", () => {
  byId("name").value = me.name();
  byId("welcome").hidden = false;
  byId("chat").hidden = true;
  byId("name").select();
});

// The connection.

function showState(state, retry = 0) {
  if (state === "closed") return;
  const words = {
    connecting: ["connecting", "connecting"],
    waiting: ["lost", retry > 2000 ? `connection lost, again in ${Math.round(retry / 1000)} s` : "connection lost, trying again"],
    open: client.broker ? ["live", "connected"] : ["waiting", "the broker is away, messages wait"],
  }[state];
  const element = byId("state");
  element.dataset.state = words[0];
  if (element.textContent !== words[1]) element.textContent = words[1];
}

// Rooms.

function channelOf(name) {
  if (!channels.has(name)) {
    known.add(name);
    channels.set(name, new Channel(client.join(name, { last: HISTORY }), me.load(SEEN + name, 0), changed));
    channels.get(name).draft = me.drafts()[name] ?? "";
  }
  return channels.get(name);
}

function enter(name) {
  if (!channels.has(name) && channels.size >= MOST) {
    complain(`This window is in ${MOST} rooms: leave one first.`);
    return;
  }
  if (current) current.draft = area.value;
  current = channelOf(name);
  keepRooms();
  area.value = current.draft;
  grow();
  byId("room-name").textContent = name;
  area.placeholder = `Say something in ${name}`;
  if (wanted() !== name) history.pushState(null, "", `#${encodeURIComponent(name)}`);
  log.fill(current.messages, current.more);
  openSide(false);
  readCurrent();
  showAll();
  // Whoever chose a room wants to say something there; on a phone a keyboard would hide it.
  if (matchMedia("(hover: hover)").matches && byId("chat").hidden === false) area.focus();
}

function leave(name) {
  channels.get(name)?.room.leave();
  channels.delete(name);
  me.draft(name, "");
  current = null;
  area.value = "";
  enter("lobby");
  area.focus();
}

function wanted() {
  try {
    const name = decodeURIComponent(location.hash.slice(1));
    return ROOM.test(name) ? name : null;
  } catch {
    return null;
  }
}

const keepRooms = () => me.store("chat.rooms", [...channels.keys()].filter((name) => !ALWAYS.includes(name)));

// Only what has changed is shown anew: many may be here, and much may be said.
function changed(channel, what, detail) {
  if (what === "error") complain(`${channel.name}: ${detail.message}`);
  const said = what === "message" || what === "gap";
  if (channel === current) {
    if (said) {
      log.add(detail, channel.messages);
      readCurrent();
      showEmpty();
      if (detail.own) showPending();
    } else if (what === "presence") {
      showPeopleSoon();
      // Who has come is told how far this one has read.
      readCurrent();
    } else if (what !== "typing" && what !== "read") {
      showAll();
    }
    if (said || what === "typing" || what === "read" || what === "presence") showBelow();
  }
  if (said) showNews(channel);
}

// It is read when it is on the screen.
function readCurrent() {
  if (!current || document.hidden || !log.atBottom()) return;
  const before = current.seen;
  current.read();
  if (current.seen !== before) keepSeenSoon(current);
}

// Once a second: where much is said, writing costs as much as showing.
const seenChanged = new Set();
let keeping = null;
function keepSeenSoon(channel) {
  seenChanged.add(channel);
  keeping ??= setTimeout(keepSeen, KEEP);
}

function keepSeen() {
  clearTimeout(keeping);
  keeping = null;
  for (const channel of seenChanged) me.store(SEEN + channel.name, channel.seen);
  seenChanged.clear();
}

window.addEventListener("pagehide", keepSeen);

// Messages from before those that are here: read from the broker's stream.
async function earlier(channel) {
  if ((await channel.earlier()) && channel === current) log.prepend(channel.messages, channel.more);
}

function showAll() {
  log.setMore(current.more);
  showEmpty();
  showPending();
  showPeopleSoon();
  showBelow();
  showSide();
}

function showBelow() {
  showTyping(current.typists(client.client), current.readers());
}

function showEmpty() {
  byId("empty").hidden = !current.room.joined || current.messages.length > 0 || current.more;
}

// Once a frame, however many come and go.
let peopleChanged = false;
function showPeopleSoon() {
  if (peopleChanged) return;
  peopleChanged = true;
  requestAnimationFrame(() => {
    peopleChanged = false;
    if (current) showPeople(current.room.people, current.room.count, client.user);
  });
}

function showNews(channel) {
  if (!current) return;
  showBadge(channel.name, channel.unread);
  showTotal();
}

function showTotal() {
  const total = [...channels.values()].reduce((sum, { unread }) => sum + unread, 0);
  showUnread(total, total - current.unread, current.name);
}

function showSide() {
  if (!current) return;
  const others = [...known].filter((name) => !ALWAYS.includes(name)).sort((a, b) => a.localeCompare(b));
  showRooms([...ALWAYS, ...others], channels, current.name, { enter, leave, always: ALWAYS });
  showTotal();
}

byId("open-room").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("new-room").value.trim().replace(/\s+/g, "-").toLowerCase();
  if (!name) return;
  if (!ROOM.test(name)) {
    complain("A room's name has letters, digits and dashes.");
    return;
  }
  complain("");
  byId("new-room").value = "";
  if (!known.has(name)) {
    client.join(DIRECTORY, {}).send({ room: name }).catch((error) => complain(error.message));
    me.remember(client);
  }
  enter(name);
  area.focus();
});

function complain(text) {
  byId("room-error").textContent = text;
  byId("room-error").hidden = !text;
}

// What is said. It is shown when the server sends it back; until then it waits below.

function send(channel, text) {
  const before = client.number;
  const sent = channel.room.send({ text });
  // What is refused at once has no number.
  const id = client.number > before ? client.number : Symbol("refused");
  channel.pending.set(id, { text });
  me.remember(client);
  sent.catch((error) => {
    if (channel.pending.has(id)) channel.pending.set(id, { text, error: error.message });
    showPending();
  });
  showPending();
}

function showPending() {
  const pending = [...(current?.pending ?? [])];
  // Those that were refused ask for an answer; of the others the first are enough.
  const failed = pending.filter(([, { error }]) => error);
  const waiting = pending.filter(([, { error }]) => !error);
  const rows = [...failed, ...waiting.slice(0, FOLDED)].map(([id, { text, error }]) => {
    const row = make("li", error ? "failed" : "");
    row.append(make("span", "text", text), make("span", "muted", error ? ` ${error} ` : " sending …"));
    if (error) {
      const again = make("button", "link", "Take it back");
      again.type = "button";
      again.addEventListener("click", () => {
        current.pending.delete(id);
        area.value = area.value ? `${text}\n${area.value}` : text;
        me.draft(current.name, area.value);
        grow();
        showPending();
        area.focus();
      });
      row.append(again);
    }
    return row;
  });
  if (waiting.length > FOLDED) rows.push(make("li", "muted", `and ${waiting.length - FOLDED} more are being sent …`));
  byId("pending").replaceChildren(...rows);
  if (rows.length && log.stuck) log.toBottom();
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = area.value.trim();
  if (!text) return;
  area.value = "";
  said = 0;
  grow();
  me.draft(current.name, "");
  send(current, text);
  area.focus();
});
area.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});
area.addEventListener("input", () => {
  grow();
  me.draft(current.name, area.value);
  if (area.value.trim() && Date.now() - said > SAID) {
    said = Date.now();
    current.room.signal({ typing: true });
  } else if (!area.value && said) {
    said = 0;
    current.room.signal({ typing: false });
  }
});

function grow() {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, 160)}px`;
}

// The rest.

function openSide(open) {
  byId("side").classList.toggle("open", open);
  byId("menu").setAttribute("aria-expanded", String(open));
}

byId("menu").addEventListener("click", () => {
  const open = !byId("side").classList.contains("open");
  openSide(open);
  if (open) byId("rooms").querySelector("[aria-current]")?.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && byId("side").classList.contains("open")) {
    openSide(false);
    byId("menu").focus();
  }
  if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown") && current) {
    event.preventDefault();
    const names = [...byId("rooms").querySelectorAll("[data-room]")].map(({ dataset }) => dataset.room);
    const step = event.key === "ArrowUp" ? names.length - 1 : 1;
    enter(names[(names.indexOf(current.name) + step) % names.length]);
    area.focus();
  }
});
window.addEventListener("popstate", () => client && enter(wanted() ?? "lobby"));
document.addEventListener("visibilitychange", () => {
  readCurrent();
  showSide();
});
byId("scroll").addEventListener("scroll", () => {
  if (current?.unread && log.atBottom()) {
    readCurrent();
    showSide();
  }
});
setInterval(() => current && showBelow(), 1000);

start();
