// Outside office hours, looking is all that anybody may do.
//
// A policy of denials only: within the hours, and for what it has no rule about, it is silent.

#include <stdio.h>
#include <string.h>

#include "policy.h"
#include "settings.h"

static const char *const DAYS[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
static const char *const CLASSES[] = {"read", "write", "delete", "exec", "credential", "escalate"};
enum { DAY_SECONDS = 86400, DAY_MINUTES = 24 * 60, SHOWN_MAX = 80 };

static struct {
  bool days[7];
  // Minutes of the day.
  int open, close;
  int offset_seconds;
  setting_t exempt_groups;
  char shown[SHOWN_MAX];
} rules;

static void fault(policy_list_string_t *faults, const char *text) {
  faults->ptr = realloc(faults->ptr, (faults->len + 1) * sizeof *faults->ptr);
  if (!faults->ptr) abort();
  policy_string_dup(&faults->ptr[faults->len++], text);
}

// `09:00` in minutes; -1 where it is no time.
static int minutes_of(const char *time) {
  for (int i = 0; i < 5; i++) {
    if (i == 2 ? time[i] != ':' : (time[i] < '0' || time[i] > '9')) return -1;
  }
  int minute = (time[3] - '0') * 10 + time[4] - '0';
  return minute < 60 ? ((time[0] - '0') * 10 + time[1] - '0') * 60 + minute : -1;
}

static bool read_hours(const char *hours) {
  if (strlen(hours) != 11 || hours[5] != '-') return false;
  rules.open = minutes_of(hours);
  rules.close = minutes_of(hours + 6);
  return rules.open >= 0 && rules.open < DAY_MINUTES && rules.close >= 0 && rules.close <= DAY_MINUTES &&
         rules.open != rules.close;
}

static bool read_offset(const char *offset) {
  if (strlen(offset) != 6 || (offset[0] != '+' && offset[0] != '-')) return false;
  int minutes = minutes_of(offset + 1);
  rules.offset_seconds = (offset[0] == '-' ? -60 : 60) * minutes;
  return minutes >= 0 && minutes < 15 * 60;
}

static bool read_days(const setting_t *days) {
  memset(rules.days, 0, sizeof rules.days);
  for (size_t i = 0; i < days->count; i++) {
    int day = 0;
    while (day < 7 && strcmp(days->texts[i], DAYS[day]) != 0) day++;
    if (day == 7) return false;
    rules.days[day] = true;
  }
  return days->is_list && days->count > 0;
}

// Takes the settings in, once. Answers whether they are understood; if not, `faults` says what is wrong.
bool exports_witgate_auth_plugin_configure(policy_string_t *settings, policy_list_string_t *faults) {
  static const char *week[] = {"mon", "tue", "wed", "thu", "fri"};
  setting_t days = {"days", week, 5, true}, read[4];
  const char *hours = "09:00-17:00", *offset = "+00:00";
  faults->ptr = NULL;
  faults->len = 0;
  int count = settings_read((const char *)settings->ptr, settings->len, read, 4);
  if (count < 0) fault(faults, "expected days, hours, utcOffset and exemptGroups: texts and lists of texts");
  for (int i = 0; i < count; i++) {
    bool is_text = !read[i].is_list;
    if (strcmp(read[i].key, "days") == 0) days = read[i];
    else if (strcmp(read[i].key, "hours") == 0) hours = is_text ? read[i].texts[0] : "";
    else if (strcmp(read[i].key, "utcOffset") == 0) offset = is_text ? read[i].texts[0] : "";
    else if (strcmp(read[i].key, "exemptGroups") == 0 && read[i].is_list) rules.exempt_groups = read[i];
    else fault(faults, "there are days, hours, utcOffset and exemptGroups, which is a list of groups; no other keys");
  }
  if (!read_days(&days)) fault(faults, "days: expected a list of mon, tue, wed, thu, fri, sat, sun");
  if (!read_hours(hours)) fault(faults, "hours: expected two times that differ, such as 09:00-17:00");
  if (!read_offset(offset)) fault(faults, "utcOffset: expected a time zone's offset, such as +01:00");
  if (faults->len > 0) return false;
  char *to = rules.shown;
  for (int day = 0; day < 7; day++) {
    if (rules.days[day]) to += snprintf(to, 5, "%s ", DAYS[day]);
  }
  snprintf(to, (size_t)(rules.shown + SHOWN_MAX - to), "%s (UTC%s)", hours, offset);
  return true;
}

// Hours that end before they begin go on into the next day, and belong to the day on which they began.
static bool is_open(int day, int time) {
  if (rules.open < rules.close) return rules.days[day] && time >= rules.open && time < rules.close;
  return (rules.days[day] && time >= rules.open) || (rules.days[(day + 6) % 7] && time < rules.close);
}

static bool is_exempt(policy_list_string_t groups) {
  for (size_t i = 0; i < groups.len; i++) {
    for (size_t j = 0; j < rules.exempt_groups.count; j++) {
      const char *exempt = rules.exempt_groups.texts[j];
      if (groups.ptr[i].len == strlen(exempt) && memcmp(groups.ptr[i].ptr, exempt, groups.ptr[i].len) == 0) return true;
    }
  }
  return false;
}

// Judges one query.
void exports_witgate_auth_permission_policy_handle(exports_witgate_auth_permission_policy_policy_query_t *query,
                                                   exports_witgate_auth_permission_policy_user_info_t *user,
                                                   exports_witgate_auth_permission_policy_decision_t *decision) {
  decision->tag = EXPORTS_WITGATE_AUTH_PERMISSION_POLICY_DECISION_NO_OPINION;
  if (!query->request.is_some || !user || is_exempt(user->groups)) return;
  uint8_t class = query->request.val.action_class;
  if (class == WITGATE_AUTH_TYPES_ACTION_CLASS_READ) return;
  // A week more keeps it above zero; the first day of the epoch was a Thursday.
  uint64_t local = query->now + (uint64_t)(7 * DAY_SECONDS + rules.offset_seconds);
  int day = (int)((local / DAY_SECONDS + 3) % 7), time = (int)(local % DAY_SECONDS / 60);
  if (is_open(day, time)) return;
  char reason[SHOWN_MAX + 80];
  snprintf(reason, sizeof reason, "office hours are %s; it is %s %02d:%02d, and `%s` waits", rules.shown, DAYS[day],
           time / 60, time % 60, CLASSES[class]);
  decision->tag = EXPORTS_WITGATE_AUTH_PERMISSION_POLICY_DECISION_DENY;
  policy_string_dup(&decision->val.deny, reason);
}
