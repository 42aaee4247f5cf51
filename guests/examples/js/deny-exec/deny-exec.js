// Nobody opens a shell in a container, but the groups that the settings name.

let exemptGroups = [];

export const plugin = {
  // Takes the settings in, once. A list of texts, thrown, says what is wrong with them.
  configure(settings) {
    const given = JSON.parse(settings);
    const unknown = Object.keys(given).filter((key) => key !== "exemptGroups");
    if (unknown.length > 0) throw unknown.map((key) => `${key}: unknown key; there is exemptGroups`);
    exemptGroups = given.exemptGroups ?? [];
    if (!Array.isArray(exemptGroups)) throw ["exemptGroups: expected a list of groups"];
  },
};

export const permissionPolicy = {
  // Judges one query.
  handle(query, user) {
    const exempt = !user || user.groups.some((group) => exemptGroups.includes(group));
    if (query.request?.actionClass !== "exec" || exempt) return { tag: "no-opinion" };
    return { tag: "deny", val: "running things in containers is not allowed here" };
  },
};
