// The rooms, with what is unread in them, and the people who are here.

import { hue, make } from "./log.js";

const byId = (id) => document.getElementById(id);
const SHOWN = 100; // people that are listed by name: a page with thousands of them would be slow
const order = new Intl.Collator();

/** Show the rooms: `names` in order, `channels` of those that this window is in. `enter` and `leave` are told. */
export function showRooms(names, channels, current, { enter, leave, always }) {
  const focused = document.activeElement?.dataset?.room;
  byId("rooms").replaceChildren(...names.map((name) => {
    const channel = channels.get(name);
    const item = make("li");
    const button = make("button", channel ? "room" : "room closed");
    button.type = "button";
    button.dataset.room = name;
    button.append(make("span", "", name));
    if (name === current) button.setAttribute("aria-current", "true");
    if (channel?.unread) button.append(badge(channel.unread));
    button.addEventListener("click", () => enter(name));
    item.append(button);
    if (name === current && !always.includes(name)) {
      const away = make("button", "link", "Leave");
      away.type = "button";
      away.setAttribute("aria-label", `Leave ${name}`);
      away.addEventListener("click", () => leave(name));
      item.append(away);
    }
    return item;
  }));
  if (focused) byId("rooms").querySelector(`[data-room="${CSS.escape(focused)}"]`)?.focus();
}

function badge(unread) {
  const made = make("span", "unread", String(unread));
  made.append(make("span", "unseen", " unread"));
  return made;
}

/** What is unread in one room, which is in the list already. */
export function showBadge(name, unread) {
  const button = byId("rooms").querySelector(`[data-room="${CSS.escape(name)}"]`);
  const shown = button?.querySelector(".unread");
  if (unread && shown) shown.firstChild.data = String(unread);
  else if (unread) button?.append(badge(unread));
  else shown?.remove();
}

/** What is unread elsewhere: on the button for small screens, and in the window's title. */
export function showUnread(total, elsewhere, room) {
  const button = byId("menu-unread");
  button.hidden = !elsewhere;
  if (button.textContent !== String(elsewhere)) button.textContent = String(elsewhere);
  const title = `${total ? `(${total}) ` : ""}${room} – Chat`;
  if (document.title !== title) document.title = title;
}

/** Who is in the room: so many by name, and how many more. */
export function showPeople(known, count, own) {
  // Of a room that is too large for names only the number of windows is known.
  byId("people-count").textContent = String(known.size || count);
  const people = [...known].sort(([, a], [, b]) => order.compare(a.name, b.name));
  byId("people").replaceChildren(...people.slice(0, SHOWN).map(([user, { name, clients }]) => {
    const item = make("li");
    const dot = make("span", "dot");
    dot.style.setProperty("--hue", hue(clients[0]));
    const text = make("span", "", name);
    text.dir = "auto";
    item.append(dot, text);
    if (user === own) item.append(make("span", "muted", " (you)"));
    return item;
  }));
  if (people.length > SHOWN) byId("people").append(make("li", "muted", `and ${people.length - SHOWN} more`));
}

/** Who is typing, or else who has read the last message. */
export function showTyping(names, readers) {
  const [first, second] = names;
  const text = names.length > 2 ? "Several people are typing …" : names.length === 2 ? `${first} and ${second} are typing …` : first ? `${first} is typing …` : read(readers);
  if (byId("typing").textContent !== text) byId("typing").textContent = text;
}

function read(names) {
  const [first, second] = [...names].sort(order.compare);
  if (names.length > 2) return `Read by ${names.length} people`;
  return second ? `Read by ${first} and ${second}` : first ? `Read by ${first}` : "";
}
