package canonical

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// whole has a field of each kind.
type whole struct {
	Text   string   `json:"text"`
	Number int64    `json:"number"`
	Count  uint64   `json:"count"`
	Yes    bool     `json:"yes"`
	Inner  inner    `json:"inner"`
	List   []item   `json:"list"`
	None   []item   `json:"none"`
	Words  []string `json:"words"`
	Last   string   `json:"last"`
}

type inner struct {
	Size int `json:"size"`
}

type item struct {
	Name string `json:"name"`
	Note string `json:"note,omitempty"`
}

func (w *whole) walk(c *Coder) {
	String(c, "text", &w.Text)
	Number(c, "number", &w.Number)
	c.Count("count", &w.Count)
	c.Bool("yes", &w.Yes)
	c.Object("inner", func(c *Coder) { Number(c, "size", &w.Inner.Size) })
	List(c, "list", &w.List, 3, walkItem)
	List(c, "none", &w.None, 3, walkItem)
	Strings(c, "words", &w.Words, 3)
	String(c, "last", &w.Last)
}

func walkItem(c *Coder, i *item) {
	String(c, "name", &i.Name)
	c.Optional("note", &i.Note)
}

func example() whole {
	return whole{Text: "a \"quoted\" \\ <&> é \n", Number: math.MinInt64, Count: math.MaxUint64, Yes: true, Inner: inner{-1},
		List: []item{{"one", ""}, {"two", "noted"}}, None: []item{}, Words: []string{"a", "b \"c\""}, Last: ""}
}

func TestTheFormIsThatOfEncodingJSON(t *testing.T) {
	w := example()
	var want strings.Builder
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(w); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), string(Write(w.walk))); diff != "" {
		t.Errorf("Write (-encoding/json +got):\n%s", diff)
	}
}

func TestWhatIsNoTextIsStillWrittenAsJSON(t *testing.T) {
	w := whole{Text: "\x00\x1f\x7f\xff\u2028\t\r"}
	var back whole
	if err := json.Unmarshal(Write(w.walk), &back); err != nil {
		t.Fatal(err)
	}
	if want := "\x00\x1f\x7f\ufffd\u2028\t\r"; back.Text != want {
		t.Errorf("Write(%q) is read as %q, want %q", w.Text, back.Text, want)
	}
}

func TestReadTakesWhatWriteWrote(t *testing.T) {
	for _, want := range []whole{example(), {List: []item{}, None: []item{}}} {
		var got whole
		if err := Read(Write(want.walk), got.walk); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Read (-want +got):\n%s", diff)
		}
	}
}

func TestReadNamesTheLineAndWhatItWants(t *testing.T) {
	w := example()
	good := string(Write(w.walk))
	cases := []struct{ name, old, new, want string }{
		{"nothing", good, "", `line 1: want "{", found the end`},
		{"a cut", good[strings.Index(good, `"yes"`):], "", `line 5: want the field "yes", found the end`},
		{"an empty line", "{\n  \"text\"", "{\n\n  \"text\"", `line 2: want 2 spaces before what follows, found the end of the line`},
		{"another field", `"number"`, `"numbers"`, `line 3: want the field "number", found "\"numbers\": `},
		{"a number with a leading zero", "-1", "-01", `line 7: want a whole number`},
		{"a number beyond its type", "18446744073709551615", "18446744073709551616", `line 4: want a whole number of 64 bits that is not negative`},
		{"no number at all", "-9223372036854775808", "", `line 3: want a whole number`},
		{"neither true nor false", "true", "1", `line 5: want "false", found "1,"`},
		{"a text without an end", `"last": ""`, `"last": "`, `want text in quotes`},
		{"too many items", `"none": []`, `"none": [` + strings.Repeat("\n    {\n      \"name\": \"\"\n    },", 4) + "\n    {", `none: more than 3 items`},
		{"too many words", `"words": [`, `"words": [` + strings.Repeat("\n    \"x\",", 3), `words: more than 3 items`},
		{"an empty note", `"noted"`, `""`, `line 15: want a "note" that is not empty`},
		{"what stands behind the end", "}\n", "}\n ", `want the end, found " "`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			i := strings.LastIndex(good, c.old)
			if i < 0 {
				t.Fatalf("%q is not in the form", c.old)
			}
			var w whole
			err := Read([]byte(good[:i]+c.new+good[i+len(c.old):]), w.walk)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Read = %v, want %q", err, c.want)
			}
		})
	}
}

func FuzzReadTakesOnlyWhatWriteWrites(f *testing.F) {
	w := example()
	f.Add(Write(w.walk))
	f.Fuzz(func(t *testing.T, text []byte) {
		var w whole
		if err := Read(text, w.walk); err == nil && string(Write(w.walk)) != string(text) {
			t.Errorf("Read accepted what Write would not have written:\n%q\n%q", text, Write(w.walk))
		}
	})
}
