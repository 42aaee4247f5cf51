"""Nobody opens a shell in a container, but the groups that the settings name."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.permission_policy import Decision_Deny, Decision_NoOpinion, PolicyQuery
from wit_world.imports.types import ActionClass, UserInfo

exempt_groups: list[str] = []


class Plugin(exports.Plugin):
    def configure(self, settings: str) -> None:
        """Takes the settings in, once. A list of texts, raised, says what is wrong with them."""
        global exempt_groups
        given = json.loads(settings)
        unknown = [key for key in given if key != "exemptGroups"]
        if unknown:
            raise Err([f"{key}: unknown key; there is exemptGroups" for key in unknown])
        exempt_groups = given.get("exemptGroups", [])
        if not isinstance(exempt_groups, list):
            raise Err(["exemptGroups: expected a list of groups"])


class PermissionPolicy(exports.PermissionPolicy):
    def handle(self, query: PolicyQuery, user: UserInfo | None):
        """Judges one query."""
        exempt = user is None or any(group in exempt_groups for group in user.groups)
        if query.request is None or query.request.action_class != ActionClass.EXEC or exempt:
            return Decision_NoOpinion()
        return Decision_Deny("running things in containers is not allowed here")
