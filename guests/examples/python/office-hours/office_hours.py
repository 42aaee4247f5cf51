"""Outside office hours, looking is all that anybody may do.

A policy of denials only: within the hours, and for what it has no rule about, it is silent.
"""

import json
import re
from dataclasses import dataclass

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.permission_policy import Decision_Deny, Decision_NoOpinion, PolicyQuery
from wit_world.imports.types import ActionClass, UserInfo

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
KEYS = ["days", "hours", "utcOffset", "exemptGroups"]
DAY_SECONDS = 86400


@dataclass
class Rules:
    """What `configure` made of the settings."""

    days: list[str]
    open: int
    close: int
    offset: int
    exempt_groups: frozenset[str]
    shown: str

    def is_open(self, day: int, time: int) -> bool:
        """Hours that end before they begin go on into the next day, and belong to the day on which they began."""
        today, yesterday = DAYS[day] in self.days, DAYS[day - 1] in self.days
        if self.open < self.close:
            return today and self.open <= time < self.close
        return (today and time >= self.open) or (yesterday and time < self.close)


rules: Rules


class Plugin(exports.Plugin):
    def configure(self, settings: str) -> None:
        """Takes the settings in; a list of faults, raised, is what is wrong with them."""
        global rules
        given = json.loads(settings)
        faults = [f"{key}: unknown key; there are {', '.join(KEYS)}" for key in given if key not in KEYS]

        def checked(key, fallback, parse, expected):
            value = given.get(key, fallback)
            parsed = parse(value)
            if parsed is None:
                faults.append(f"{key}: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}; expected {expected}")
            return parsed

        days = checked("days", DAYS[:5], days_of, f"a list of {', '.join(DAYS)}")
        hours = checked("hours", "09:00-17:00", hours_of, "two times that differ, such as 09:00-17:00")
        offset = checked("utcOffset", "+00:00", offset_of, "a time zone's offset, such as +01:00")
        exempt_groups = checked("exemptGroups", [], groups_of, "a list of groups")
        if faults:
            raise Err(faults)
        open, close = hours
        shown = f"{' '.join(days)} {clock(open)}-{clock(close)} (UTC{given.get('utcOffset', '+00:00')})"
        rules = Rules(days, open, close, offset, frozenset(exempt_groups), shown)


class PermissionPolicy(exports.PermissionPolicy):
    def handle(self, query: PolicyQuery, user: UserInfo | None):
        """Judges one query."""
        request = query.request
        if request is None or request.action_class == ActionClass.READ:
            return Decision_NoOpinion()
        if user is None or not rules.exempt_groups.isdisjoint(user.groups):
            return Decision_NoOpinion()
        days, seconds = divmod(query.now + rules.offset, DAY_SECONDS)
        day = (days + 3) % 7  # the first day of the epoch was a Thursday
        time = seconds // 60
        if rules.is_open(day, time):
            return Decision_NoOpinion()
        now, act = f"{DAYS[day]} {clock(time)}", request.action_class.name.lower()
        return Decision_Deny(f"office hours are {rules.shown}; it is {now}, and `{act}` waits")


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def days_of(value):
    if not isinstance(value, list) or not value or any(day not in DAYS for day in value):
        return None
    return [day for day in DAYS if day in value]


def hours_of(value):
    parts = isinstance(value, str) and re.fullmatch(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", value)
    if not parts:
        return None
    open_hour, open_minute, close_hour, close_minute = map(int, parts.groups())
    open, close = open_hour * 60 + open_minute, close_hour * 60 + close_minute
    fits = open_hour < 24 and open_minute < 60 and close_minute < 60 and close <= 24 * 60 and open != close
    return (open, close) if fits else None


def offset_of(value):
    parts = isinstance(value, str) and re.fullmatch(r"([+-])([0-9]{2}):([0-9]{2})", value)
    if not parts:
        return None
    hours, minutes = int(parts[2]), int(parts[3])
    if hours > 14 or minutes > 59:
        return None
    return (-1 if parts[1] == "-" else 1) * (hours * 3600 + minutes * 60)


def groups_of(value):
    return value if isinstance(value, list) and all(isinstance(group, str) for group in value) else None
