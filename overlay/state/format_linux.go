package state

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"

	"veneer/images/canonical"
)

// Format is the version of the layout of a state directory.
const Format = 1

// An Owner is who a state directory belongs to.
type Owner struct {
	Product string // name of the manifest
	Machine string // what tells this machine from its sisters, as the caller has it; "" where nothing does
}

// Origin is where a state directory comes from, as seen by one owner.
type Origin string

// The origins. Of a state that is Foreign nothing is read but its format file; what happens to it is the caller's policy.
const (
	Fresh   Origin = "fresh"   // nothing was ever kept here
	Own     Origin = "own"     // this machine's, of this product
	Marked  Origin = "marked"  // this product's by the stamps of its uppers: the mark itself is gone, or cannot be read
	Foreign Origin = "foreign" // of another machine or product, or of nobody who left a mark
)

// ErrNewer means that a later version of veneer wrote the state: this one leaves it alone. The caller may boot that version.
var ErrNewer = errors.New("the state was written by a newer veneer")

type formatMark struct {
	Format int
	Owner
}

func (m *formatMark) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &m.Format)
	canonical.String(c, "product", &m.Product)
	canonical.String(c, "machine", &m.Machine)
}

// Origin tells whose state this is, and of one that is foreign, or marked by its stamps alone, why.
func (d *Dir) Origin(o Owner) (Origin, string, error) {
	text, err := d.read(formatFile, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		for _, dir := range []string{etcDir, upperDir, mergeDir, dataDir, identityDir} {
			if names, lerr := d.names(dir, maxPlaces); lerr != nil || len(names) > 0 {
				return d.unmarked(o, dir+"/ holds something, and "+formatFile+" is missing")
			}
		}
		return Fresh, "", nil
	}
	var m formatMark
	if err == nil {
		if err = canonical.Read(text, m.walk); err != nil {
			if n := leadingFormat(text); n > Format {
				return "", "", d.wrap("read", formatFile, fmt.Errorf("%w: it has format %d, this one knows %d", ErrNewer, n, Format))
			}
			err = d.wrap("read", formatFile, err)
		}
	}
	if no := unix.Errno(0); errors.As(err, &no) {
		return "", "", err // the disk, not the file
	}
	if err != nil {
		return d.unmarked(o, err.Error())
	}
	switch {
	case m.Format > Format:
		return "", "", d.wrap("read", formatFile, fmt.Errorf("%w: it has format %d, this one knows %d", ErrNewer, m.Format, Format))
	case m.Product != o.Product:
		return Foreign, fmt.Sprintf("it belongs to the product %q, and this is %q", clip(m.Product), clip(o.Product)), nil
	case m.Machine != "" && o.Machine != "" && m.Machine != o.Machine:
		return Foreign, "it belongs to another machine of the product", nil
	}
	return Own, "", nil
}

// unmarked tells whose state it is by the stamps: each names its product. What lies in data/ does not count, programs write there.
func (d *Dir) unmarked(o Owner, why string) (Origin, string, error) {
	origin := Foreign
	dirs := []string{upperDir}
	for _, dir := range []string{etcDir, mergeDir} {
		names, _ := d.names(dir, maxPlaces)
		for _, n := range names {
			dirs = append(dirs, path.Join(dir, n))
		}
	}
	for _, dir := range dirs {
		s, err := d.ReadStamp(dir)
		if err != nil || s.Product == "" { // or it was taken back from wherever
			continue
		}
		if s.Product != o.Product {
			return Foreign, fmt.Sprintf("%s, and %s belongs to the product %q", why, dir, clip(s.Product)), nil
		}
		origin = Marked
	}
	if origin == Foreign {
		why += ", and no stamp says whose it is; if it is this product's, write " + formatFile + " anew: docs/rules.md"
	}
	return origin, why, nil
}

// leadingFormat reads the first field of a file whose others this version does not know.
func leadingFormat(text []byte) int {
	n := 0
	for _, c := range text[min(len(text), len("{\n  \"format\": ")):] {
		if c < '0' || c > '9' || n > 1<<20 {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// Adopt makes the directories of a state that is Fresh, or that the policy takes over, and marks it as o's. The mark comes last,
// so that a stop in between leaves a state that is still fresh.
func (d *Dir) Adopt(o Owner) error {
	for _, dir := range []string{etcDir, mergeDir, dataDir, identityDir, requestsDir, journalDir, asideDir, snapshotsDir, trashDir} {
		if err := d.mkdir(dir); err != nil {
			return err
		}
	}
	m := formatMark{Format, o}
	return d.write(formatFile, canonical.Write(m.walk))
}
