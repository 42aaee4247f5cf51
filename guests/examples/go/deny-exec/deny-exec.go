// Nobody opens a shell in a container, but the groups that the settings name.
package main

import (
	"slices"

	"witgate/policy"
	"witgate/settings"
)

type denyExec struct {
	exemptGroups []string
}

func init() { policy.Export(configure) }

func main() {}

// Takes the settings in, once. What is wrong with them comes back.
func configure(text string) (policy.Policy, []string) {
	given := settings.Read(text)
	rules := &denyExec{exemptGroups: given.Texts("exemptGroups", nil)}
	return rules, given.Faults()
}

// Judges one query.
func (rules *denyExec) Handle(query policy.Query, user *policy.UserInfo) policy.Decision {
	if query.Request.IsNone() || query.Request.Some().ActionClass != policy.Exec {
		return policy.NoOpinion()
	}
	if user == nil || slices.ContainsFunc(user.Groups, rules.isExempt) {
		return policy.NoOpinion()
	}
	return policy.Deny("running things in containers is not allowed here")
}

func (rules *denyExec) isExempt(group string) bool { return slices.Contains(rules.exemptGroups, group) }
