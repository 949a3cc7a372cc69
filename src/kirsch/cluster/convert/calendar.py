"""Calendars of systemd's timers as cron has them (systemd.time(7), crontab(5)). Pure."""

import re

_CALENDAR = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
    "yearly": "0 0 1 1 *",
}
# systemd's weeks begin on Monday, cron's on Sunday; both know names of three letters and whole ones.
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NUMBERS = {name: number for number, day in enumerate(_DAYS) for name in (day, day[:3])}
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
    days, day = _weekdays(found["days"] or ""), found["day"] or "*"
    if days is None or int(found["hour"]) > 23 or int(found["minute"]) > 59:
        return None
    if day != "*" and not 1 <= int(day) <= 31:
        return None
    if day != "*" and days != "*":
        return None  # cron runs on either, systemd where both are met
    return f"{int(found['minute'])} {int(found['hour'])} {day.lstrip('0')} * {days}"


def _weekdays(text: str) -> str | None:
    """Mon,Wed or Mon..Fri as cron writes them; None for what is no weekday."""
    parts = []
    for part in filter(None, text.lower().split(",")):
        first, _, last = part.partition("..")
        start, end = _NUMBERS.get(first), _NUMBERS.get(last or first)
        if start is None or end is None or start > end:
            return None
        if start < end < 6:
            parts.append(f"{start + 1}-{end + 1}")
        else:
            # A range of cron's cannot end on Sunday, its first day.
            parts += [str((day + 1) % 7) for day in range(start, end + 1)]
    return ",".join(parts) or "*"
