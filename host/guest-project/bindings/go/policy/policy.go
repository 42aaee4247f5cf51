// Package policy is what a witgate policy in Go is written with.
//
// A policy is a type with Handle; Export tells the gate how it is made of its settings:
//
//	func init() { policy.Export(configure) }
//
// What `configure` left is what every call begins with: state that Handle leaves is gone with its call.
package policy

import (
	"witgate/internal/export_witgate_auth_permission_policy"
	"witgate/internal/export_witgate_auth_plugin"
	_ "witgate/internal/wit_exports"
	"witgate/internal/wit_types"
	"witgate/internal/witgate_auth_log"
	"witgate/internal/witgate_auth_permission_policy"
	"witgate/internal/witgate_auth_types"
)

// Query is one question.
type Query = witgate_auth_permission_policy.PolicyQuery

// Permission is what is asked for, in Backstage's terms.
type Permission = witgate_auth_permission_policy.Permission

// RequestAttributes is one request to a cluster, told in the words of the API server's own RequestInfo.
type RequestAttributes = witgate_auth_types.RequestAttributes

// UserInfo is who calls, as the gate found out. Kubernetes' UserInfo.
type UserInfo = witgate_auth_types.UserInfo

// ActionClass is what kind of act a request is, seen from what it can do.
type ActionClass = witgate_auth_types.ActionClass

// Every request has exactly one of these.
const (
	Read       = witgate_auth_types.ActionClassRead
	Write      = witgate_auth_types.ActionClassWrite
	Delete     = witgate_auth_types.ActionClassDelete
	Exec       = witgate_auth_types.ActionClassExec
	Credential = witgate_auth_types.ActionClassCredential
	Escalate   = witgate_auth_types.ActionClassEscalate
)

// Decision is what a policy says.
type Decision = witgate_auth_permission_policy.Decision

// Condition is one thing that the gate checks of a request.
type Condition = witgate_auth_permission_policy.Condition

// Allow lets the request through, unless another policy denies.
func Allow() Decision { return witgate_auth_permission_policy.MakeDecisionAllow() }

// Deny refuses it, whatever others say. The caller reads the reason.
func Deny(reason string) Decision { return witgate_auth_permission_policy.MakeDecisionDeny(reason) }

// NoOpinion says that the policy has no rule about it.
func NoOpinion() Decision { return witgate_auth_permission_policy.MakeDecisionNoOpinion() }

// If lets it through where all conditions of any of the alternatives hold; otherwise the policy has no opinion.
func If(anyOf ...[]Condition) Decision {
	return conditional(anyOf, wit_types.None[uint32]())
}

// IfFor is If, and a promise: every query of this user for this permission is answered the same for that many seconds,
// or until the settings change. The gate may then answer those itself.
func IfFor(seconds uint32, anyOf ...[]Condition) Decision {
	return conditional(anyOf, wit_types.Some(seconds))
}

func conditional(anyOf [][]Condition, reusableFor wit_types.Option[uint32]) Decision {
	return witgate_auth_permission_policy.MakeDecisionConditional(
		witgate_auth_permission_policy.Conditional{AnyOf: anyOf, ReusableFor: reusableFor})
}

// Rule is a condition that holds if the rule's parameter lists what the request has:
//
//	policy.Rule("IS_NAMESPACE", "namespaces", "dev", "test")
func Rule(rule, parameter string, values ...string) Condition {
	params := []wit_types.Tuple2[string, []string]{{F0: parameter, F1: values}}
	return Condition{Rule: rule, Params: params}
}

// Not is a condition that holds where the other does not.
func Not(condition Condition) Condition {
	condition.Negated = !condition.Negated
	return condition
}

// How much a line of the log matters.
const (
	Error = witgate_auth_log.LevelError
	Warn  = witgate_auth_log.LevelWarn
	Info  = witgate_auth_log.LevelInfo
	Debug = witgate_auth_log.LevelDebug
)

// Log writes a line to the gate's log, under the plug-in's name.
func Log(level witgate_auth_log.Level, message string) { witgate_auth_log.Log(level, message) }

// A Policy decides.
type Policy interface {
	// Handle judges one query; user is nil where there is none.
	Handle(query Query, user *UserInfo) Decision
}

// Export tells how the policy is made: configure takes the settings in, a JSON object, once. What it finds wrong with
// them comes back as a text each, and then the plug-in is refused.
func Export(configure func(settings string) (policy Policy, faults []string)) {
	var exported Policy
	export_witgate_auth_plugin.Configure = func(settings string) wit_types.Result[wit_types.Unit, []string] {
		policy, faults := configure(settings)
		if len(faults) > 0 {
			return wit_types.Err[wit_types.Unit](faults)
		}
		exported = policy
		return wit_types.Ok[wit_types.Unit, []string](wit_types.Unit{})
	}
	export_witgate_auth_permission_policy.Handle = func(query Query, user wit_types.Option[UserInfo]) Decision {
		if user.IsNone() {
			return exported.Handle(query, nil)
		}
		who := user.Some()
		return exported.Handle(query, &who)
	}
}
