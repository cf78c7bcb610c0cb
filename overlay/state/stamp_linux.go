package state

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"veneer/images/canonical"
)

// StampFormat is the version of a stamp's JSON form.
const StampFormat = 1

// Names below the directory of an upper.
const (
	FilesDir  = "fs"    // the upper itself
	WorkDir   = "work"  // overlayfs's own
	StampDir  = "stamp" // what the upper remembers of its base
	stampFile = StampDir + "/stamp.json"
)

// maxLowers bounds the images of a stamp.
const maxLowers = 512

// A Stamp is what an upper remembers of the base that it was written on.
type Stamp struct {
	Format  int
	Product string   // name of the manifest; "" says that an undo took the upper back
	Version string   // of the manifest
	Serial  string   // of the deployment
	Base    string   // ID of the base image
	Lowers  []string // IDs of all images, bottom first
	Options string   // of the overlay, as they were mounted
	Veneer  string   // version of the init
}

func (s *Stamp) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &s.Format)
	canonical.String(c, "product", &s.Product)
	canonical.String(c, "version", &s.Version)
	canonical.String(c, "serial", &s.Serial)
	canonical.String(c, "base", &s.Base)
	canonical.Strings(c, "lowers", &s.Lowers, maxLowers)
	canonical.String(c, "options", &s.Options)
	canonical.String(c, "veneer", &s.Veneer)
}

// Encode returns the stamp as it is stored.
func (s Stamp) Encode() []byte { return canonical.Write(s.walk) }

// ParseStamp reads what Encode wrote, and nothing else.
func ParseStamp(text []byte) (Stamp, error) {
	var s Stamp
	if err := canonical.Read(text, s.walk); err != nil {
		return Stamp{}, err
	}
	if s.Format != StampFormat {
		return Stamp{}, fmt.Errorf("stamp has format %d, this veneer knows %d", s.Format, StampFormat)
	}
	return s, nil
}

// Verdict is how an upper relates to what is about to be stacked below it.
type Verdict string

// The verdicts, from the worst.
const (
	Missing      Verdict = "missing"       // no stamp, or none that can be read: the upper was never finished, or is not ours
	ForeignStamp Verdict = "foreign"       // of another product
	TakenBack    Verdict = "taken back"    // an undo took it back: whatever it was written on, it is to be used
	OtherOptions Verdict = "other options" // written under overlay options that this mount does not have
	OtherBase    Verdict = "other base"    // the images below it have changed
	Same         Verdict = "same"
)

// Compare tells how an upper with the stamp have relates to a stack that would give it the stamp want.
//
//	product  options  lowers   verdict
//	none     any      any      taken back
//	differs  any      any      foreign
//	same     differs  any      other options
//	same     same     differs  other base
//	same     same     same     same
func Compare(have, want Stamp) Verdict {
	switch {
	case have.Product == "":
		return TakenBack
	case have.Product != want.Product:
		return ForeignStamp
	case have.Options != want.Options:
		return OtherOptions
	case have.Base != want.Base || !slices.Equal(have.Lowers, want.Lowers):
		return OtherBase
	}
	return Same
}

// ReadStamp reads the stamp of the upper in the directory dir ("etc/1"). One that is not there is fs.ErrNotExist; either that or
// one that cannot be read is Missing to whoever compares.
func (d *Dir) ReadStamp(dir string) (Stamp, error) {
	rel := path.Join(dir, stampFile)
	text, err := d.read(rel, maxSmall)
	if err != nil {
		return Stamp{}, err
	}
	s, err := ParseStamp(text)
	return s, d.wrap("read", rel, err)
}

// Against compares the stamp of the upper in dir with want.
func (d *Dir) Against(dir string, want Stamp) (have Stamp, v Verdict, err error) {
	have, err = d.ReadStamp(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return have, Missing, nil
	case err != nil:
		return have, Missing, err
	}
	return have, Compare(have, want), nil
}

// WriteStamp puts the stamp of the upper in dir in place. It is the last thing written of an upper: without it, or with the
// former one, whatever was in the making is made again.
func (d *Dir) WriteStamp(dir string, s Stamp) error {
	s.Format = StampFormat
	for _, sub := range []string{dir, path.Join(dir, StampDir)} {
		if err := d.mkdir(sub); err != nil {
			return err
		}
	}
	return d.write(path.Join(dir, stampFile), s.Encode())
}

// takeBack marks the uppers that the undo o brings back as such, where the init had put them aside by itself: held against their
// stamps, they would go again in the same boot. What a stamp that can be read knows of the base stays in it, for a merge.
func (d *Dir) takeBack(o *operation) error {
	if o.Kind != Undo {
		return nil
	}
	former, err := d.operation(o.Of)
	if err != nil || former == nil || former.From != fromInit || former.Kind != Quarantine && former.Kind != Reset {
		return err // a stop was behind the mark
	}
	for _, m := range o.Moves {
		if !d.isDir(path.Join(m.From, FilesDir)) {
			continue // a part of an upper, or none
		}
		for rel, kind := range map[string]uint32{path.Join(m.From, StampDir): unix.S_IFDIR, path.Join(m.From, stampFile): unix.S_IFREG} {
			if st, there, err := d.lstat(rel); err != nil || there && st.Mode&unix.S_IFMT != kind {
				if err := errors.Join(err, d.discard(rel)); err != nil {
					return err
				}
			}
		}
		s, err := d.ReadStamp(m.From)
		if err != nil {
			s = Stamp{}
		}
		s.Product = ""
		if err := d.WriteStamp(m.From, s); err != nil {
			return err
		}
	}
	return nil
}
