// Units and machines in words. Pure: values in, words out.

/** notes@1 of notes@1.container. */
export const short = (name) => name.replace(/\.[^.]+$/, "");
export const service = (name) => short(name).split("@")[0];
export const isTemplate = (name) => short(name).endsWith("@");

/** What a unit's line amounts to: one of KINDS. */
export function kindOf(line) {
  const up = line.active === "active" || line.active === "reloading";
  if (line.active === "failed") return "failed";
  if (line.finished) return "done";
  if (line.desired !== "launched") return up || line.active === "deactivating" ? "stopping" : "off";
  if (line.refused) return "refused";
  if (line.active === "deactivating") return "stopping";
  if (up && line.ready) return line.settled ? "ready" : "changing";
  if (up && !line.checked) return "ready";
  if (up) return "unready";
  return line.machine ? "starting" : "waiting";
}

/** Each kind: its sign, its words, its colour. */
export const KINDS = {
  ready: ["●", "ready", "good"],
  done: ["✓", "done", "good"],
  changing: ["◐", "changing", "busy"],
  starting: ["◔", "starting", "busy"],
  stopping: ["◕", "stopping", "busy"],
  waiting: ["◌", "waiting", "busy"],
  unready: ["▲", "not ready", "bad"],
  refused: ["✕", "cannot be scheduled", "bad"],
  failed: ["✕", "failed", "bad"],
  off: ["○", "not running", "off"],
};

/** True for a unit that people want to run and that does not, or does so badly. */
export const isWrong = (line) =>
  !isTemplate(line.name) && line.desired === "launched" && !["ready", "done", "changing"].includes(kindOf(line));

/** How bad it is: what failed comes before what only takes its time. */
export const severity = (line) => ({ failed: 0, refused: 1, unready: 2, waiting: 3, starting: 4, stopping: 5 })[kindOf(line)] ?? 6;

const ID = /\b[0-9a-f]{8}(?:[0-9a-f]{24})?\b/g;

/** A text with machines' names in place of their ids. */
export const named = (text, nameOf) => text.replace(ID, (id) => nameOf(id));

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

/** A time in seconds since 1970: the day too where it is another. */
export function time(seconds) {
  if (!seconds) return "";
  const moment = new Date(seconds * 1000);
  const today = moment.toDateString() === new Date().toDateString();
  return (today ? "" : `${day.format(moment)} `) + clock.format(moment);
}

/** A span in seconds: 12 s, 5 min, 3 h, 2 days. */
export function span(seconds) {
  if (seconds < 90) return `${Math.max(Math.round(seconds), 0)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

const LEVEL = /^<([0-7])>|^\{.*"(?:level|levelname|severity)" *: *"?(\w+)|\b(EMERG|ALERT|CRIT(?:ICAL)?|FATAL|PANIC|ERROR|WARN(?:ING)?)\b|\[(emerg|alert|crit|error|warn)\]/;
const LONGEST_HEAD = 200;

/** The level of a line of a journal, "error", "warning" or "": by sd-daemon(3)'s prefix, a line of JSON's field, or
    the word that programs write in capitals or brackets. */
export function levelOf(text) {
  const [, prefix, ...words] = LEVEL.exec(text.slice(0, LONGEST_HEAD)) ?? [];
  if (prefix) return prefix < "4" ? "error" : prefix === "4" ? "warning" : "";
  const word = words.find(Boolean)?.toLowerCase() ?? "";
  return word.startsWith("warn") ? "warning" : /^(emerg|alert|crit|fatal|panic|err)/.test(word) ? "error" : "";
}

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** The names of units that a link of a unit means: one unit, or all instances of a service. */
export function linked(link, names) {
  const target = link.split(":")[0].split("/")[0];
  return names.filter((name) => !isTemplate(name) && [name, short(name), service(name)].includes(target));
}

/** Columns of units, those without links first: [[name]], each right of all that it is linked to. */
export function layers(links) {
  const depth = new Map();
  const measure = (name, path) => {
    if (depth.has(name)) return depth.get(name);
    if (path.includes(name)) return 0;
    const below = (links.get(name) ?? []).map((target) => measure(target, [...path, name]) + 1);
    depth.set(name, Math.max(0, ...below));
    return depth.get(name);
  };
  const columns = [];
  for (const name of links.keys()) (columns[measure(name, [])] ??= []).push(name);
  return columns.map((column) => column.sort()).reverse();
}

export const RELEASES = {
  waiting: "waits for another release", running: "under way", canary: "its canaries are ready: it waits for you",
  paused: "paused", done: "done", "rolling-back": "being taken back", "rolled-back": "taken back",
  aborted: "called off", failed: "failed", superseded: "another took its place",
};
export const isOver = (release) => ["done", "rolled-back", "aborted", "failed", "superseded"].includes(release.state);

/** One entry of the audit log, in words. */
export function audited(entry) {
  const request = `${entry.method} ${entry.path.replace("/kirsch/v1", "")} ${entry.names.join(" ")}`.trim();
  return entry.status < 400 ? request : `${request}: refused (${entry.status})`;
}
