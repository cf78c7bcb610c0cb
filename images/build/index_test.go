package build

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/overlay/merge"
)

func TestTheIndexIsThatOfTheStackedImages(t *testing.T) {
	base := treeOf(map[string]string{"etc/a": "old", "etc/gone": "x", "etc/sub/x": "x", "etc/opaque/hidden": "x", "usr/x": "x", "etcetera/y": "y"})
	layer := treeOf(map[string]string{"etc/a": "new", "etc/gone": "", "etc/opaque/shown": "s", "etc/link": "-> a"})
	for _, e := range layer.Entries {
		switch e.Path {
		case "etc/gone":
			e.Mode, e.data = unix.S_IFCHR, nil
		case "etc/opaque":
			e.Xattrs = []Xattr{{"trusted.overlay.opaque", []byte("y")}}
		}
	}
	b := &builder{jobs: []*imageJob{{role: images.RoleBase, tree: base}, {role: images.RoleLayer, tree: layer}}}
	text, err := b.index("etc")
	if err != nil {
		t.Fatal(err)
	}
	ix, err := merge.NewIndex(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	if err := ix.Each(func(e merge.Entry) error { paths = append(paths, e.Path); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []string{".", "a", "link", "opaque", "opaque/shown", "sub", "sub/x"}
	if len(paths) != len(want) {
		t.Fatalf("the index holds %q, want %q", paths, want)
	}
	for i := range want {
		if paths[i] != want[i] {
			t.Errorf("the index holds %q, want %q", paths, want)
		}
	}
	if e, ok, err := ix.Lookup("a"); !ok || err != nil || e.SHA256 != sha256.Sum256([]byte("new")) || e.Size != 3 {
		t.Errorf("Lookup(a) = %+v, %v, %v", e, ok, err)
	}
	if text, err := b.index("srv"); err != nil || text != nil {
		t.Errorf("the index of what is not there is %q, %v", text, err)
	}
}
