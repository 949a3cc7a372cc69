// Who this window is. The browser keeps the name and a secret by which all its windows are one person; the window keeps a key, so that it is the same one after a reload.
// Storage may be refused; then it is another each time. A window that was duplicated has a copy of the key: it is known
// by that the other one holds it.

const NAME = "chat.name";
const PERSON = "chat.person";
const KEY = "chat.key";
const NUMBER = "chat.number";
const UNSENT = "chat.unsent";
const DRAFTS = "chat.drafts";
// ms: until what a reload leaves behind has let go of the key; until another window has said that it has it.
const RELEASE = 1000;
const ANSWER = 300;
const self = crypto.getRandomValues(new Uint32Array(4)).join();
let held = "";
let sure = false;

const read = (storage, key) => {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
};

export const keep = (storage, key, value) => {
  try {
    window[storage].setItem(key, value);
  } catch {
    // Full or forbidden.
  }
};

const parsed = (storage, key, otherwise) => {
  try {
    return JSON.parse(read(storage, key)) ?? otherwise;
  } catch {
    // It is not ours.
    return otherwise;
  }
};

export const name = () => read("localStorage", NAME) ?? "";
export const call = (text) => keep("localStorage", NAME, text);

/** The browser's secret, by which its windows are one person. */
export function person() {
  let secret = read("localStorage", PERSON);
  if (!secret) {
    const bytes = crypto.getRandomValues(new Uint8Array(24));
    secret = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
    keep("localStorage", PERSON, secret);
  }
  return secret;
}

/** Key, number and what was not sent yet for a KirschClient, where this window has any of its own. */
export async function identity() {
  const key = read("sessionStorage", KEY);
  if (!key || !(await hold(key))) return {};
  const unsent = parsed("sessionStorage", UNSENT, []);
  return { key, number: Number(read("sessionStorage", NUMBER) ?? 0), unsent };
}

// Whether nobody else has the key: nobody gets it then while this window is there.
async function hold(key) {
  held = key;
  const free = await (navigator.locks ? lock(key) : ask(key));
  if (!free) held = "";
  return free;
}

function lock(key) {
  return new Promise((resolve) => {
    const kept = () => {
      resolve(true);
      return new Promise(() => {});
    };
    navigator.locks.request(`chat ${key}`, { signal: AbortSignal.timeout(RELEASE) }, kept).catch(() => resolve(false));
  });
}

// Pages that did not come by TLS, nor from this machine, have no locks: windows ask each other.
const windows = !navigator.locks && window.BroadcastChannel ? new BroadcastChannel("chat.keys") : null;
windows?.addEventListener("message", ({ data: { key, by, to } }) => {
  if (to === self && key === held) held = "";
  // Of two that ask at once one is the first.
  else if (by && key === held && (sure || self < by)) windows.postMessage({ key, to: by });
});

async function ask(key) {
  windows?.postMessage({ key, by: self });
  if (windows) await new Promise((done) => setTimeout(done, ANSWER));
  sure = held === key;
  return sure;
}

/** After each message, and once the client has its key. */
export function remember(client) {
  if (client.key !== held) hold(client.key);
  keep("sessionStorage", KEY, client.key);
  keep("sessionStorage", NUMBER, client.number);
  keep("sessionStorage", UNSENT, JSON.stringify(client.unsent));
}

/** What is typed and was not sent, by room. */
export const drafts = () => parsed("sessionStorage", DRAFTS, {});

/** Keep what is typed in a room, so that it outlives a reload; "" forgets it. */
export function draft(room, text) {
  const { [room]: _, ...others } = drafts();
  keep("sessionStorage", DRAFTS, JSON.stringify(text ? { ...others, [room]: text } : others));
}

/** What was kept as JSON, or `otherwise`. */
export const load = (key, otherwise) => parsed("localStorage", key, otherwise);
export const store = (key, value) => keep("localStorage", key, JSON.stringify(value));
