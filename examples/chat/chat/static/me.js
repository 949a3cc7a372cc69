// Who this window is. The browser keeps the name; the window keeps a key, so that it is the same one after a reload.
// Storage may be refused; then it is another each time.

const NAME = "chat.name";
const KEY = "chat.key";
const NUMBER = "chat.number";

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

export const name = () => read("localStorage", NAME) ?? "";
export const call = (text) => keep("localStorage", NAME, text);

/** Key and number for a KirschClient. */
export const identity = () => ({
  key: read("sessionStorage", KEY) ?? undefined,
  number: Number(read("sessionStorage", NUMBER) ?? 0),
});

/** After each message, and once the client has its key. */
export function remember(client) {
  keep("sessionStorage", KEY, client.key);
  keep("sessionStorage", NUMBER, client.number);
}

/** What was kept as JSON, or `otherwise`. */
export function load(key, otherwise) {
  try {
    return JSON.parse(read("localStorage", key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export const store = (key, value) => keep("localStorage", key, JSON.stringify(value));
