package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares text with a file, or writes the file.
func golden(t *testing.T, file, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-want +got):\n%s\ngo test ./cmd/veneer -update writes it anew", file, diff)
	}
}

func TestPlansAreTheGoldenOnes(t *testing.T) {
	for name, line := range map[string]string{
		"nothing-said":        "",
		"everything-said":     "ro rootdelay=3 veneer.wait=5 veneer.upper=tmpfs:size=64M init=/bin/x veneer.on-fail=halt veneer.deployment=7",
		"another-store":       `"veneer.store=LABEL=MY STICK:/kiosk"`,
		"installed-root":      "root=UUID=5f0a rootflags=subvol=@rootfs ro overlayroot=tmpfs",
		"without-a-signature": "veneer.verify=none",

		// As the boot menus of these media, and of machines set up by these tools, have them.
		"fedora-live":      "root=live:CDLABEL=Fedora-WS-Live-40-1-14 rd.live.image quiet rhgb",
		"fedora-check":     "root=live:CDLABEL=Fedora-WS-Live-40-1-14 rd.live.image rd.live.check quiet",
		"debian-live":      "boot=live components quiet splash",
		"debian-keeps":     "boot=live components persistence persistence-label=persistence quiet splash",
		"debian-iso":       "boot=live components findiso=/iso/debian.iso quiet splash",
		"ubuntu-live":      "layerfs-path=minimal.standard.live.squashfs --- quiet splash",
		"ubuntu-keeps":     "boot=casper persistent quiet splash ---",
		"arch-iso":         "archisobasedir=arch archisosearchuuid=2024-06-01-12-00-00-00",
		"immucore":         "rd.immucore.overlay=tmpfs:20% rd.immucore.oemlabel=COS_OEM rd.immucore.debug root=LABEL=COS_ACTIVE cos-img/filename=/cOS/active.img",
		"an-iso-to-memory": "veneer.medium=/iso/x.iso veneer.toram=yes,eject",
	} {
		t.Run(name, func(t *testing.T) {
			manifest, err := planManifest("")
			if err != nil {
				t.Fatal(err)
			}
			p, err := makePlan(context.Background(), "veneer.store=LABEL=VENEER", line, manifest, 1<<30, "")
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			p.print(&b)
			golden(t, filepath.Join("testdata", "plan-"+name+".txt"), b.String())
		})
	}
}

func TestTheReferenceOfOthersParametersIsTheTableOfTheInit(t *testing.T) {
	golden(t, "../../docs/dialects.md", dialectsPage())
}

func TestTheReferenceOfParametersIsTheTableOfTheInit(t *testing.T) {
	golden(t, "../../docs/parameters.md", parametersPage())
}

func TestExitCodesTellFailureFromMisuse(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want int
		says string
	}{
		"done":                         {[]string{"plan"}, 0, "switch root"},
		"a mistake on a command line":  {[]string{"plan", "--cmdline", "veneer.nonsense"}, 1, "veneer.nonsense"},
		"an unknown flag":              {[]string{"plan", "--nonsense"}, 2, "See 'veneer help plan'."},
		"a flag of a wrong type":       {[]string{"plan", "--memory", "x"}, 2, "See 'veneer help plan'."},
		"an argument too many":         {[]string{"status", "x"}, 2, "See 'veneer help status'."},
		"an unknown command":           {[]string{"nonsense"}, 2, "See 'veneer help'."},
		"an unknown flag of no verb":   {[]string{"--nonsense"}, 2, "See 'veneer help'."},
		"a manifest that is not there": {[]string{"plan", "--manifest", "/nonexistent"}, 1, "/nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newRoot()
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetErr(&out)
			if got := run(context.Background(), root, c.args); got != c.want || !strings.Contains(out.String(), c.says) {
				t.Errorf("veneer %v exits with %d, want %d and %q in:\n%s", c.args, got, c.want, c.says, out.String())
			}
		})
	}
}
