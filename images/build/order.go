package build

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxPackageList bounds a file of a package database.
const maxPackageList = 64 << 20

// rank is the part of the image that a file's content goes to. An update changes the files of few packages, and /etc and
// what no package owns in each machine or build: what changes together lies together.
type rank struct {
	class   int // 0: owned by a package, 1: unowned, 2: /etc
	owner   string
	visible string // the path
}

func compareRanks(a, b rank) int {
	return cmp.Or(cmp.Compare(a.class, b.class), strings.Compare(a.owner, b.owner), comparePaths(a.visible, b.visible))
}

// contentOrder returns the regular files in the order in which their content goes into the image, each file once, under the
// first of its names; and the other names, with the name that they are links to.
func (t *Tree) contentOrder() (files []*Entry, links map[*Entry]*Entry, err error) {
	owners, err := t.owners()
	if err != nil {
		return nil, nil, err
	}
	ranks := make(map[*Entry]rank, len(t.Entries))
	first := map[int]*Entry{}
	for _, e := range t.Entries {
		ranks[e] = rankOf(e.Path, owners)
		if old := first[e.inode]; e.inode > 0 && (old == nil || compareRanks(ranks[e], ranks[old]) < 0) {
			first[e.inode] = e
		}
	}
	links = map[*Entry]*Entry{}
	for _, e := range t.Entries {
		switch {
		case e.inode > 0 && first[e.inode] != e:
			links[e] = first[e.inode]
		case e.kind() == unix.S_IFREG:
			files = append(files, e)
		}
	}
	slices.SortFunc(files, func(a, b *Entry) int { return compareRanks(ranks[a], ranks[b]) })
	return files, links, nil
}

func rankOf(p string, owners map[string]string) rank {
	r := rank{class: 1, visible: p}
	if owner, ok := owners[p]; ok {
		r.class, r.owner = 0, owner
	}
	if p == "etc" || strings.HasPrefix(p, "etc/") {
		r.class = 2
	}
	return r
}

// owners maps paths to the package that they belong to, from the databases of dpkg and of apk. A tree without one has no
// owners.
func (t *Tree) owners() (map[string]string, error) {
	owners := map[string]string{}
	claim := func(p, pkg string) {
		p = t.merged(strings.TrimPrefix(p, "/"))
		// Two packages may name a path (diversions): the first by name has it, whatever the order of the lists.
		if old, ok := owners[p]; !ok || pkg < old {
			owners[p] = pkg
		}
	}
	for _, e := range t.Entries {
		dir, name := path.Split(e.Path)
		var read func(r io.Reader) error
		switch pkg, isList := strings.CutSuffix(name, ".list"); {
		case isList && dir == "var/lib/dpkg/info/":
			read = func(r io.Reader) error { return readDpkgList(r, pkg, claim) }
		case e.Path == "lib/apk/db/installed" || e.Path == "usr/lib/apk/db/installed":
			read = func(r io.Reader) error { return readApkInstalled(r, claim) }
		default:
			continue
		}
		if e.kind() != unix.S_IFREG {
			continue
		}
		if err := t.read(e, read); err != nil {
			return nil, fmt.Errorf("package list %s: %w", e.Path, err)
		}
	}
	return owners, nil
}

func (t *Tree) read(e *Entry, do func(io.Reader) error) error {
	f, err := t.content.open(e)
	if err != nil {
		return err
	}
	defer f.Close()
	return do(io.LimitReader(f, maxPackageList))
}

// merged maps a path of a package that was made before /bin, /lib and their kin became links into /usr.
func (t *Tree) merged(p string) string {
	top, rest, ok := strings.Cut(p, "/")
	if !ok {
		return p
	}
	link := t.lookup(top)
	if link == nil || link.kind() != unix.S_IFLNK {
		return p
	}
	target := strings.TrimPrefix(path.Clean("/"+link.Target), "/")
	return target + "/" + rest
}

// readDpkgList reads a list of dpkg: a path on each line.
func readDpkgList(r io.Reader, pkg string, claim func(path, pkg string)) error {
	s := lineScanner(r)
	for s.Scan() {
		if p := s.Text(); p != "" && p != "/." {
			claim(p, pkg)
		}
	}
	return s.Err()
}

// readApkInstalled reads the database of apk: lines of a letter and a value, P a package, F a directory, R a file in it.
func readApkInstalled(r io.Reader, claim func(path, pkg string)) error {
	var pkg, dir string
	s := lineScanner(r)
	for s.Scan() {
		letter, value, _ := strings.Cut(s.Text(), ":")
		switch letter {
		case "P":
			pkg = value
		case "F":
			dir = value
		case "R":
			claim(path.Join(dir, value), pkg)
		}
	}
	return s.Err()
}

func lineScanner(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	return s
}
