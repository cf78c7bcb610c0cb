package report

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

// Manifest reads the manifest of the deployment that the system at root was booted from, out of its store.
func Manifest(root string, rec *stage.Record) (images.Manifest, error) {
	store := os.DirFS(filepath.Join(root, stage.StoreDir))
	if rec.Store.Dir != "" && rec.Store.Dir != "." {
		sub, err := fs.Sub(store, path.Clean(strings.TrimPrefix(rec.Store.Dir, "/")))
		if err != nil {
			return images.Manifest{}, err
		}
		store = sub
	}
	text, _, err := images.ReadDeployment(store, rec.Deployment.Serial)
	if err != nil {
		return images.Manifest{}, fmt.Errorf("the manifest of deployment %s: %w", rec.Deployment.Serial, err)
	}
	return images.ParseManifest(text)
}

// maxSiteRules bounds the size of the rules of the site, in bytes.
const maxSiteRules = 4 << 20

// said are the rules that were put in force, whole, by their paths: the record has no globs and no policies. The rule of a kept root is
// at "/". What cannot be read, and what was changed since the boot, is not there.
func (r *Report) said(root string) map[string]*rule.Rule {
	all := map[string]*rule.Rule{}
	man, err := Manifest(root, r.Record)
	if err != nil {
		return all
	}
	var site []rule.Rule
	if text, err := readBounded(filepath.Join(root, r.State.Mount, "site-rules.json"), maxSiteRules); r.State.Mount != "" && err == nil {
		if site, err = state.ParseSiteRules(text); err != nil {
			site = nil
		}
	}
	base := man.Rules
	if r.Record.Upper.Kind == string(boot.UpperPersistent) {
		base = rule.OnKeptRoot(base)
		all["/"] = &rule.Rule{Path: "/", BaseChange: cmp.Or(man.Root.BaseChange, rule.MergeChange)}
	}
	known := map[string]stage.Rule{}
	for _, rec := range r.Rules {
		known[rec.Path] = rec
	}
	for origin, rules := range map[rule.Origin][]rule.Rule{rule.FromBase: base, rule.FromSite: site} {
		for _, one := range rules {
			if rec, ok := known[one.Path]; ok && rec.Origin == string(origin) && rec.Action == string(one.Action) {
				all[one.Path] = &one
			}
		}
	}
	return all
}
