"""Calendars of systemd's timers as cron has them (systemd.time(7), crontab(5)). Pure."""

import re

_CALENDAR = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
    "yearly": "0 0 1 1 *",
}
_DAYS = {day: number for number, day in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_TIME = re.compile(
    r"(?:(?P<days>[A-Za-z,.]+)\s+)?(?:\*-\*-(?P<day>\*|\d+)\s+)?(?P<hour>\d+):(?P<minute>\d+)(?::0+)?"
)


def cron(calendar: str) -> str | None:
    """Return the cron schedule of an OnCalendar= value; None where cron has none."""
    text = calendar.strip()
    if text.lower() in _CALENDAR:
        return _CALENDAR[text.lower()]
    found = _TIME.fullmatch(text)
    if not found:
        return None
    days = _weekdays(found["days"] or "")
    if days is None or int(found["hour"]) > 23 or int(found["minute"]) > 59:
        return None
    day = found["day"] or "*"
    return f"{int(found['minute'])} {int(found['hour'])} {day.lstrip('0') or '*'} * {days}"


def _weekdays(text: str) -> str | None:
    """Mon,Wed or Mon..Fri as cron writes them; None for what is no weekday."""
    parts = []
    for part in filter(None, text.lower().split(",")):
        names = [_DAYS.get(name[:3]) for name in part.split("..")]
        if None in names or len(names) > 2:
            return None
        parts.append("-".join(map(str, names)))
    return ",".join(parts) or "*"
