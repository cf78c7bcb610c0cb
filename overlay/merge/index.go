package merge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// Entry is a path of an indexed tree: everything by which two versions of it are told apart. Times are no part of it.
type Entry struct {
	Path         string // slash-separated, relative; "." is the tree itself
	Mode         uint32 // type and permissions as in stat(2)
	UID, GID     uint32
	Size         int64  // of a regular file
	Major, Minor uint32 // of a device
	Target       string // of a symbolic link
	SHA256       [32]byte
	Xattrs       [32]byte // XattrDigest
}

func (e *Entry) kind() uint32 { return e.Mode & unix.S_IFMT }

// ErrIndex means that an index is not what Builder writes. Without an index a merge is still possible, of two sides only.
var ErrIndex = errors.New("index of the old base is damaged")

// The form of an index: a first line, a line for each path in the order of comparePaths, and a last line with their number.
const (
	firstLine = "veneer index 1\n"
	lastLine  = "end "
	maxLine   = 40 << 10 // two paths of 4096 bytes, each byte as \xNN, and what else is in a line
	maxPath   = 4095
)

// letters are the types of entries in an index, by S_IFMT>>12.
const letters = ".pc.d.b.f.l.s..."

// XattrDigest stands for the attributes of an entry, sorted by name. Marks of overlayfs and our own do not count.
func XattrDigest(list []entry.Xattr) (digest [32]byte) {
	h := sha256.New()
	any := false
	for _, x := range list {
		if strings.HasPrefix(x.Name, "trusted.overlay.") || x.Name == sideAttr {
			continue
		}
		any = true
		h.Write([]byte(strconv.Itoa(len(x.Name)) + " " + x.Name + " " + strconv.Itoa(len(x.Value)) + " "))
		h.Write(x.Value)
	}
	if any {
		h.Sum(digest[:0])
	}
	return digest
}

// appendLine writes e as a line: path, type, mode, uid, gid, what is in it, attributes.
func appendLine(b []byte, e *Entry) []byte {
	b = append(b, entry.Quote(e.Path)...)
	b = append(b, ' ', letters[e.kind()>>12], ' ')
	b = append(b, fmt.Sprintf("%04o", e.Mode&0o7777)...)
	for _, n := range []uint32{e.UID, e.GID} {
		b = strconv.AppendUint(append(b, ' '), uint64(n), 10)
	}
	b = append(b, ' ')
	switch e.kind() {
	case unix.S_IFREG:
		b = strconv.AppendInt(b, e.Size, 10)
		b = hex.AppendEncode(append(b, ':'), e.SHA256[:])
	case unix.S_IFLNK:
		b = append(append(b, '>'), entry.Quote(e.Target)...)
	case unix.S_IFCHR, unix.S_IFBLK:
		b = strconv.AppendUint(b, uint64(e.Major), 10)
		b = strconv.AppendUint(append(b, ':'), uint64(e.Minor), 10)
	default:
		b = append(b, '-')
	}
	b = append(b, ' ')
	if e.Xattrs == [32]byte{} {
		b = append(b, '-')
	} else {
		b = hex.AppendEncode(b, e.Xattrs[:])
	}
	return append(b, '\n')
}

// parseLine reads what appendLine wrote, and nothing else.
func parseLine(line []byte) (e Entry, err error) {
	f := strings.Split(strings.TrimSuffix(string(line), "\n"), " ")
	if len(f) != 7 || len(f[1]) != 1 {
		return e, fmt.Errorf("%w: %.80q", ErrIndex, line)
	}
	ok := false
	e.Path, ok = entry.Unquote(f[0])
	kind := strings.IndexByte(letters, f[1][0])
	mode, err1 := strconv.ParseUint(f[2], 8, 12)
	uid, err2 := strconv.ParseUint(f[3], 10, 32)
	gid, err3 := strconv.ParseUint(f[4], 10, 32)
	e.Mode, e.UID, e.GID = uint32(max(kind, 0))<<12|uint32(mode), uint32(uid), uint32(gid)
	first, second, _ := strings.Cut(f[5], ":")
	var err4, err5 error
	switch e.kind() {
	case unix.S_IFREG:
		e.Size, err4 = strconv.ParseInt(first, 10, 64)
		err5 = parseDigest(&e.SHA256, second)
	case unix.S_IFLNK:
		var good bool
		e.Target, good = entry.Unquote(strings.TrimPrefix(f[5], ">"))
		ok = ok && good
	case unix.S_IFCHR, unix.S_IFBLK:
		var major, minor uint64
		major, err4 = strconv.ParseUint(first, 10, 32)
		minor, err5 = strconv.ParseUint(second, 10, 32)
		e.Major, e.Minor = uint32(major), uint32(minor)
	}
	if f[6] != "-" && err == nil {
		err = parseDigest(&e.Xattrs, f[6])
	}
	// What is left to check is whatever has more than one form.
	if errors.Join(err, err1, err2, err3, err4, err5) != nil || !ok || checkEntry(&e) != nil || !bytes.Equal(appendLine(nil, &e), line) {
		return Entry{}, fmt.Errorf("%w: %.80q", ErrIndex, line)
	}
	return e, nil
}

func parseDigest(to *[32]byte, text string) error {
	if len(text) != 64 {
		return ErrIndex
	}
	_, err := hex.Decode(to[:], []byte(text))
	return err
}

// checkEntry refuses what cannot stand in an index.
func checkEntry(e *Entry) error {
	switch {
	case e.Path == "" || len(e.Path) > maxPath || path.Clean(e.Path) != e.Path || path.IsAbs(e.Path) || e.Path == ".." || strings.HasPrefix(e.Path, "../"):
		return fmt.Errorf("%q is no relative path", e.Path)
	case strings.IndexByte(e.Path, 0) >= 0 || strings.IndexByte(e.Target, 0) >= 0 || len(e.Target) > maxPath+1:
		return fmt.Errorf("%q: no file system takes this", e.Path)
	case letters[e.kind()>>12&15] == '.':
		return fmt.Errorf("%q: unknown type %#o", e.Path, e.Mode)
	case e.Size < 0:
		return fmt.Errorf("%q: size %d", e.Path, e.Size)
	}
	return nil
}

// comparePaths sorts as a walk does that visits each directory in the order of its names, and the tree itself first.
func comparePaths(a, b string) int {
	if a == "." || b == "." {
		return btoi(b == ".") - btoi(a == ".")
	}
	n := min(len(a), len(b))
	for i := range n {
		if a[i] == b[i] {
			continue
		}
		if a[i] == '/' || b[i] == '/' {
			return btoi(b[i] == '/') - btoi(a[i] == '/')
		}
		return int(a[i]) - int(b[i])
	}
	return len(a) - len(b)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
