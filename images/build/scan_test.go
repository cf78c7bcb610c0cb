package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// member is a member of an archive, with its content.
type member struct {
	tar.Header
	content string
}

func archiveOf(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Size = int64(len(m.content))
		if m.Mode == 0 {
			m.Mode = 0o755
		}
		if m.ModTime.IsZero() {
			m.ModTime = time.Unix(1700000000, 0)
		}
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func dirMember(name string) member {
	return member{Header: tar.Header{Name: name, Typeflag: tar.TypeDir}}
}

func fileMember(name, content string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeReg}, content}
}

func TestAnArchiveIsReadWhateverItsCompression(t *testing.T) {
	plain := archiveOf(t, dirMember("./"), fileMember("./file", "content"))
	pack := func(open func(io.Writer) (io.WriteCloser, error)) []byte {
		t.Helper()
		var b bytes.Buffer
		w, err := open(&b)
		if err == nil {
			_, err = w.Write(plain)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, packed := range map[string][]byte{
		"none": plain,
		"gzip": pack(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }),
		"zstd": pack(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
		"xz":   pack(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "misnamed")
			write(t, path, string(packed))
			scratch := filepath.Join(dir, "scratch")
			if err := os.Mkdir(scratch, 0o700); err != nil {
				t.Fatal(err)
			}
			tree, err := scanTar(context.Background(), path, scratch)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			f, err := tree.content.open(tree.lookup("file"))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(f); string(got) != "content" || err != nil {
				t.Errorf("content = %q, %v", got, err)
			}
			if left, err := os.ReadDir(scratch); len(left) > 0 || err != nil {
				t.Errorf("left in the scratch directory: %v, %v", left, err)
			}
		})
	}
}

func TestABadArchiveIsRefusedWithTheReason(t *testing.T) {
	link := func(name, target string) member {
		return member{Header: tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeLink}}
	}
	good := archiveOf(t, fileMember("a", strings.Repeat("x", 2000)))
	for _, tt := range []struct {
		name    string
		archive []byte
		want    string
	}{
		{"nothing", nil, "the archive is empty"},
		{"no archive", bytes.Repeat([]byte("text"), 1000), "at byte 0: archive/tar: invalid tar header"},
		{"a torn archive", good[:1024], "unexpected EOF"},
		{"a name that leads out", archiveOf(t, fileMember("a/../../b", "")), "which leads out of the archive"},
		{"a file twice", archiveOf(t, fileMember("a", "1"), fileMember("./a", "2")), `"a" is there twice`},
		{"a link to nothing", archiveOf(t, link("a", "b")), `"a" is a hard link to "b", which is not a file in the archive`},
		{"links in a circle", archiveOf(t, link("a", "b"), link("b", "a")), "which is not a file in the archive"},
		{"a link to a directory", archiveOf(t, dirMember("d"), link("a", "d")), "which is not a file in the archive"},
		{"an owner that does not exist", archiveOf(t, member{tar.Header{Name: "a", Typeflag: tar.TypeReg, Uid: 1 << 32}, ""}), "out of bounds"},
		{"a symbolic link to nothing", archiveOf(t, member{Header: tar.Header{Name: "a", Typeflag: tar.TypeSymlink}}), "a symbolic link to nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := indexTar(context.Background(), "x.tar", bytes.NewReader(tt.archive))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("indexTar() = %v, want …%s…", err, tt.want)
			}
		})
	}
}

