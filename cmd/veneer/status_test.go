package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/stage"
)

func TestStatusAnswersInTheFormThatWasAskedFor(t *testing.T) {
	root := t.TempDir()
	rec := &stage.Record{Format: stage.RecordFormat, Deployment: stage.Deployment{Name: "kiosk", Version: "1"}, Steps: []stage.Step{{Name: stage.StepFindStore, Took: 1000}}}
	text := rec.Encode()
	path := filepath.Join(root, stage.RecordPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		words []string
		code  int
		says  string
	}{
		{"text", nil, 0, "kiosk 1 (epoch 0"},
		{"JSON", []string{"--json"}, 0, `"name": "kiosk"`},
		{"bars", []string{"--timeline"}, 0, "find store  ####"},
		{"a picture", []string{"--svg"}, 0, "<svg"},
		{"two forms", []string{"--svg", "--json"}, exitUsage, "exclude each other"},
		{"a picture in a file without a name", []string{"--svg="}, exitUsage, "--svg with an empty name"},
		{"a picture in a file without a name, apart from the flag", []string{"--svg", ""}, exitUsage, "--svg with an empty name"},
		{"an argument too many", []string{"boot.svg"}, exitUsage, `unexpected "boot.svg"`},
		{"a picture that cannot be written", []string{"--svg=" + root + "/none/a.svg"}, exitFailed, "no such file"},
	}
	t.Setenv("LC_ALL", "C")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code, out := veneerStatus(t, append(c.words, "--root", root)...)
			if code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("veneer status = %d, want %d and %q in:\n%s", code, c.code, c.says, out)
			}
		})
	}
	t.Run("a picture in a file named apart from the flag", func(t *testing.T) {
		file := filepath.Join(root, "boot.svg")
		code, out := veneerStatus(t, "--root", root, "--svg", file)
		if got, err := os.ReadFile(file); code != 0 || err != nil || !bytes.HasPrefix(got, []byte("<svg")) {
			t.Errorf("veneer status = %d (%s), file: %v", code, out, err)
		}
	})
}

func TestStatusSaysThatVeneerDidNotBootTheMachine(t *testing.T) {
	code, out := veneerStatus(t, "--root", t.TempDir())
	if code != exitFailed || !strings.Contains(out, "veneer: this machine was not booted by Veneer") {
		t.Errorf("veneer status = %d, want %d and the reason in:\n%s", code, exitFailed, out)
	}
}

func TestTheLocaleDecidesWhatBarsAreMadeOf(t *testing.T) {
	cases := []struct {
		name string
		env  map[string]string
		want bool
	}{
		{"no locale is ASCII", nil, false},
		{"UTF-8", map[string]string{"LANG": "de_DE.UTF-8"}, true},
		{"LC_ALL wins", map[string]string{"LC_ALL": "C", "LANG": "en_US.utf8"}, false},
		{"spelled otherwise", map[string]string{"LC_CTYPE": "C.utf8"}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := chartFor(new(bytes.Buffer), func(name string) string { return c.env[name] }); got.Blocks != c.want {
				t.Errorf("Blocks = %v, want %v", got.Blocks, c.want)
			}
		})
	}
}

func veneerStatus(t *testing.T, words ...string) (code int, output string) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&out)
	code = run(context.Background(), root, append([]string{"status"}, words...))
	return code, out.String()
}
