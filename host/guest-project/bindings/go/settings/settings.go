// Package settings reads a plug-in's settings key by key, and gathers what is wrong with them.
//
//	given := settings.Read(text)
//	groups := given.Texts("exemptGroups", nil)
//	return rules, given.Faults()
//
// It knows texts, lists of texts, whole numbers and truths. What is nested deeper is for encoding/json, which makes a
// component twice as large.
package settings

import (
	"slices"
	"strconv"
	"strings"
)

// Settings are a JSON object, of which each key is asked for once.
type Settings struct {
	values map[string]any
	order  []string
	known  []string
	faults []string
}

// Read takes the text in that a plug-in is configured with.
func Read(text string) *Settings {
	given := &Settings{values: map[string]any{}}
	reader := reader{rest: text, settings: given}
	value, ok := reader.value()
	if _, isObject := value.(object); !ok || !isObject || reader.next() != 0 {
		given.faults = append(given.faults, "expected a JSON object")
	}
	return given
}

// Text is the text at a key, or fallback where there is none.
func (s *Settings) Text(key, fallback string) string {
	return take(s, key, fallback, "a text")
}

// Texts is the list of texts at a key, or fallback where there is none.
func (s *Settings) Texts(key string, fallback []string) []string {
	return take(s, key, fallback, "a list of texts")
}

// Number is the whole number at a key, or fallback where there is none.
func (s *Settings) Number(key string, fallback int64) int64 {
	return take(s, key, fallback, "a whole number")
}

// Flag is true or false, or fallback where there is neither.
func (s *Settings) Flag(key string, fallback bool) bool {
	return take(s, key, fallback, "true or false")
}

// Fault says that something is wrong with a key's value.
func (s *Settings) Fault(key, problem string) {
	s.faults = append(s.faults, key+": "+problem)
}

// Faults is what is wrong, keys that nobody asked for included. None: the settings are understood.
func (s *Settings) Faults() []string {
	faults := slices.Clone(s.faults)
	for _, key := range s.order {
		if !slices.Contains(s.known, key) {
			faults = append(faults, key+": unknown key; there are "+strings.Join(s.known, ", "))
		}
	}
	return faults
}

func take[T any](s *Settings, key string, fallback T, expected string) T {
	s.known = append(s.known, key)
	given, ok := s.values[key]
	if !ok || given == nil {
		return fallback
	}
	value, ok := given.(T)
	if !ok {
		s.Fault(key, "expected "+expected)
		return fallback
	}
	return value
}

// What is there, but none of the values that are known.
type object struct{}

type reader struct {
	rest     string
	settings *Settings
	depth    int
}

// The next byte that is no space; 0 at the end.
func (r *reader) next() byte {
	r.rest = strings.TrimLeft(r.rest, " \t\r\n")
	if r.rest == "" {
		return 0
	}
	return r.rest[0]
}

func (r *reader) take(expected byte) bool {
	if r.next() != expected {
		return false
	}
	r.rest = r.rest[1:]
	return true
}

func (r *reader) value() (any, bool) {
	switch r.next() {
	case '{':
		return r.object()
	case '[':
		return r.list()
	case '"':
		return r.text()
	}
	end := strings.IndexAny(r.rest, ",]} \t\r\n")
	if end < 0 {
		end = len(r.rest)
	}
	word := r.rest[:end]
	r.rest = r.rest[end:]
	switch word {
	case "true", "false":
		return word == "true", true
	case "null":
		return nil, true
	}
	if number, err := strconv.ParseInt(word, 10, 64); err == nil {
		return number, true
	}
	return object{}, word != ""
}

func (r *reader) text() (string, bool) {
	if r.next() != '"' {
		return "", false
	}
	// The host escapes nothing but quotes, backslashes and control characters, as Go does.
	quoted, err := strconv.QuotedPrefix(r.rest)
	if err != nil {
		return "", false
	}
	r.rest = r.rest[len(quoted):]
	text, err := strconv.Unquote(quoted)
	return text, err == nil
}

func (r *reader) list() (any, bool) {
	var known any = []string{}
	if !r.take('[') {
		return nil, false
	}
	if r.take(']') {
		return known, true
	}
	r.depth++
	defer func() { r.depth-- }()
	for {
		value, ok := r.value()
		if !ok {
			return nil, false
		}
		texts, isList := known.([]string)
		text, isText := value.(string)
		if isList && isText {
			known = append(texts, text)
		} else {
			known = object{}
		}
		if !r.take(',') {
			return known, r.take(']')
		}
	}
}

func (r *reader) object() (any, bool) {
	if !r.take('{') {
		return nil, false
	}
	if r.take('}') {
		return object{}, true
	}
	r.depth++
	defer func() { r.depth-- }()
	for {
		key, ok := r.text()
		if !ok || !r.take(':') {
			return nil, false
		}
		value, ok := r.value()
		if !ok {
			return nil, false
		}
		if r.depth == 1 {
			r.settings.values[key] = value
			r.settings.order = append(r.settings.order, key)
		}
		if !r.take(',') {
			return object{}, r.take('}')
		}
	}
}