func TestWhatAnImageCannotKeepIsReportedTogether(t *testing.T) {
	members := []member{
		{tar.Header{Name: "acl", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.system.posix_acl_access": "x"}}, ""},
		{tar.Header{Name: "flags", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.fflags": "nodump"}}, ""},
		{tar.Header{Name: "old", Typeflag: tar.TypeReg, Format: tar.FormatPAX, ModTime: time.Unix(-5, 0)}, ""},
		{tar.Header{Name: "opaque", Typeflag: tar.TypeDir, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}}, ""},
		{tar.Header{Name: "other", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.btrfs.compression": "x"}}, ""},
		{tar.Header{Name: "some/.wh.file", Typeflag: tar.TypeReg}, ""},
		{tar.Header{Name: "whiteout", Typeflag: tar.TypeChar}, ""},
		{tar.Header{Name: strings.Repeat("n", 256), Typeflag: tar.TypeReg}, ""},
	}
	for i := range 20 {
		members = append(members, member{tar.Header{Name: "many" + string(rune('a'+i)), Typeflag: tar.TypeReg,
			PAXRecords: map[string]string{"LIBARCHIVE.xattr.security%2Eok": "eA==", "SCHILY.acl.access": "u::rw"}}, ""})
	}
	tree, err := indexTar(context.Background(), "x.tar", bytes.NewReader(archiveOf(t, members...)))
	if err != nil {
		t.Fatal(err)
	}
	tree.examine(squashfsLimits)
	_, err = tree.found.judge("x.tar", usualLosses())
	if err == nil {
		t.Fatal("judge() = nil")
	}
	golden(t, "losses.txt", err.Error()+"\n")
	all := []Loss{LossACL, LossXattrs, LossTimes, LossOverlay, LossPAX, LossDirectories, LossRootTime}
	if _, err := tree.found.judge("x.tar", all); err == nil || strings.Count(err.Error(), "->") != 1 || !strings.Contains(err.Error(), "rename it") {
		t.Errorf("with all losses allowed judge() = %v, want the long name alone", err)
	}
}

func TestContentIsOrderedByPackage(t *testing.T) {
	const lists = "var/lib/dpkg/info/"
	members := []member{
		{Header: tar.Header{Name: "lib", Linkname: "usr/lib", Typeflag: tar.TypeSymlink}},
		fileMember("etc/conffile", "1"), fileMember("home/unowned", "2"), fileMember("usr/lib/z-of-a", "3"), fileMember("usr/bin/a-of-b", "4"),
		fileMember("usr/bin/b-of-a", "5"), fileMember("usr/bin/of-both", "6"), fileMember(lists+"b.list", "/.\n/usr/bin/a-of-b\n/usr/bin/of-both\n"),
		fileMember(lists+"a:amd64.list", "/.\n/lib/z-of-a\n/usr/bin/b-of-a\n/usr/bin/of-both\n/etc/conffile\n"), fileMember(lists+"a.md5sums", "x"),
		{Header: tar.Header{Name: "a-link", Linkname: "usr/bin/a-of-b", Typeflag: tar.TypeLink}},
		fileMember("lib/apk/db/other", "x"),
	}
	name := filepath.Join(t.TempDir(), "x.tar")
	write(t, name, string(archiveOf(t, members...)))
	tree, err := scanTar(context.Background(), name, "")
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	order, links, err := tree.contentOrder()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range order {
		got = append(got, e.Path)
	}
	want := []string{"usr/bin/b-of-a", "usr/bin/of-both", "usr/lib/z-of-a", "usr/bin/a-of-b", "home/unowned", "lib/apk/db/other",
		lists + "a.md5sums", lists + "a:amd64.list", lists + "b.list", "etc/conffile"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("contentOrder() (-want +got):\n%s", diff)
	}
	if first := links[tree.lookup("a-link")]; first == nil || first.Path != "usr/bin/a-of-b" {
		t.Errorf("a-link leads to %v, want the name that a package owns", first)
	}
}

func TestApkKnowsTheOwnersOfItsFiles(t *testing.T) {
	got := map[string]string{}
	err := readApkInstalled(strings.NewReader("C:Q1\nP:musl\nV:1\nF:lib\nR:ld.so\nZ:Q1\n\nP:busybox\nF:bin\nR:busybox\nF:\nR:top\n"), func(p, pkg string) { got[p] = pkg })
	if diff := cmp.Diff(map[string]string{"lib/ld.so": "musl", "bin/busybox": "busybox", "top": "busybox"}, got); diff != "" || err != nil {
		t.Errorf("owners (-want +got), %v:\n%s", err, diff)
	}
}

func FuzzIndexTar(f *testing.F) {
	f.Add(archiveOf(f, dirMember("d"), fileMember("d/file", "content"), member{Header: tar.Header{Name: "l", Linkname: "d/file", Typeflag: tar.TypeLink}}))
	f.Add(archiveOf(f, member{tar.Header{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b\x00c"}}, "x"}))
	f.Fuzz(func(t *testing.T, archive []byte) {
		tree, err := indexTar(context.Background(), "x.tar", bytes.NewReader(archive))
		if err != nil {
			return
		}
		name := filepath.Join(t.TempDir(), "x.tar")
		write(t, name, string(archive))
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		tree.content = tarSource{file}
		defer tree.Close()
		tree.examine(squashfsLimits)
		if _, err := tree.found.judge("x.tar", usualLosses()); err != nil || tree.Bytes > 1<<20 {
			return
		}
		// What is written for mksquashfs has to be an archive of the same files.
		var out bytes.Buffer
		s := tarStream{w: &out, epoch: time.Unix(maxSeconds, 0), done: func(int64) {}}
		if err := s.writeTree(context.Background(), tree); err != nil {
			return
		}
		again, err := indexTar(context.Background(), "x.tar", bytes.NewReader(out.Bytes()))
		if err != nil {
			t.Fatalf("the stream is no archive: %v", err)
		}
		if len(again.Entries) != len(tree.Entries) || again.Bytes != tree.Bytes {
			t.Errorf("the stream has %d files and %d bytes, want %d and %d", len(again.Entries), again.Bytes, len(tree.Entries), tree.Bytes)
		}
		for i, e := range again.Entries {
			w := tree.Entries[i]
			if e.Path != w.Path || e.Mode != w.Mode || e.UID != w.UID || e.GID != w.GID || e.Target != w.Target || !cmp.Equal(e.Xattrs, w.Xattrs) {
				t.Errorf("the stream has %+v, want %+v", e, w)
			}
		}
	})
}
