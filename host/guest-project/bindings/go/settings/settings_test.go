package settings

import (
	"fmt"
	"strings"
	"testing"
)

// Goal: settings are read, or refused by what is wrong. Method: a row each.
func TestSettings(t *testing.T) {
	for given, expected := range map[string]string{
		`{}`: "none 7 false -",
		` { "text" : "a\"b\u001f" , "list":["x", "y"],"number":-3,"flag":true } `: "a\"b\u001f -3 true x,y",
		`{"list":[]}`:              "none 7 false ",
		`{"text":null}`:            "none 7 false -",
		`{"text":["a"]}`:           "text: expected a text",
		`{"list":["a",1]}`:         "list: expected a list of texts",
		`{"number":1.5}`:           "number: expected a whole number",
		`{"flag":"true"}`:          "flag: expected true or false",
		`{"text":{"text":"in"}}`:   "text: expected a text",
		`{"list":[{"text":"in"}]}`: "list: expected a list of texts",
		`{"other":1,"text":2}`:     "text: expected a text|other: unknown key; there are text, number, flag, list",
		`[]`:                       "expected a JSON object",
		``:                         "expected a JSON object",
		`{"text":"a"`:              "expected a JSON object",
		`{"text":}`:                "expected a JSON object",
		`{} {}`:                    "expected a JSON object",
	} {
		read := Read(given)
		text, number := read.Text("text", "none"), read.Number("number", 7)
		flag, list := read.Flag("flag", false), read.Texts("list", []string{"-"})
		got := strings.Join(read.Faults(), "|")
		if got == "" {
			got = fmt.Sprint(text, " ", number, " ", flag, " ", strings.Join(list, ","))
		}
		if got != expected {
			t.Errorf("%s: %q, expected %q", given, got, expected)
		}
	}
}
