// Package export_witgate_auth_plugin is where the generated exports find what a plug-in is configured by.
package export_witgate_auth_plugin

import "witgate/internal/wit_types"

// Configure is set by the package policy, before the host calls anything.
var Configure func(settings string) wit_types.Result[wit_types.Unit, []string]
