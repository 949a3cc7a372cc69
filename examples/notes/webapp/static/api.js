// The REST resource /api/notes as functions. Each returns what the server said, or throws a Failure.

const UNREACHABLE = "The server cannot be reached.";
const KEPT = "Your text is still here: try again in a moment.";

/** What went wrong, in words for a person; status is 0 when there was no answer. */
export class Failure extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Told the name of the instance behind every answer, as an event "instance". */
export const answers = new EventTarget();

export const firstPage = (query, signal) =>
  ask("GET", query ? `/api/notes?q=${encodeURIComponent(query)}` : "/api/notes", { signal });

export const nextPage = (path, signal) => ask("GET", path, { signal });

export const read = (id) => ask("GET", `/api/notes/${id}`);

export const create = (text) => ask("POST", "/api/notes", { body: { text } });

export const replace = (note, text) =>
  ask("PUT", `/api/notes/${note.id}`, { body: { text }, version: note.version });

export const remove = (note) => ask("DELETE", `/api/notes/${note.id}`, { version: note.version });

async function ask(method, path, { body, version, signal } = {}) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  if (version) headers["If-Match"] = `"${version}"`;
  let response, text;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(body ? `${UNREACHABLE} ${KEPT}` : UNREACHABLE, 0);
  }
  const instance = response.headers.get("X-Kirsch-Instance");
  if (instance) answers.dispatchEvent(new CustomEvent("instance", { detail: instance }));
  const content = parse(text, response);
  if (response.ok) return content;
  throw new Failure(content?.detail ?? `The server answered ${response.status} ${response.statusText}.`, response.status);
}

function parse(text, response) {
  if (!/[/+]json\b/.test(response.headers.get("Content-Type") ?? "")) return null;
  try {
    return JSON.parse(text);
  } catch {
    throw new Failure("The server's answer cannot be read.", response.status);
  }
}
