// Package export_witgate_auth_permission_policy is where the generated exports find what decides.
package export_witgate_auth_permission_policy

import (
	"witgate/internal/wit_types"
	"witgate/internal/witgate_auth_permission_policy"
	"witgate/internal/witgate_auth_types"
)

// Handle is set by the package policy, before the host calls anything.
var Handle func(
	query witgate_auth_permission_policy.PolicyQuery,
	user wit_types.Option[witgate_auth_types.UserInfo],
) witgate_auth_permission_policy.Decision
