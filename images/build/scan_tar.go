package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tarSource is an uncompressed tar archive.
type tarSource struct{ f *os.File }

// maxTarEntries bounds the memory that an archive can ask for.
const maxTarEntries = 1 << 24

// maxFile is more than any file of a real system has, and small enough to be added up.
const maxFile = 1 << 44

// scanTar lists an archive. The archive may be compressed with gzip, zstd or xz: it is then unpacked into the directory scratch
// first, because it is read more than once.
func scanTar(ctx context.Context, name, scratch string) (*Tree, error) {
	f, err := openTar(ctx, name, scratch)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	t, err := indexTar(ctx, name, f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("source %s: %w", name, err), f.Close())
	}
	t.content = tarSource{f}
	return t, nil
}

// indexTar lists an uncompressed archive.
func indexTar(ctx context.Context, name string, r io.ReadSeeker) (*Tree, error) {
	s := tarScan{tree: &Tree{Source: name}, byPath: map[string]*Entry{}}
	members := &memberReader{r: r}
	for archive := tar.NewReader(members); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		members.header = -1
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = s.add(h, members.header)
		}
		if err != nil {
			return nil, fmt.Errorf("at byte %d: %w", max(members.header, 0), err)
		}
	}
	if len(s.tree.Entries) == 0 {
		return nil, errors.New("the archive is empty")
	}
	if err := s.link(); err != nil {
		return nil, err
	}
	s.imply()
	s.tree.finish()
	return s.tree, nil
}

// memberReader notes where the header of a member starts. It relies on tar.Reader passing over content and padding before it
// reads a header, which is the first whole block that it asks for; open checks that this was right. The content is sought
// past, so that neither it nor a hole of any size takes time.
type memberReader struct {
	r      io.ReadSeeker
	at     int64
	header int64 // -1 until the first block is read
}

func (m *memberReader) Read(b []byte) (int, error) {
	if len(b) == tarBlock && m.header < 0 {
		m.header = m.at
	}
	n, err := m.r.Read(b)
	m.at += int64(n)
	return n, err
}

func (m *memberReader) Seek(offset int64, whence int) (int64, error) {
	at, err := m.r.Seek(offset, whence)
	if err == nil {
		m.at = at
	}
	return at, err
}

// tarScan is an archive being read.
type tarScan struct {
	tree   *Tree
	byPath map[string]*Entry
	links  []tarLink
	inodes int
}

// tarLink is a hard link whose target may still come.
type tarLink struct{ path, target string }

// add takes in one member. An error ends the scan: the archive is not to be trusted; what is merely in the way of an image
// becomes a finding.
func (s *tarScan) add(h *tar.Header, offset int64) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		for key := range h.PAXRecords {
			if key != "comment" {
				s.tree.found.add(LossPAX, h.Name, "global record "+key)
			}
		}
		return nil
	}
	name, err := cleanMember(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		target, err := cleanMember(h.Linkname)
		if err != nil {
			return fmt.Errorf("%q is a link to %w", h.Name, err)
		}
		s.links = append(s.links, tarLink{name, target})
		return s.claim(&Entry{Path: name})
	}
	e, err := memberEntry(h, name)
	if err != nil {
		return err
	}
	e.offset, e.member = offset, name
	s.readRecords(e, h)
	if name == "." {
		if !e.isDir() {
			return errors.New("the root is not a directory")
		}
		s.tree.Root = *e
		return nil
	}
	return s.claim(e)
}

// claim enters a path, which may be there once. Of a directory, the last entry counts, as with tar.
func (s *tarScan) claim(e *Entry) error {
	if old := s.byPath[e.Path]; old != nil {
		if !old.isDir() || !e.isDir() {
			return fmt.Errorf("%q is there twice; unpack the archive, and build from the directory", e.Path)
		}
		*old = *e
		return nil
	}
	if len(s.tree.Entries) == maxTarEntries {
		return fmt.Errorf("more than %d members", maxTarEntries)
	}
	s.byPath[e.Path] = e
	s.tree.Entries = append(s.tree.Entries, e)
	return nil
}

// cleanMember returns a member's name as a path below the root.
func cleanMember(name string) (string, error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return "", fmt.Errorf("%q, which leads out of the archive", name)
	}
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	if clean == "" {
		clean = "."
	}
	if len(clean) >= unix.PathMax {
		return "", fmt.Errorf("a path of %d bytes, more than the kernel takes (%d): %.80q…", len(clean), unix.PathMax-1, clean)
	}
	return clean, nil
}

