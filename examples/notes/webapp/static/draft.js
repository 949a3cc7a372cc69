// What was typed for a new note and not saved yet: it survives a reload. Storage may be refused; then it does not.

const KEY = "notes.draft";

export function load() {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

export function keep(text) {
  try {
    if (text) localStorage.setItem(KEY, text);
    else localStorage.removeItem(KEY);
  } catch {
    // Full or forbidden: the text is still in its box.
  }
}
