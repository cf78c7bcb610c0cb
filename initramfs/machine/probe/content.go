package probe

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Content is what a block device holds. The zero Content is a device on which nothing known was found.
type Content struct {
	// Type is what blkid calls TYPE. On a device that holds no file system but a partition table it is "gpt" or "dos".
	Type string
	// Label is the volume's name without the white space behind it, in the bytes that are on the device.
	Label string
	// UUID is spelled as blkid does: lower case with four dashes, or as each format has it (FAT: 1234-ABCD).
	UUID string
}

// headSize reaches from the start of a device to the end of the btrfs superblock, which is the last one looked at.
const headSize = btrfsOffset + 4<<10

// format is a content that is told by its first bytes.
type format struct {
	detect func(head []byte) (Content, bool)
	// wraps marks a container: what seems to lie under it is part of it, or a remainder, and is not looked for.
	wraps bool
}

// formats lists what is known, in the order of the search. head is always headSize long.
var formats = []format{
	{detectMDRaid, true},
	{detectLVM, true},
	{detectLUKS, true},
	{detectFAT, false},
	{detectSwap, false},
	{detectXFS, false},
	{detectExt, false},
	{detectISO9660, false},
	{detectSquashFS, false},
	{detectBtrfs, false},
	{detectNTFS, false},
	{detectExFAT, false},
	{detectEROFS, false},
}

// ErrAmbiguous means that a device bears the marks of two formats, and that trusting either would be a guess.
var ErrAmbiguous = errors.New("ambiguous content")

// Sniff tells what the size bytes of r hold. A device shorter than a format needs holds something else; the error is about
// reading, or wraps ErrAmbiguous and names the types.
//
// It reads the first 68 KiB at once, and of a FAT file system the root directory, at most a few MiB.
func Sniff(r io.ReaderAt, size int64) (Content, error) {
	head, err := readHead(r, size)
	if err != nil {
		return Content{}, err
	}
	var found []Content
	for _, f := range formats {
		c, ok := f.detect(head)
		if !ok {
			continue
		}
		found = append(found, c)
		if f.wraps {
			break
		}
	}
	switch {
	case len(found) == 0:
		return Content{Type: tableType(head)}, nil
	case len(found) > 1:
		names := make([]string, len(found))
		for i, c := range found {
			names[i] = c.Type
		}
		return Content{}, fmt.Errorf("%w: it bears the marks of %s; if one of them is a remainder, remove it with wipefs",
			ErrAmbiguous, strings.Join(names, " and "))
	}
	if found[0].Type == typeFAT {
		found[0].Label, err = fatLabel(r, size, head)
	}
	return found[0], err
}

// readHead returns the first headSize bytes. What lies behind the end of a short device reads as zeros.
func readHead(r io.ReaderAt, size int64) ([]byte, error) {
	head := make([]byte, headSize)
	if err := readAt(r, head[:max(0, min(headSize, size))], 0); err != nil {
		return nil, err
	}
	return head, nil
}

// readAt fills p or fails.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if n, err := r.ReadAt(p, off); n < len(p) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %d bytes at %d: %w", len(p), off, err)
	}
	return nil
}

// text returns a label: it ends at the first NUL, and white space at its end is padding.
func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return strings.TrimRight(s, " \t\n\v\f\r")
}

// uuid spells 16 bytes as a UUID; all zeros mean that there is none.
func uuid(b []byte) string {
	if zero(b[:16]) {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func powerOfTwo(n uint32) bool { return n != 0 && n&(n-1) == 0 }
