//go:build !onboard

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"veneer/boot"
)

// The man pages are made from the commands themselves, one page for each verb.
func TestTheManPagesAreThoseOfTheCommands(t *testing.T) {
	released := time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)
	root := newRoot()
	root.DisableAutoGenTag = true
	var pages []*cobra.Command
	for _, c := range append(root.Commands(), root) {
		if c.IsAvailableCommand() || c == root {
			pages = append(pages, c)
		}
	}
	known := map[string]bool{}
	for _, c := range pages {
		c.DisableAutoGenTag = true
		name := "veneer.1"
		if c != root {
			name = "veneer-" + c.Name() + ".1"
		}
		known[name] = true
		var b bytes.Buffer
		header := &doc.GenManHeader{Section: "1", Source: "veneer " + boot.Version, Manual: "Veneer", Date: &released}
		if err := doc.GenMan(c, header, &b); err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("../../docs/man", name), b.String())
	}
	entries, err := os.ReadDir("../../docs/man")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			t.Errorf("docs/man/%s is the page of no command: delete it", e.Name())
		}
	}
}
