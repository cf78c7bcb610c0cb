package build

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/images"
)

func TestThePreviousReleaseIsTheOneNamedOrTheOneReplaced(t *testing.T) {
	good, err := os.ReadFile("../testdata/good-full.json")
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Replace(good, []byte(`"name": "demo"`), []byte(`"name": "other"`), 1)
	named := filepath.Join(t.TempDir(), "named.json")
	write(t, named, string(other))
	for _, c := range []struct {
		name    string
		named   string
		files   map[string]string // in the output directory
		want    string            // name in the manifest
		warning string
		err     string
	}{
		{name: "an empty directory"},
		{name: "a directory with files of others", files: map[string]string{"index.html": "x"}},
		{name: "a former build", files: map[string]string{"manifest.json": string(good)}, want: "demo"},
		{name: "a named one before that which is replaced", named: named, files: map[string]string{"manifest.json": string(good)}, want: "other"},
		{name: "a named one that is not there", named: "/nonexistent", err: "previous release: stat /nonexistent"},
		{name: "a named one that is none", named: "versions_test.go", err: "previous release: versions_test.go: manifest: "},
		{name: "a broken one of ours", files: map[string]string{"manifest.json": "{", outInitramfs: "x"}, warning: "previous release: OUT/manifest.json: manifest: "},
		{name: "a cut one among images", files: map[string]string{"manifest.json": string(good[:99]), "images/" + strings.Repeat("ab", 32) + ".img": ""},
			warning: "nothing to compare this one with"},
		{name: "an empty one beside a signature", files: map[string]string{"manifest.json": "", images.SignatureName: ""}, warning: "OUT/manifest.json"},
		{name: "a broken one of ours beside a named one", named: named, files: map[string]string{"manifest.json": "{", outInitramfs: "x"}, want: "other"},
		{name: "one of a web site", files: map[string]string{"manifest.json": `{"icons":[]}`, "index.html": "", "images/logo.img": ""},
			err: "this build would replace it: remove it, or choose another directory with -o"},
		{name: "one of a web site beside a named one", named: named, files: map[string]string{"manifest.json": `{"icons":[]}`}, err: "OUT/manifest.json: manifest: "},
		{name: "a directory", files: map[string]string{"manifest.json/x": ""}, err: "OUT/manifest.json is not a file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := t.TempDir()
			for name, content := range c.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(out, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(out, name), content)
			}
			m, warnings, err := previousManifest(c.named, out)
			name, said, why := "", strings.ReplaceAll(strings.Join(warnings, "\n"), out, "OUT"), ""
			if m != nil {
				name = m.Name
			}
			if err != nil {
				why = strings.ReplaceAll(err.Error(), out, "OUT")
			}
			if name != c.want || (said == "") != (c.warning == "") || (why == "") != (c.err == "") || !strings.Contains(said, c.warning) || !strings.Contains(why, c.err) {
				t.Errorf("previousManifest() = %q, %q, %q; want %q, %q, %q", name, said, why, c.want, c.warning, c.err)
			}
		})
	}
}

func TestABuildLeavesTheManifestOfOthersAndWarnsOfABrokenOne(t *testing.T) {
	p := newProject(t, "")
	out := p.build(t, nil)
	manifest := filepath.Join(out, images.ManifestName)
	write(t, manifest, "{")
	plan, err := DryRun(context.Background(), p.spec(t, out))
	if err != nil || len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], manifest) {
		t.Errorf("DryRun() warns of %q, %v; want it to name %s", plan.Warnings, err, manifest)
	}
	report, err := Build(context.Background(), p.spec(t, out))
	if err != nil || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], manifest) {
		t.Errorf("Build() warns of %q, %v; want it to name %s", report.Warnings, err, manifest)
	}
	foreign := t.TempDir()
	write(t, filepath.Join(foreign, images.ManifestName), "{}")
	if _, err := DryRun(context.Background(), p.spec(t, foreign)); err == nil || !strings.Contains(err.Error(), "would replace it") {
		t.Errorf("DryRun() over a manifest of others = %v", err)
	}
	if _, err := Build(context.Background(), p.spec(t, foreign)); err == nil || !strings.Contains(err.Error(), "would replace it") {
		t.Errorf("Build() over a manifest of others = %v", err)
	}
	if got := files(t, foreign); len(got) != 1 || string(got[images.ManifestName]) != "{}" {
		t.Errorf("Build() left %q", got)
	}
}
