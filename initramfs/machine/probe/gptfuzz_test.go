package probe

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzGPT(f *testing.F) {
	for _, name := range []string{"table-gpt", "table-gpt-first-damaged"} {
		s, _ := read(f, "testdata/"+name+".txt")
		head, tail := make([]byte, 40*512), make([]byte, 33*512)
		if err := errors.Join(readAt(s, head, 0), readAt(s, tail, s.size-int64(len(tail)))); err != nil {
			f.Fatal(err)
		}
		f.Add(head, tail)
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		const size = 4 * mib
		disk := &pieces{size: size}
		disk.put(head, 0)
		disk.put(tail[:min(len(tail), size)], size-int64(min(len(tail), size)))
		g, err := ReadGPT(disk, size, 512)
		if err != nil {
			return
		}
		before, _ := Partitions(disk, size, 512)
		p, err := g.Add("fuzz", linuxType, [16]byte{1}, 0, 0)
		if err != nil {
			p = Partition{}
		}
		for _, w := range g.Writes() {
			if w.Offset < 0 || w.Offset+int64(len(w.Data)) > size {
				t.Fatalf("a write of %d bytes at %d", len(w.Data), w.Offset)
			}
			for _, b := range append(before[:len(before):len(before)], p) {
				if b.Size > 0 && w.Offset < b.Start+b.Size && b.Start < w.Offset+int64(len(w.Data)) {
					t.Fatalf("a write of %d bytes at %d into partition %+v", len(w.Data), w.Offset, b)
				}
			}
			disk.put(w.Data, w.Offset)
		}
		after, err := Partitions(disk, size, 512)
		if err != nil {
			t.Fatal(err)
		}
		if p.Size > 0 {
			after = slices.DeleteFunc(after, func(a Partition) bool { return a == p })
		}
		if diff := cmp.Diff(before, after); diff != "" && len(before)+len(after) > 0 {
			t.Errorf("other partitions changed (-before +after):\n%s", diff)
		}
	})
}

// pieces is a disk of which only a few places are not zeros.
type pieces struct {
	size    int64
	written []Write
}

func (p *pieces) put(b []byte, at int64) { p.written = append(p.written, Write{at, b}) }

func (p *pieces) ReadAt(b []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(b)), p.size-off)))
	clear(b[:n])
	for _, w := range p.written {
		if from := w.Offset - off; from >= 0 && from < int64(n) {
			copy(b[from:n], w.Data)
		} else if from < 0 && -from < int64(len(w.Data)) {
			copy(b[:n], w.Data[-from:])
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func FuzzState(f *testing.F) {
	for _, file := range samples(f, "good-") {
		s, _ := read(f, file)
		head := make([]byte, headSize)
		if err := readAt(s, head[:min(headSize, s.size)], 0); err != nil {
			f.Fatal(err)
		}
		f.Add(head)
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		for _, kind := range []string{"ext4", "xfs", "btrfs", "vfat", "exfat", "none"} {
			s, err := ReadState(bytes.NewReader(head), int64(len(head)), kind)
			if err != nil || s.Size < 0 || s.Used < 0 || s.Used > 100 {
				t.Errorf("ReadState(%s) = %+v, %v", kind, s, err)
			}
		}
	})
}

func TestStatesAreThoseOfTheSamples(t *testing.T) {
	for name, want := range map[string]State{
		"ext4": {Size: 8 * mib, Used: 19}, "xfs": {Size: 300 * mib}, "btrfs": {Size: 128 * mib}, "fat32": {}, "ext2": {Size: 8 * mib, Used: 6},
		"ext4-large-blocks": {Size: 64 * mib, Used: 1},
	} {
		s, _ := read(t, "testdata/good-"+name+".txt")
		kind, _, _ := strings.Cut(strings.Replace(name, "fat32", "vfat", 1), "-")
		if kind == "ext2" {
			kind = "ext4"
		}
		got, err := ReadState(s, s.size, kind)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: ReadState() (-want +got): %v\n%s", name, err, diff)
		}
	}
}
