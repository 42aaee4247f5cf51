// Nobody opens a shell in a container, but the groups that the settings name.

#include <string.h>

#include "policy.h"
#include "settings.h"

static setting_t exempt_groups;

// Takes the settings in, once. Answers whether they are understood; if not, `faults` says what is wrong.
bool exports_witgate_auth_plugin_configure(policy_string_t *settings, policy_list_string_t *faults) {
  setting_t read[1];
  int count = settings_read((const char *)settings->ptr, settings->len, read, 1);
  if (count == 1 && read[0].is_list && strcmp(read[0].key, "exemptGroups") == 0) {
    exempt_groups = read[0];
    return true;
  }
  if (count == 0) return true;
  faults->len = 1;
  faults->ptr = malloc(sizeof *faults->ptr);
  policy_string_dup(&faults->ptr[0], "expected exemptGroups, a list of groups, and nothing else");
  return false;
}

static bool is_exempt(policy_list_string_t groups) {
  for (size_t i = 0; i < groups.len; i++) {
    for (size_t j = 0; j < exempt_groups.count; j++) {
      const char *exempt = exempt_groups.texts[j];
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
  bool is_exec = query->request.is_some && query->request.val.action_class == WITGATE_AUTH_TYPES_ACTION_CLASS_EXEC;
  if (!is_exec || !user || is_exempt(user->groups)) return;
  decision->tag = EXPORTS_WITGATE_AUTH_PERMISSION_POLICY_DECISION_DENY;
  policy_string_dup(&decision->val.deny, "running things in containers is not allowed here");
}
