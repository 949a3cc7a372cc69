// The rooms, with what is unread in them, and the people who are here.

import { hue, make } from "./log.js";

const byId = (id) => document.getElementById(id);

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
    if (channel?.unread) {
      const badge = make("span", "unread", String(channel.unread));
      badge.append(make("span", "unseen", " unread"));
      button.append(badge);
    }
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

/** What is unread elsewhere: on the button for small screens, and in the window's title. */
export function showUnread(total, elsewhere, room) {
  const badge = byId("menu-unread");
  badge.hidden = !elsewhere;
  badge.textContent = String(elsewhere);
  document.title = `${total ? `(${total}) ` : ""}${room} – Chat`;
}

/** Who is in the room. */
export function showPeople(members, count, own) {
  byId("people-count").textContent = String(count);
  const people = [...members].sort(([, a], [, b]) => a.localeCompare(b));
  byId("people").replaceChildren(...people.map(([client, name]) => {
    const item = make("li");
    const dot = make("span", "dot");
    dot.style.setProperty("--hue", hue(client));
    const text = make("span", "", name);
    text.dir = "auto";
    item.append(dot, text);
    if (client === own) item.append(make("span", "muted", " (you)"));
    return item;
  }));
}

/** Who is typing. */
export function showTyping(names) {
  const [first, second] = names;
  const text = names.length > 2 ? "Several people are typing …" : names.length === 2 ? `${first} and ${second} are typing …` : first ? `${first} is typing …` : "";
  if (byId("typing").textContent !== text) byId("typing").textContent = text;
}