func memberEntry(h *tar.Header, name string) (*Entry, error) {
	kinds := map[byte]uint32{tar.TypeReg: unix.S_IFREG, tar.TypeCont: unix.S_IFREG, tar.TypeGNUSparse: unix.S_IFREG,
		tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}
	kind, ok := kinds[h.Typeflag]
	if !ok {
		return nil, fmt.Errorf("%q is a member of unknown type %q", h.Name, h.Typeflag)
	}
	const most = math.MaxUint32 - 1 // the last ID means "no change" to chown(2)
	if h.Uid < 0 || h.Uid > most || h.Gid < 0 || h.Gid > most {
		return nil, fmt.Errorf("%q has the owner %d:%d, which is out of bounds", h.Name, h.Uid, h.Gid)
	}
	if h.Size > maxFile {
		return nil, fmt.Errorf("%q has %d bytes, more than %d", h.Name, h.Size, int64(maxFile))
	}
	if h.Devmajor < 0 || h.Devmajor > math.MaxUint32 || h.Devminor < 0 || h.Devminor > math.MaxUint32 {
		return nil, fmt.Errorf("%q has the device number %d:%d, which is out of bounds", h.Name, h.Devmajor, h.Devminor)
	}
	e := &Entry{Path: name, Mode: kind | uint32(h.Mode&0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid), Mtime: h.ModTime}
	switch kind {
	case unix.S_IFREG:
		e.Size = h.Size
	case unix.S_IFLNK:
		e.Target = h.Linkname
		e.Mode = unix.S_IFLNK | 0o777 // Linux knows no other
		if e.Target == "" {
			return nil, fmt.Errorf("%q is a symbolic link to nothing", h.Name)
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	}
	return e, nil
}

// link gives each hard link the metadata of the file that it leads to. A link may lead to another link.
func (s *tarScan) link() error {
	targets := map[string]string{}
	for _, l := range s.links {
		targets[l.path] = l.target
	}
	for _, l := range s.links {
		at, hops := l.target, 0
		for targets[at] != "" && hops <= len(s.links) {
			at = targets[at]
			hops++
		}
		file := s.byPath[at]
		if file == nil || targets[at] != "" || file.isDir() {
			return fmt.Errorf("%q is a hard link to %q, which is not a file in the archive; make it from the whole tree", l.path, l.target)
		}
		if file.inode == 0 {
			s.inodes++
			file.inode = s.inodes
		}
		e := s.byPath[l.path]
		*e = *file
		e.Path = l.path
	}
	return nil
}

// imply makes the directories that the archive has no entries for.
func (s *tarScan) imply() {
	t := s.tree
	if t.Root.Mode == 0 {
		t.Root = Entry{Path: ".", Mode: unix.S_IFDIR | 0o755, Mtime: time.Unix(0, 0)}
		t.found.add(LossDirectories, ".", "")
	}
	for _, e := range slices.Clone(t.Entries) {
		for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
			parent := s.byPath[dir]
			if parent == nil {
				parent = &Entry{Path: dir, Mode: unix.S_IFDIR | 0o755, Mtime: time.Unix(0, 0)}
				s.byPath[dir] = parent
				t.Entries = append(t.Entries, parent)
				t.found.add(LossDirectories, dir, "")
			}
			if !parent.isDir() {
				t.found.refuse(e.Path, dir+" is not a directory", "make the archive from a real tree")
				break
			}
		}
	}
}

// open reads the member again from its header on: a member with holes has no place of its own for its content.
func (t tarSource) open(e *Entry) (io.ReadCloser, error) {
	section := io.NewSectionReader(t.f, e.offset, math.MaxInt64-e.offset)
	archive := tar.NewReader(section)
	h, err := archive.Next()
	if err != nil {
		return nil, fmt.Errorf("%s: member %q: %w", t.f.Name(), e.Path, err)
	}
	if name, err := cleanMember(h.Name); err != nil || name != e.member || h.Size != e.Size {
		return nil, fmt.Errorf("%s changed while the image was built: no member %q of %d bytes is at byte %d", t.f.Name(), e.member, e.Size, e.offset)
	}
	return io.NopCloser(archive), nil
}

func (t tarSource) Close() error { return t.f.Close() }
