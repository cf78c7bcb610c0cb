package live

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"veneer/overlay/merge"
)

// Place is a merged directory of the running system, or a directory in one.
type Place struct {
	Path string // in the system: /etc
	merge.Resolver

	kept   string // the directory that holds the upper and its stamp; "" where nothing is kept
	within string // Path, relative to what is merged
}

// ErrNotBooted means that there is no record.
var ErrNotBooted = errors.New("this machine was not booted by Veneer")

// ErrNotMerged means that a path lies in no merged directory: nothing local is kept there beside a base.
var ErrNotMerged = errors.New("not in a merged directory")

// Where the init left the record, and where it has mounted the state.
const (
	recordPath = "/run/veneer/state.json"
	statePath  = "/run/initramfs/veneer/state"
	maxRecord  = 1 << 20
)

// record is what this package reads of the record.
type record struct {
	Images []struct {
		Mount string `json:"mount"`
	} `json:"images"`
	Upper struct {
		Kind  string `json:"kind"`
		Mount string `json:"mount"`
	} `json:"upper"`
	Rules []struct {
		Path   string `json:"path"`
		Action string `json:"action"`
		Form   string `json:"form"`
		Source string `json:"source"`
	} `json:"rules"`
}

// Find returns the directory dir of the system whose root is at root ("/" for the running one).
func Find(root, dir string) (*Place, error) {
	rec, err := readRecord(filepath.Join(root, recordPath))
	if err != nil {
		return nil, err
	}
	dir = path.Clean("/" + dir)
	top, upper, action, kept := "/", "", "merge", ""
	switch rec.Upper.Kind {
	case "tmpfs":
		upper = path.Join(rec.Upper.Mount, "upper")
	case "persistent":
		upper, kept = path.Join(rec.Upper.Mount, "fs"), rec.Upper.Mount
	}
	for _, r := range rec.Rules {
		if below(dir, r.Path) && len(r.Path) > len(top) {
			top, action, upper, kept = r.Path, r.Action, "", ""
			if (r.Action == "merge" || r.Action == "persist" && r.Form == "overlay") && r.Source != "" {
				if kept = r.Source; !path.IsAbs(kept) {
					kept = path.Join(statePath, kept)
				}
				upper = path.Join(kept, "fs")
			}
		}
	}
	if upper == "" {
		return nil, fmt.Errorf("%s: %w: %s is %s", dir, ErrNotMerged, top, cmp.Or(action, "not recorded"))
	}
	rel := strings.TrimPrefix(strings.TrimPrefix(dir, top), "/")
	p := &Place{Path: dir, within: rel}
	if kept != "" {
		p.kept = filepath.Join(root, kept)
	}
	p.Merged, p.Upper = filepath.Join(root, dir), filepath.Join(root, upper, rel)
	for _, i := range rec.Images {
		lower := filepath.Join(root, i.Mount, dir)
		if info, err := os.Lstat(lower); err == nil && info.IsDir() {
			p.Lowers = append(p.Lowers, lower)
		}
	}
	return p, nil
}

// Diff reports what is local below dir, and which conflicts are open.
func Diff(ctx context.Context, p *Place, dir string) (*merge.Report, error) {
	r, err := merge.Local(ctx, merge.Spec{Path: p.Path, Upper: p.Upper, Lowers: p.Lowers})
	if err != nil {
		return nil, err
	}
	r.From, r.To = "running", "running"
	all := dir == "" || dir == "."
	omitted := r.Counts
	for _, i := range r.Items {
		omitted.Add(i.Verdict, -1)
	}
	p.join(r)
	kept := *r
	kept.Counts, kept.Items = merge.Counts{}, []merge.Item{}
	if all {
		kept.Counts = omitted
	}
	for _, i := range r.Items {
		if all || i.Path == dir || strings.HasPrefix(i.Path, dir+"/") {
			kept.Items = append(kept.Items, i)
			kept.Counts.Add(i.Verdict, 1)
		}
	}
	return &kept, nil
}

// Relative turns a path as a user writes it, absolute or below the place, into one relative to the place.
func (p *Place) Relative(name string) (string, error) {
	full := path.Clean(name)
	if !path.IsAbs(full) {
		full = path.Join(p.Path, full)
	}
	if !below(full, p.Path) {
		return "", fmt.Errorf("%s does not lie in %s", name, p.Path)
	}
	return cmp.Or(strings.TrimPrefix(strings.TrimPrefix(full, p.Path), "/"), "."), nil
}

// below claims that name is dir or lies in it.
func below(name, dir string) bool {
	return name == dir || dir == "/" || strings.HasPrefix(name, dir+"/")
}

func readRecord(name string) (*record, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s; in a container, ask on its host", ErrNotBooted, name)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return nil, err
	}
	var rec record
	if err := json.Unmarshal(text, &rec); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &rec, nil
}
