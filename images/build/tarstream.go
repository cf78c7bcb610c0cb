package build

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const tarBlock = 512

// tarStream writes a tree as the tar archive that mksquashfs reads from its standard input. It is plain ustar with GNU's records
// for long names and PAX records for extended attributes only, because mksquashfs 4.5.1
//
//   - takes leading slashes and dots off the target of a symbolic link that stands in a PAX record;
//   - refuses a PAX time without a fraction;
//   - looks owners up by name on the build host before it looks at their numbers, so that no names are written;
//   - may read past the end of PAX records that fill their last block.
type tarStream struct {
	w     io.Writer
	buf   []byte
	epoch time.Time     // later times are set to it
	done  func(n int64) // content written
}

// writeTree writes directories first, then links, devices and fifos, then content in its order, hard links last: mksquashfs
// stores content in the order of the stream and everything else by name.
func (s *tarStream) writeTree(ctx context.Context, t *Tree) error {
	files, links, err := t.contentOrder()
	if err != nil {
		return err
	}
	s.buf = make([]byte, 256<<10)
	for _, pass := range []func(e *Entry) bool{
		func(e *Entry) bool { return e.isDir() },
		func(e *Entry) bool {
			return !e.isDir() && e.kind() != unix.S_IFREG && e.kind() != unix.S_IFSOCK && links[e] == nil
		},
	} {
		for _, e := range t.Entries {
			if !pass(e) {
				continue
			}
			if err := s.writeHeader(e, ""); err != nil {
				return err
			}
		}
	}
	for _, e := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.writeFile(t, e); err != nil {
			return fmt.Errorf("%s: %s: %w", t.Source, quotePath(e.Path), err)
		}
	}
	for _, e := range t.Entries {
		if first := links[e]; first != nil && e.kind() != unix.S_IFSOCK {
			if err := s.writeHeader(e, first.Path); err != nil {
				return err
			}
		}
	}
	return s.write(make([]byte, 2*tarBlock))
}

func (s *tarStream) writeFile(t *Tree, e *Entry) error {
	if err := s.writeHeader(e, ""); err != nil {
		return err
	}
	if e.Size == 0 {
		return nil
	}
	f, err := t.content.open(e)
	if err != nil {
		return err
	}
	defer f.Close()
	for left := e.Size; left > 0; {
		n, err := io.ReadFull(f, s.buf[:min(int64(len(s.buf)), left)])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("became shorter while it was read; build from a tree that nobody writes to")
		}
		if err != nil {
			return err
		}
		if err := s.write(s.buf[:n]); err != nil {
			return err
		}
		s.done(int64(n))
		left -= int64(n)
	}
	return s.write(make([]byte, -e.Size&(tarBlock-1)))
}

// writeHeader writes what comes before the content of e, or of a hard link to the path link.
func (s *tarStream) writeHeader(e *Entry, link string) error {
	kinds := map[uint32]byte{unix.S_IFREG: '0', unix.S_IFLNK: '2', unix.S_IFCHR: '3', unix.S_IFBLK: '4', unix.S_IFDIR: '5', unix.S_IFIFO: '6'}
	kind, size, target := kinds[e.kind()], e.Size, e.Target
	if link != "" {
		kind, size, target = '1', 0, link
	}
	if kind != '0' {
		size = 0
	}
	var out bytes.Buffer
	if records := xattrRecords(e); len(records) > 0 && link == "" {
		writeExtra(&out, 'x', records)
	}
	if len(e.Path) > 100 {
		writeExtra(&out, 'L', append([]byte(e.Path), 0))
	}
	if len(target) > 100 {
		writeExtra(&out, 'K', append([]byte(target), 0))
	}
	h := make([]byte, tarBlock)
	copy(h[0:100], e.Path)
	putNumber(h[100:108], int64(e.Mode&0o7777))
	putNumber(h[108:116], int64(e.UID))
	putNumber(h[116:124], int64(e.GID))
	putNumber(h[124:136], size)
	putNumber(h[136:148], clampTime(e.Mtime, s.epoch))
	h[156] = kind
	copy(h[157:257], target)
	copy(h[257:], "ustar\x0000")
	putNumber(h[329:337], int64(e.Major))
	putNumber(h[337:345], int64(e.Minor))
	seal(h)
	out.Write(h)
	return s.write(out.Bytes())
}

func (s *tarStream) write(b []byte) error {
	_, err := s.w.Write(b)
	return err
}

// clampTime is a time in seconds that squashfs can tell and that is not later than epoch.
func clampTime(t, epoch time.Time) int64 {
	return max(0, min(t.Unix(), epoch.Unix(), maxSeconds))
}

// xattrRecords returns the PAX records of the attributes that squashfs knows.
func xattrRecords(e *Entry) []byte {
	var records []byte
	for _, x := range e.Xattrs {
		if (formatLimits{}).keeps(e, x.Name) {
			records = append(records, paxRecord("SCHILY.xattr."+x.Name, x.Value)...)
		}
	}
	if len(records) > 0 && len(records)%tarBlock == 0 {
		records = append(records, paxRecord("comment", []byte("."))...)
	}
	return records
}

// paxRecord is a line that starts with its own length.
func paxRecord(key string, value []byte) []byte {
	rest := len(key) + len(value) + 3 // space, = and newline
	size := rest + len(strconv.Itoa(rest))
	if n := rest + len(strconv.Itoa(size)); n != size {
		size = n
	}
	b := append([]byte(strconv.Itoa(size)+" "+key+"="), value...)
	return append(b, '\n')
}

// writeExtra writes a member that carries data for the one after it.
func writeExtra(out *bytes.Buffer, kind byte, data []byte) {
	h := make([]byte, tarBlock)
	copy(h, "././@LongLink")
	putNumber(h[100:108], 0)
	putNumber(h[108:116], 0)
	putNumber(h[116:124], 0)
	putNumber(h[124:136], int64(len(data)))
	putNumber(h[136:148], 0)
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	seal(h)
	out.Write(h)
	out.Write(data)
	out.Write(make([]byte, -len(data)&(tarBlock-1)))
}

// putNumber writes octal digits, or GNU's binary form where they do not fit.
func putNumber(field []byte, n int64) {
	digits := strconv.FormatInt(n, 8)
	if len(digits) < len(field) {
		for i := range field[:len(field)-1] {
			field[i] = '0'
		}
		copy(field[len(field)-1-len(digits):], digits)
		return
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	clear(field)
	if len(field) > 8 {
		copy(field[len(field)-8:], b[:])
	} else {
		copy(field, b[:])
	}
	field[0] |= 0x80
}

// seal fills in the checksum.
func seal(h []byte) {
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
}
