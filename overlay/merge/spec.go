package merge

import (
	"errors"
	"path"
	"strings"
)

// Spec is a merge: the upper of a merged directory, which was written on one base, is made fit for another one.
type Spec struct {
	Path    string   // of the merged directory in the system: /etc, or / for the whole root
	Upper   string   // the upper directory (.../fs); nothing may have it mounted
	Scratch string   // a directory on the same file system, outside of Upper, for the plan and for files in the making
	Lowers  []string // the same directory in each image of the new base, bottom first
	From    string   // names of the two bases, for the report; a plan that was left is only taken up for the same two
	To      string

	Old        *Index   // of the old base; nil when it is not known, which makes the merge one of two sides
	OldEntries string   // directory with the old base's files that are merged by entry, see SaveEntries; empty when not known
	Entries    []string // globs of further files to be merged by entry, relative to Path

	// Owned are globs of files, in the system, that somebody else has the last word on: what the upper has there stays as it is.
	Owned []string

	// Owns claims that files have the number of a user or group; nil stands for always.
	Owns func(id string, group bool) bool
}

// Errors of an upper that cannot be merged. It is as it was; put it aside and begin a fresh one.
var (
	// ErrMarks means that the upper was made with redirect_dir or metacopy: it is worth nothing without its own base.
	ErrMarks = errors.New("made with redirect_dir or metacopy, which ties it to its base")
	// ErrTooLarge means that a merge would change more paths than memory should be spent on.
	ErrTooLarge = errors.New("too many paths to change in one merge")
)

// maxActions bounds the memory of a plan.
const maxActions = 1 << 18

// owned claims that a path of the merged directory is left alone.
func (s *Spec) owned(p string) bool {
	full := path.Join("/", s.Path, p)
	for _, glob := range s.Owned {
		if ok, _ := path.Match(glob, full); ok {
			return true
		}
	}
	return false
}

// form finds how a path is merged by entry.
func (s *Spec) form(p string) (Form, bool) {
	if name, ok := strings.CutPrefix(path.Join("/", s.Path, p), "/etc/"); ok {
		if f, ok := FormOf(name); ok {
			return f, true
		}
	}
	for _, glob := range s.Entries {
		if ok, _ := path.Match(glob, p); ok {
			return Lines, true
		}
	}
	return Form{}, false
}
