// When something was said, as people say it.

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });

export const time = (at) => clock.format(at);

export const sameDay = (one, other) => new Date(one).toDateString() === new Date(other).toDateString();

export function day(at) {
  const text = date.format(at);
  if (text === date.format(Date.now())) return "Today";
  return text === date.format(Date.now() - 86_400_000) ? "Yesterday" : text;
}
