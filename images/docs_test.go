package images

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestManifestIsDocumentedFieldByField(t *testing.T) {
	text, err := os.ReadFile("../docs/manifest.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.HasPrefix(cells[1], " `") {
			got = append(got, strings.Trim(cells[1], " `")+" "+strings.TrimSpace(cells[2]))
		}
	}
	want := fields("", reflect.TypeFor[Manifest]())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table of docs/manifest.md (-type +table):\n%s", diff)
	}
}

// fields lists the fields of a type in the order in which they are encoded, each with its type in JSON.
func fields(prefix string, t reflect.Type) []string {
	var list []string
	for i := range t.NumField() {
		f := t.Field(i)
		name := prefix + strings.Split(f.Tag.Get("json"), ",")[0]
		kind := f.Type
		if kind.Kind() == reflect.Slice {
			name, kind = name+"[]", kind.Elem()
		}
		switch {
		case f.Anonymous:
			list = append(list, fields(prefix, kind)...)
		case kind.Kind() == reflect.Struct:
			list = append(list, fields(name+".", kind)...)
		case kind.Kind() == reflect.String:
			list = append(list, name+" string")
		case kind.Kind() == reflect.Bool:
			list = append(list, name+" boolean")
		default:
			list = append(list, name+" number")
		}
	}
	return list
}
