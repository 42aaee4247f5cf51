// Outside office hours, looking is all that anybody may do.
//
// A policy of denials only: within the hours, and for what it has no rule about, it is silent.
package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"witgate/policy"
	"witgate/settings"
)

var (
	days    = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	classes = []string{"read", "write", "delete", "exec", "credential", "escalate"}
)

const (
	daySeconds = 86400
	dayMinutes = 24 * 60
)

// What configure made of the settings.
type officeHours struct {
	open          [7]bool
	opens, closes int // minutes of the day
	offsetSeconds int
	exemptGroups  []string
	shown         string
}

func init() { policy.Export(configure) }

func main() {}

// Takes the settings in, once; what is wrong with them comes back.
func configure(text string) (policy.Policy, []string) {
	given := settings.Read(text)
	on, hours := given.Texts("days", days[:5]), given.Text("hours", "09:00-17:00")
	offset := given.Text("utcOffset", "+00:00")
	rules := &officeHours{exemptGroups: given.Texts("exemptGroups", nil)}

	unknown := func(day string) bool { return !slices.Contains(days, day) }
	if len(on) == 0 || slices.ContainsFunc(on, unknown) {
		given.Fault("days", fmt.Sprintf("%q; expected a list of %s", on, strings.Join(days, ", ")))
	}
	opens, closes, isRange := strings.Cut(hours, "-")
	rules.opens, rules.closes = minutesOf(opens), minutesOf(closes)
	if !isRange || rules.opens < 0 || rules.opens >= dayMinutes || rules.closes < 0 || rules.closes > dayMinutes ||
		rules.opens == rules.closes {
		given.Fault("hours", fmt.Sprintf("%q; expected two times that differ, such as 09:00-17:00", hours))
	}
	sign := map[bool]int{true: -60, false: 60}[strings.HasPrefix(offset, "-")]
	minutes := minutesOf(strings.TrimLeft(offset, "+-"))
	if len(offset) != len("+00:00") || minutes < 0 || minutes >= 15*60 {
		given.Fault("utcOffset", fmt.Sprintf("%q; expected a time zone's offset, such as +01:00", offset))
	}
	rules.offsetSeconds = sign * minutes

	var shown []string
	for index, day := range days {
		if slices.Contains(on, day) {
			rules.open[index] = true
			shown = append(shown, day)
		}
	}
	rules.shown = fmt.Sprintf("%s %s (UTC%s)", strings.Join(shown, " "), hours, offset)
	return rules, given.Faults()
}

// Judges one query.
func (rules *officeHours) Handle(query policy.Query, user *policy.UserInfo) policy.Decision {
	if query.Request.IsNone() || user == nil || slices.ContainsFunc(user.Groups, rules.isExempt) {
		return policy.NoOpinion()
	}
	class := query.Request.Some().ActionClass
	if class == policy.Read {
		return policy.NoOpinion()
	}
	// A week more keeps it above zero; the first day of the epoch was a Thursday.
	local := int64(query.Now) + int64(7*daySeconds+rules.offsetSeconds)
	day, time := int((local/daySeconds+3)%7), int(local%daySeconds/60)
	if rules.isOpen(day, time) {
		return policy.NoOpinion()
	}
	return policy.Deny(fmt.Sprintf("office hours are %s; it is %s %02d:%02d, and `%s` waits",
		rules.shown, days[day], time/60, time%60, classes[class]))
}

func (rules *officeHours) isExempt(group string) bool {
	return slices.Contains(rules.exemptGroups, group)
}

// Hours that end before they begin go on into the next day, and belong to the day on which they began.
func (rules *officeHours) isOpen(day, time int) bool {
	if rules.opens < rules.closes {
		return rules.open[day] && time >= rules.opens && time < rules.closes
	}
	return rules.open[day] && time >= rules.opens || rules.open[(day+6)%7] && time < rules.closes
}

// 09:00 in minutes; -1 where it is no time.
func minutesOf(text string) int {
	hours, minutes, _ := strings.Cut(text, ":")
	if len(hours) != 2 || len(minutes) != 2 || strings.Trim(hours+minutes, "0123456789") != "" || minutes > "59" {
		return -1
	}
	hour, _ := strconv.Atoi(hours)
	minute, _ := strconv.Atoi(minutes)
	return hour*60 + minute
}
