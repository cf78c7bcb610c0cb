package initramfs

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxModinfo bounds the .modinfo section of a module. The largest of Debian's (amdgpu, with its firmware) is under 100 kB.
const maxModinfo = 4 << 20

// Modinfo is what a module says of itself. Names of modules are written with _ only, as in /proc/modules.
type Modinfo struct {
	Name    string
	Release string   // of the kernel that it was built for, from vermagic; may be empty
	Depends []string // modules whose symbols it uses
	Before  []string // softdep pre: modules or aliases to try before it
	Aliases []string // patterns of devices and names of services
}

// ReadModinfo reads the .modinfo section of a module file (ELF, not compressed). It returns an error, and never more than it
// read, for a file that is cut, is no module, or claims more than a module can need.
func ReadModinfo(r io.ReaderAt) (Modinfo, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return Modinfo{}, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return Modinfo{}, errors.New("no .modinfo section: not a kernel module")
	}
	if s.Size > maxModinfo || s.FileSize > maxModinfo {
		return Modinfo{}, fmt.Errorf(".modinfo section of %d bytes, more than the %d that a module can need", s.Size, maxModinfo)
	}
	text, err := s.Data()
	if err != nil {
		return Modinfo{}, fmt.Errorf(".modinfo section: %w", err)
	}
	return parseModinfo(text), nil
}

// parseModinfo reads key=value strings that end in NUL. Keys that say nothing about loading are passed over.
func parseModinfo(text []byte) Modinfo {
	var m Modinfo
	for _, field := range bytes.Split(text, []byte{0}) {
		key, value, ok := strings.Cut(string(field), "=")
		if !ok {
			continue
		}
		switch key {
		case "name":
			m.Name = canonical(value)
		case "vermagic":
			m.Release, _, _ = strings.Cut(value, " ")
		case "depends":
			for _, dep := range strings.Split(value, ",") {
				if dep = canonical(dep); isWord(dep) {
					m.Depends = append(m.Depends, dep)
				}
			}
		case "softdep":
			m.Before = append(m.Before, softdepPre(value)...)
		case "alias":
			if isWord(value) {
				m.Aliases = append(m.Aliases, value)
			}
		}
	}
	return m
}

// softdepPre returns the names behind "pre:". Those behind "post:" are companions that nothing in an initramfs waits for.
func softdepPre(value string) []string {
	var names []string
	pre := false
	for _, word := range strings.Fields(value) {
		switch {
		case strings.HasSuffix(word, ":"):
			pre = word == "pre:"
		case pre:
			names = append(names, word)
		}
	}
	return names
}

// isWord reports whether s can stand in a line of the index.
func isWord(s string) bool {
	words := strings.Fields(s)
	return len(words) == 1 && words[0] == s
}

// canonical turns the name of a module, or of its file, into the name that the kernel uses.
func canonical(name string) string {
	return strings.ReplaceAll(strings.TrimSpace(name), "-", "_")
}
