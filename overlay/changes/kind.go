package changes

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	overlayentry "veneer/overlay/entry" // entry is what a tree has at a path
)

// Kind is what stands at a path.
type Kind string

// The kinds of stat(2).
const (
	File      Kind = "file"
	Directory Kind = "directory"
	Link      Kind = "link"
	Char      Kind = "char"
	Block     Kind = "block"
	Fifo      Kind = "fifo"
	Socket    Kind = "socket"
)

func (e *entry) kind() Kind { return kindOf(e.st.Mode) }

func kindOf(mode uint32) Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return Directory
	case unix.S_IFLNK:
		return Link
	case unix.S_IFCHR:
		return Char
	case unix.S_IFBLK:
		return Block
	case unix.S_IFIFO:
		return Fifo
	case unix.S_IFSOCK:
		return Socket
	}
	return File
}

// Plain makes a name harmless on a terminal, and unambiguous: one that is not printed as itself is quoted.
func Plain(name string) string { return overlayentry.Plain(name) }

// exact is a name for JSON, which holds no bytes but UTF-8: the text with U+FFFD for what is none, and then the bytes beside it
// in base64.
func exact(name string) (text, bytes string) {
	if utf8.ValidString(name) {
		return name, ""
	}
	return strings.ToValidUTF8(name, "\ufffd"), base64.StdEncoding.EncodeToString([]byte(name))
}
