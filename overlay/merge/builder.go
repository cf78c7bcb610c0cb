package merge

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Builder collects a tree and writes its index. Entries come in any order within a layer; layers, bottom first: what is added
// later replaces what lay at its path, a file or a whiteout all that lay below it.
type Builder struct{ entries map[string]Entry }

// Add takes an entry of the tree, with the path relative to the directory that is indexed.
func (b *Builder) Add(e Entry) error {
	if err := checkEntry(&e); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	if e.kind() != unix.S_IFREG {
		e.Size, e.SHA256 = 0, [32]byte{}
	}
	if b.entries == nil {
		b.entries = map[string]Entry{}
	}
	if old, ok := b.entries[e.Path]; ok && old.kind() == unix.S_IFDIR && e.kind() != unix.S_IFDIR {
		b.Remove(e.Path)
	}
	if e.kind() == unix.S_IFCHR && e.Major == 0 && e.Minor == 0 {
		b.Remove(e.Path)
		return nil
	}
	b.entries[e.Path] = e
	return nil
}

// Remove drops a path and all below it, as a whiteout of a layer does.
func (b *Builder) Remove(path string) {
	for p := range b.entries {
		if p == path || path == "." || strings.HasPrefix(p, path+"/") {
			delete(b.entries, p)
		}
	}
}

// Len is the number of paths.
func (b *Builder) Len() int { return len(b.entries) }

// Write writes the index: the same bytes for the same tree.
func (b *Builder) Write(w io.Writer) error {
	paths := make([]string, 0, len(b.entries))
	for p := range b.entries {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, comparePaths)
	out := bufio.NewWriter(w)
	out.WriteString(firstLine)
	var line []byte
	for _, p := range paths {
		e := b.entries[p]
		line = appendLine(line[:0], &e)
		out.Write(line)
	}
	fmt.Fprintf(out, "%s%d\n", lastLine, len(paths))
	return out.Flush()
}
