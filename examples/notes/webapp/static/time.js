// When a note was written, as people say it.

const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const WEEK = 7 * 86400;

/** Fill a time element with the time of a note's last change. */
export function showTime(element, note) {
  element.dateTime = note.updated;
  element.title = absolute.format(new Date(note.updated));
  element.dataset.edited = note.version > 1 ? "edited " : "";
  refresh(element);
}

/** Say it anew: time has passed. */
export function refresh(element) {
  const moment = new Date(element.dateTime);
  element.textContent = element.dataset.edited + say((Date.now() - moment) / 1000, moment);
}

function say(seconds, moment) {
  if (seconds >= WEEK) return absolute.format(moment);
  for (const [unit, length] of UNITS) {
    if (seconds >= length) return relative.format(-Math.floor(seconds / length), unit);
  }
  return "just now";
}
