package live

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
	"veneer/overlay/merge"
)

// reportName is where a merge leaves its report, beside the upper that it merged.
const reportName = "stamp/report.json"

// told are the conflicts that the last merge reported in a place, by their paths in it, and when it did. What cannot be read tells
// nothing: the marks of the sides know of the conflicts too.
func (p *Place) told() (items map[string]merge.Item, when time.Time) {
	if p.kept == "" {
		return nil, when
	}
	f, err := os.Open(filepath.Join(p.kept, reportName))
	if err != nil {
		return nil, when
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, when
	}
	text, err := io.ReadAll(io.LimitReader(f, merge.MaxReport+1))
	if err != nil {
		return nil, when
	}
	r, err := merge.ReadReport(text)
	if err != nil {
		return nil, when
	}
	items = map[string]merge.Item{}
	for _, i := range r.Items {
		rel := i.Path
		if p.within != "" {
			var below bool
			if rel, below = strings.CutPrefix(i.Path, p.within+"/"); !below {
				continue
			}
		}
		if i.Verdict.Open() {
			items[rel] = i
		}
	}
	return items, info.ModTime()
}

// join gives what is local the words of the merge that left it.
//
//	its side lies beside it                        a conflict, of the sort that the merge told
//	nothing does, and the merge laid nothing there a conflict, until the path is changed
//	nothing does any more                          decided: it is local
func (p *Place) join(r *merge.Report) {
	told, when := p.told()
	for n := range r.Items {
		i := &r.Items[n]
		was, known := told[i.Path]
		switch {
		case !known:
		case i.Verdict.Open(), was.Side == "" && i.Verdict != merge.Pruned && !p.changed(i.Path, when):
			i.Verdict, i.Note = was.Verdict, was.Note
		}
	}
}

// changed claims that a path of the upper was changed since.
func (p *Place) changed(rel string, since time.Time) bool {
	var st unix.Stat_t
	err := unix.Lstat(filepath.Join(p.Upper, rel), &st)
	return err != nil || time.Unix(st.Ctim.Unix()).After(since)
}

// Conflicts lists the conflicts of a place that nobody has resolved: those of Diff. Where no merge has told of any, and left a
// report that can be read, it looks no further.
func (p *Place) Conflicts(ctx context.Context) ([]merge.Item, error) {
	if told, when := p.told(); len(told) == 0 && (!when.IsZero() || !p.merged()) {
		return nil, nil
	}
	r, err := Diff(ctx, p, ".")
	if err != nil {
		return nil, err
	}
	var open []merge.Item
	for _, i := range r.Items {
		if i.Verdict.Open() {
			open = append(open, i)
		}
	}
	return open, nil
}

// merged claims that something lies where a merge leaves its report.
func (p *Place) merged() bool {
	_, err := os.Lstat(filepath.Join(p.kept, reportName))
	return p.kept != "" && err == nil
}

// usual is the directory that `veneer etc` looks at when it is not told.
const usual = "/etc"

// Verb is how `veneer etc` is told of a merged directory, in a shell: with its name, unless it is the usual one.
func Verb(verb, dir string) string {
	words := "veneer etc " + verb
	quoted := entry.Plain(dir)
	switch {
	case dir == usual:
	case strings.Trim(dir, plainLetters) == "":
		words += " --dir " + dir
	case quoted == dir:
		words += " --dir '" + strings.ReplaceAll(dir, "'", `'\''`) + "'"
	default:
		words += " --dir $'" + strings.ReplaceAll(quoted[1:len(quoted)-1], "'", `\'`) + "'"
	}
	return words
}

// plainLetters mean nothing but themselves in a shell.
const plainLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%"
