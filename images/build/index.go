package build

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	upper "veneer/overlay/entry"
	"veneer/overlay/merge"
	"veneer/overlay/rule"
	"veneer/overlay/state"
)

// indexDir is where the tools layer carries what the base has in each directory that is merged when the base changes: the init of
// the next base reads it, when this one may be gone.
const indexDir = "usr/lib/veneer/index"

// addIndexes puts an index of each merged directory into the tools layer. It is made of the sources, so that no machine ever
// has to read its whole /etc to know what was changed in it.
func (b *builder) addIndexes(tools *Tree) error {
	for _, r := range b.merged() {
		name, err := state.Escape(r)
		if err != nil {
			return err
		}
		text, err := b.index(strings.TrimPrefix(r, "/"))
		if err != nil {
			return fmt.Errorf("index of %s: %w", r, err)
		}
		if text != nil {
			tools.put(path.Join(indexDir, name), unix.S_IFREG|0o644, text)
		}
	}
	return nil
}

// merged lists the directories that are merged when the base changes.
func (b *builder) merged() []string {
	var dirs []string
	for _, r := range b.rules {
		if r.Overlaid() && r.OnBaseChange() == rule.MergeChange {
			dirs = append(dirs, r.Path)
		}
	}
	return dirs
}

// warnNoIndexes says what a build without a tools layer lacks.
func (b *builder) warnNoIndexes() {
	if dirs := b.merged(); len(dirs) > 0 {
		b.report.Warnings = append(b.report.Warnings, fmt.Sprintf("without a tools layer no index of %s travels with the images: when the base changes, "+
			"what was changed there on purpose cannot be told from what the old base had", strings.Join(dirs, ", ")))
	}
}

// index is the index of a directory as the base and the layers make it together; nil where they have none.
func (b *builder) index(dir string) ([]byte, error) {
	var ix merge.Builder
	for _, j := range b.jobs { // bottom first
		if err := j.indexInto(&ix, dir); err != nil {
			return nil, err
		}
	}
	if ix.Len() == 0 {
		return nil, nil
	}
	var text bytes.Buffer
	err := ix.Write(&text)
	return text.Bytes(), err
}

func (j *imageJob) indexInto(ix *merge.Builder, dir string) error {
	digests := map[int][32]byte{} // of files with more than one name
	for _, e := range j.tree.Entries {
		name, below := strings.CutPrefix(e.Path, dir)
		switch {
		case below && name == "":
			name = "."
		case below && name[0] == '/':
			name = name[1:]
		default:
			// What hides the directory in lower images hides all of it.
			if strings.HasPrefix(dir, e.Path+"/") && (!e.isDir() || e.opaque()) {
				ix.Remove(".")
			}
			continue
		}
		if e.isDir() && e.opaque() {
			ix.Remove(name)
		}
		line := merge.Entry{Path: name, Mode: e.Mode, UID: e.UID, GID: e.GID, Size: e.Size, Major: e.Major, Minor: e.Minor, Target: e.Target, Xattrs: j.keptXattrs(e)}
		if e.kind() == unix.S_IFREG {
			sum, known := digests[e.inode]
			if !known || e.inode == 0 {
				var err error
				if sum, err = j.tree.digest(e); err != nil {
					return err
				}
				digests[e.inode] = sum
			}
			line.SHA256 = sum
		}
		if err := ix.Add(line); err != nil {
			return err
		}
	}
	return nil
}

// keptXattrs stands for the attributes that the image will have, which may be fewer than those of the source.
func (j *imageJob) keptXattrs(e *Entry) [32]byte {
	limits := squashfsLimits
	if j.fs.Type == Erofs {
		limits = erofsLimits
	}
	var kept []upper.Xattr
	for _, x := range e.Xattrs {
		if limits.keeps(e, x.Name) {
			kept = append(kept, upper.Xattr{Name: x.Name, Value: x.Value})
		}
	}
	return merge.XattrDigest(kept)
}

func (t *Tree) digest(e *Entry) (sum [32]byte, err error) {
	f, err := t.content.open(e)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err = errors.Join(err, f.Close()); err == nil && n != e.Size {
		err = fmt.Errorf("%s has %d bytes, and had %d when the tree was scanned", quotePath(e.Path), n, e.Size)
	}
	h.Sum(sum[:0])
	return sum, err
}
