// Outside office hours, looking is all that anybody may do.
//
// A policy of denials only: within the hours, and for what it has no rule about, it is silent.

const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const KEYS = ["days", "hours", "utcOffset", "exemptGroups"];
const DAY_SECONDS = 86400;

let rules;

export const plugin = {
  // Takes the settings in; a list of faults, thrown, is what is wrong with them.
  configure(settings) {
    const given = JSON.parse(settings);
    const faults = Object.keys(given)
      .filter((key) => !KEYS.includes(key))
      .map((key) => `${key}: unknown key; there are ${KEYS.join(", ")}`);
    const checked = (key, fallback, parse, expected) => {
      const value = given[key] === undefined ? fallback : given[key];
      const parsed = parse(value);
      if (parsed === undefined) faults.push(`${key}: ${JSON.stringify(value)}; expected ${expected}`);
      return parsed;
    };
    const days = checked("days", DAYS.slice(0, 5), daysOf, `a list of ${DAYS.join(", ")}`);
    const hours = checked("hours", "09:00-17:00", hoursOf, "two times that differ, such as 09:00-17:00");
    const offset = checked("utcOffset", "+00:00", offsetOf, "a time zone's offset, such as +01:00");
    const exemptGroups = checked("exemptGroups", [], groupsOf, "a list of groups");
    if (faults.length > 0) throw faults;
    const [open, close] = hours;
    const shown = `${days.join(" ")} ${clock(open)}-${clock(close)} (UTC${given.utcOffset ?? "+00:00"})`;
    rules = { days, open, close, offset, exemptGroups: new Set(exemptGroups), shown };
  },
};

export const permissionPolicy = {
  // Judges one query.
  handle(query, user) {
    const request = query.request;
    if (!request || request.actionClass === "read") return { tag: "no-opinion" };
    if (!user || user.groups.some((group) => rules.exemptGroups.has(group))) return { tag: "no-opinion" };
    const local = Number(query.now) + rules.offset;
    const day = weekday(local);
    const time = Math.floor(modulo(local, DAY_SECONDS) / 60);
    if (isOpen(day, time)) return { tag: "no-opinion" };
    const now = `${DAYS[day]} ${clock(time)}`;
    return { tag: "deny", val: `office hours are ${rules.shown}; it is ${now}, and \`${request.actionClass}\` waits` };
  },
};

// Hours that end before they begin go on into the next day, and belong to the day on which they began.
function isOpen(day, time) {
  const { days, open, close } = rules;
  const opens = (index) => days.includes(DAYS[index]);
  if (open < close) return opens(day) && time >= open && time < close;
  return (opens(day) && time >= open) || (opens((day + 6) % 7) && time < close);
}

// The first day of the epoch was a Thursday.
function weekday(seconds) {
  return modulo(Math.floor(seconds / DAY_SECONDS) + 3, 7);
}

function modulo(value, by) {
  return ((value % by) + by) % by;
}

function clock(minutes) {
  const two = (number) => String(number).padStart(2, "0");
  return `${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

function daysOf(value) {
  if (!Array.isArray(value) || value.length === 0) return undefined;
  return value.every((day) => DAYS.includes(day)) ? DAYS.filter((day) => value.includes(day)) : undefined;
}

function hoursOf(value) {
  const parts = typeof value === "string" && /^(\d\d):(\d\d)-(\d\d):(\d\d)$/.exec(value);
  if (!parts) return undefined;
  const [openHour, openMinute, closeHour, closeMinute] = parts.slice(1).map(Number);
  const open = openHour * 60 + openMinute;
  const close = closeHour * 60 + closeMinute;
  const fits = openHour < 24 && openMinute < 60 && closeMinute < 60 && close <= 24 * 60 && open !== close;
  return fits ? [open, close] : undefined;
}

function offsetOf(value) {
  const parts = typeof value === "string" && /^([+-])(\d\d):(\d\d)$/.exec(value);
  if (!parts) return undefined;
  const [hours, minutes] = parts.slice(2).map(Number);
  if (hours > 14 || minutes > 59) return undefined;
  return (parts[1] === "-" ? -1 : 1) * (hours * 3600 + minutes * 60);
}

function groupsOf(value) {
  return Array.isArray(value) && value.every((group) => typeof group === "string") ? value : undefined;
}
