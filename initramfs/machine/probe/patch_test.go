package probe

import (
	"bytes"
	"os"
	"testing"
)

// edit changes the beginning of an image, which is as far as any patch reaches.
func edit(t *testing.T, file string, change func(b []byte)) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, mib)
	n, _ := f.ReadAt(b, 0)
	change(b[:n])
	if _, err := f.WriteAt(b[:n], 0); err != nil {
		t.Fatal(err)
	}
}

// replaceAll puts one string in the place of another of the same length.
func replaceAll(from, to string) func(*testing.T, string) {
	return func(t *testing.T, file string) {
		t.Helper()
		edit(t, file, func(b []byte) {
			if !bytes.Contains(b, []byte(from)) {
				t.Fatalf("%q is not in the image", from)
			}
			copy(b, bytes.ReplaceAll(b, []byte(from), []byte(to)))
		})
	}
}

// buryLabel moves the label from the first entry of the root directory to the end of the files that fill its clusters.
func buryLabel(t *testing.T, file string) {
	t.Helper()
	edit(t, file, func(b []byte) {
		f, ok := parseFAT(b)
		if !ok {
			t.Fatal("not FAT")
		}
		n := f.rootCluster
		entry := append([]byte(nil), b[f.data:f.data+dirEntry]...)
		b[f.data] = 0xe5
		for {
			next := int64(le.Uint32(b[f.tables+4*n:]) & 0x0fffffff)
			if next >= f.maxCluster {
				break
			}
			n = next
		}
		if n == f.rootCluster {
			t.Fatal("the root directory has only one cluster")
		}
		last := b[f.data+(n-2)*f.cluster:][:f.cluster]
		for off := 0; off < len(last); off += dirEntry {
			if last[off] == 0 {
				copy(last[off:], entry)
				return
			}
		}
		t.Fatal("no room for the label")
	})
}

// upperPrimary is what tools do that write the primary volume descriptor by the letter of ISO 9660.
func upperPrimary(t *testing.T, file string) {
	t.Helper()
	edit(t, file, func(b []byte) {
		label := b[isoFirst+isoLabelOffset:][:isoLabelLength]
		copy(label, bytes.ToUpper(label))
		copy(label, bytes.ReplaceAll(label, []byte(","), []byte("_")))
	})
}

// erofsLabel gives a label as newer versions of mkfs.erofs do.
func erofsLabel(t *testing.T, file string) {
	t.Helper()
	edit(t, file, func(b []byte) { copy(b[1024+64:1024+80], "labelled erofs") })
}

// graft lays the superblock of one file system over another, as a mkfs does that wipes only what it needs.
func graft(kind string) func(*testing.T, string) {
	return func(t *testing.T, file string) {
		t.Helper()
		donor, _ := read(t, "testdata/good-"+kind+".txt")
		from, to := int64(0), int64(512)
		if kind == "ext4" {
			from, to = 1024, 2048
		}
		edit(t, file, func(b []byte) {
			if _, err := donor.ReadAt(b[from:to], from); err != nil {
				t.Fatal(err)
			}
		})
	}
}
