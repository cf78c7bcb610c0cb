package live

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"veneer/boot"
)

// files makes a medium of these names; what has no content is empty.
func files(names ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for _, n := range names {
		name, content, _ := strings.Cut(n, "|")
		m[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return m
}

func TestImagesAreFoundAsTheirMakersLayThemOut(t *testing.T) {
	dracut, debian, ubuntu, arch := boot.Foreign{Dialect: boot.Dracut, Dir: "LiveOS"}, boot.Foreign{Dialect: boot.LiveBoot, Dir: "live"},
		boot.Foreign{Dialect: boot.Casper, Dir: "casper"}, boot.Foreign{Dialect: boot.Archiso, Dir: "arch"}
	with := func(f boot.Foreign, image, list string) boot.Foreign { f.Image, f.List = image, list; return f }
	cases := []struct {
		name    string
		f       boot.Foreign
		files   fstest.MapFS
		want    []string
		refused string // "" with no images: it is not the medium
	}{
		{"dracut's squashfs", dracut, files("LiveOS/squashfs.img", "LiveOS/rootfs.img"), []string{"LiveOS/squashfs.img"}, ""},
		{"dracut's image of another name", with(dracut, "x.img", ""), files("LiveOS/x.img"), []string{"LiveOS/x.img"}, ""},
		{"dracut's root as it is", dracut, files("LiveOS/rootfs.img"), []string{"LiveOS/rootfs.img"}, ""},
		{"no medium of dracut's", dracut, files("live/filesystem.squashfs"), nil, ""},
		{"a directory is no image", dracut, files("LiveOS/squashfs.img/x"), nil, ""},
		{"live-boot's list", debian, files("live/filesystem.module|b.squashfs\n a.squashfs", "live/a.squashfs", "live/b.squashfs", "live/c.squashfs"),
			[]string{"live/b.squashfs", "live/a.squashfs"}, ""},
		{"live-boot's list of another name", with(debian, "", "x"), files("live/x.module|a.squashfs", "live/a.squashfs", "live/b.squashfs"), []string{"live/a.squashfs"}, ""},
		{"live-boot without a list", debian, files("live/b.squashfs", "live/a.squashfs", "live/vmlinuz"), []string{"live/a.squashfs", "live/b.squashfs"}, ""},
		{"a list that names what is not there", debian, files("live/filesystem.module|a.squashfs ../x b.squashfs", "live/a.squashfs", "x"), nil, `lists "../x", "b.squashfs", not there`},
		{"a list of nothing", debian, files("live/filesystem.module|", "live/a.squashfs"), nil, "lists nothing"},
		{"a list without end", debian, files("live/filesystem.module|" + strings.Repeat("a ", maxList)), nil, "longer than"},
		{"casper's one image", ubuntu, files("casper/filesystem.squashfs", "casper/installer.squashfs"), []string{"casper/filesystem.squashfs"}, ""},
		{"casper's only image", ubuntu, files("casper/x.squashfs"), []string{"casper/x.squashfs"}, ""},
		{"casper's layers, and nothing says which", ubuntu, files("casper/a.squashfs", "casper/a.b.squashfs"), nil, "give layerfs-path="},
		{"casper's chain", with(ubuntu, "a.b.c.squashfs", ""), files("casper/a.squashfs", "casper/a.b.squashfs", "casper/a.b.c.squashfs", "casper/a.d.squashfs"),
			[]string{"casper/a.squashfs", "casper/a.b.squashfs", "casper/a.b.c.squashfs"}, ""},
		{"all that a chain lacks", with(ubuntu, "a.b.c.squashfs", ""), files("casper/a.b.squashfs"), nil, "casper/a.squashfs, casper/a.b.c.squashfs"},
		{"archiso's squashfs", arch, files("arch/x86_64/airootfs.sfs", "arch/x86_64/airootfs.erofs"), []string{"arch/x86_64/airootfs.sfs"}, ""},
		{"archiso's EROFS", arch, files("arch/x86_64/airootfs.erofs"), []string{"arch/x86_64/airootfs.erofs"}, ""},
		{"archiso of another architecture", arch, files("arch/i686/airootfs.sfs"), nil, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := imagesOf(c.files, c.f, "x86_64")
			switch {
			case c.want != nil:
				if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
					t.Errorf("imagesOf() = %v (-want +got):\n%s", err, diff)
				}
			case c.refused == "":
				if !errors.Is(err, errNotTheMedium) {
					t.Errorf("imagesOf() = %q, %v, want that it is not the medium", got, err)
				}
			case err == nil || errors.Is(err, errNotTheMedium) || !strings.Contains(err.Error(), c.refused):
				t.Errorf("imagesOf() = %q, %v, want a refusal with %q", got, err, c.refused)
			}
		})
	}
}

func TestTheIDOfAnImageChangesWithIt(t *testing.T) {
	image := func(change func(b []byte)) fs.FS {
		b := append([]byte("hsqs"), make([]byte, 3*edge)...)
		change(b)
		return fstest.MapFS{"a": {Data: b}, "b": {Data: b}}
	}
	first, err := inspect(image(func([]byte) {}), "a")
	if err != nil || first.fileSystem != "squashfs" || first.size != 3*edge+4 || len(first.id) != 64 {
		t.Fatalf("inspect() = %+v, %v", first, err)
	}
	if again, err := inspect(image(func([]byte) {}), "a"); err != nil || again != first {
		t.Errorf("inspect() = %+v, %v the second time, want %+v", again, err, first)
	}
	for name, at := range map[string]int{"its superblock": 8, "its end": 3 * edge} {
		if other, err := inspect(image(func(b []byte) { b[at]++ }), "a"); err != nil || other.id == first.id {
			t.Errorf("after a change in %s inspect() = %+v, %v, the same ID", name, other, err)
		}
	}
	if other, err := inspect(image(func([]byte) {}), "b"); err != nil || other.id == first.id {
		t.Errorf("under another name inspect() = %+v, %v, the same ID", other, err)
	}
}

func TestAnImageIsToldByItsSuperblock(t *testing.T) {
	at := func(offset int, magic string) []byte {
		b := make([]byte, 2048)
		copy(b[offset:], magic)
		return b
	}
	for name, c := range map[string]struct {
		head []byte
		want string
	}{
		"squashfs": {at(0, "hsqs"), "squashfs"}, "EROFS": {at(1024, "\xe2\xe1\xf5\xe0"), "erofs"}, "ext4": {at(1080, "\x53\xef"), "ext4"},
		"nothing": {at(0, "xfs"), ""}, "a short file": {[]byte("hs"), ""},
	} {
		if got := fileSystemOf(c.head); got != c.want {
			t.Errorf("%s is told as %q, want %q", name, got, c.want)
		}
	}
	for name, content := range map[string]string{"text": "text", "empty": ""} {
		if got, err := inspect(files(name+"|"+content), name); err == nil {
			t.Errorf("inspect(%s) = %+v, want a refusal", name, got)
		}
	}
}
