package watch

import (
	"io/fs"
	"math/bits"
	"path/filepath"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/stage"
)

// What is watched.
const (
	Upper = "upper" // the memory of what is volatile
	Data  = "data"  // the file system of the state
)

// Place is a file system that fills up.
type Place struct {
	What  string `json:"what"`
	Mount string `json:"mount"`
}

// Places are those of a record that can fill up.
func Places(rec *stage.Record) []Place {
	var all []Place
	if rec.Upper.Mount != "" && rec.Upper.Kind == string(boot.UpperTmpfs) {
		all = append(all, Place{Upper, rec.Upper.Mount})
	}
	switch {
	case rec.State.Mount == "":
	case rec.State.Kind == stage.StatePersistent:
		all = append(all, Place{Data, rec.State.Mount})
	case rec.State.Kind == stage.StateEphemeral && len(all) == 0:
		all = append(all, Place{Upper, rec.State.Mount}) // the state is in memory
	}
	return all
}

// Room is what is used of a place.
type Room struct {
	Size, Used       int64 // bytes; what only root may fill is not counted as size
	Files, FilesUsed int64 // 0: no limit
}

// Look asks a place how full it is.
func (p Place) Look(root string) (Room, error) {
	dir := filepath.Join(root, p.Mount)
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Room{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	block := uint64(s.Bsize)
	if s.Frsize > 0 {
		block = uint64(s.Frsize)
	}
	used := (s.Blocks - min(s.Bfree, s.Blocks)) * block
	return Room{Size: int64(used + s.Bavail*block), Used: int64(used), Files: int64(s.Files), FilesUsed: int64(s.Files - min(s.Ffree, s.Files))}, nil
}

// Percent is how full it is, rounded up: of its bytes or of its files, whichever is scarcer.
func (r Room) Percent() (percent int, of string) {
	b, f := share(r.Used, r.Size), share(r.FilesUsed, r.Files)
	if f > b {
		return f, "files"
	}
	return b, "bytes"
}

func share(part, whole int64) int {
	if whole <= 0 || part <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(part), 100)
	q, rest := bits.Div64(hi%uint64(whole), lo, uint64(whole))
	if rest > 0 {
		q++
	}
	return int(min(q, 100))
}
