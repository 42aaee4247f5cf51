"""The token that the client brought for this strategy, sent on to the cluster."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.types import (
    AuthError_MissingToken,
    ClusterDetails,
    Credential_BearerToken,
    Grant,
    RequestAuthEntry,
    UserInfo,
)


class Plugin(exports.Plugin):
    def configure(self, settings: str) -> None:
        unknown = list(json.loads(settings))
        if unknown:
            raise Err([f"{key}: unknown key; there are no settings" for key in unknown])


class AuthenticationStrategy(exports.AuthenticationStrategy):
    def get_credential(
        self, cluster: ClusterDetails, request_auth: list[RequestAuthEntry], caller: UserInfo | None
    ) -> Grant:
        """Clients send the token as `Backstage-Kubernetes-Authorization-NAME: TOKEN`."""
        for entry in request_auth:
            if entry.provider == "NAME" and entry.sub_provider is None:
                return Grant(credential=Credential_BearerToken(entry.value), expires_at=None, impersonate=None)
        raise Err(AuthError_MissingToken("bring a token for NAME"))

    def present_auth_metadata(self, auth_metadata: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """What clients may know of the cluster's metadata."""
        return []

    def validate_cluster(self, auth_metadata: list[tuple[str, str]]) -> list[str]:
        """What is wrong with the cluster's metadata."""
        return []
