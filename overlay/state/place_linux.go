package state

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxPlaces bounds the entries of etc/, merge/ and data/ that are looked at.
const maxPlaces = 4096

// A Place is where a part of the merged root is kept.
type Place struct {
	Path  string // in the merged root: /etc
	Root  string // what holds it in the state directory: etc/1, data/var
	Files string // what is seen at Path: etc/1/fs; of a bind the same as Root
}

// Overlay reports whether the place is an upper with its stamp, and not a bound directory.
func (p Place) Overlay() bool { return p.Files != p.Root }

// kind is the first part of where a place is kept.
func (p Place) kind() string { k, _, _ := strings.Cut(p.Root, "/"); return k }

// Places finds the places of a state from its layout: the uppers, and what rules kept. The init and the command know better,
// from the rules that are in force; this is for a state without its machine. A name that is no escaped path is junk.
func (d *Dir) Places(serial string) (places []Place, junk []string, err error) {
	add := func(p, root string) {
		place := Place{p, root, root}
		kind := place.kind()
		if kind != dataDir || d.looksLikeUpper(root) {
			place.Files = path.Join(root, FilesDir)
		}
		st, there, err := d.lstat(root)
		format := st.Mode & unix.S_IFMT
		if err == nil && there && (format == unix.S_IFDIR || format == unix.S_IFREG && kind == dataDir) {
			places = append(places, place)
		} else {
			junk = append(junk, root)
		}
	}
	if d.isDir(upperDir) {
		add("/", upperDir)
	}
	if root := path.Join(etcDir, serial); serial != "" && d.isDir(root) {
		add("/etc", root)
	}
	for _, dir := range []string{mergeDir, dataDir} {
		names, err := d.names(dir, maxPlaces)
		if err != nil {
			return nil, nil, err
		}
		for _, n := range names {
			p, err := Unescape(n)
			if err != nil {
				junk = append(junk, path.Join(dir, n))
				continue
			}
			add(p, path.Join(dir, n))
		}
	}
	return places, junk, nil
}

// looksLikeUpper tells an upper from a bound directory that happens to have an entry fs.
func (d *Dir) looksLikeUpper(root string) bool {
	names, err := d.names(root, 3)
	if err != nil || len(names) == 0 {
		return false
	}
	for _, n := range names {
		if n != FilesDir && n != WorkDir && n != StampDir {
			return false
		}
	}
	return d.isDir(path.Join(root, FilesDir)) && d.isDir(path.Join(root, WorkDir))
}

// below reports whether the path p is dir or lies in it. Both are clean; "/" and "." hold everything.
func below(dir, p string) bool {
	if dir == "/" || dir == "." || dir == p {
		return true
	}
	return len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir
}

// locate returns the place that supplies p, and what p is within its files; ok is false where nothing that is kept does.
func locate(places []Place, p string) (place Place, rel string, ok bool) {
	for _, c := range places {
		if below(c.Path, p) && (!ok || len(c.Path) > len(place.Path)) {
			place, ok = c, true
		}
	}
	if !ok {
		return Place{}, "", false
	}
	rel = strings.TrimPrefix(strings.TrimPrefix(p, place.Path), "/")
	return place, rel, true
}
