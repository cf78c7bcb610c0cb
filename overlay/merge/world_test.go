package merge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// world is a directory with two bases and an upper, merged by the kernel.
type world struct {
	t    testing.TB
	root string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	root, err := os.MkdirTemp("", "veneer-merge-") // no colon or comma in the options of the mount
	must(t, err)
	w := &world{t, root}
	for _, d := range []string{"v1", "v2", "fs", "work", "stamp", "merged", "old", "none"} {
		must(t, os.Mkdir(w.path(d), 0o755))
	}
	t.Cleanup(func() {
		unix.Unmount(w.path("merged"), unix.MNT_DETACH)
		exec.Command("chattr", "-R", "-i", "-a", w.path("fs")).Run()
		os.RemoveAll(root)
	})
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.root, name) }

// sh runs a script in a directory of the world.
func (w *world) sh(dir, script string) {
	w.t.Helper()
	if script == "" {
		return
	}
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = w.path(dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("in %s: %s\n%v\n%s", dir, script, err, out)
	}
}

// with mounts the overlay of lowers, bottom first, and runs a script in it.
func (w *world) with(lowers []string, script string) {
	w.t.Helper()
	w.mounted(lowers, func() { w.sh("merged", script) })
}

func (w *world) mounted(lowers []string, do func()) {
	w.t.Helper()
	var top []string
	for _, l := range lowers {
		top = append([]string{w.path(l)}, top...)
	}
	data := "lowerdir=" + strings.Join(top, ":") + ",upperdir=" + w.path("fs") + ",workdir=" + w.path("work") +
		",index=off,nfs_export=off,redirect_dir=off,metacopy=off"
	must(w.t, unix.Mount("overlay", w.path("merged"), "overlay", 0, data))
	defer func() { must(w.t, unix.Unmount(w.path("merged"), 0)) }()
	do()
}

// index returns the index of lowers.
func (w *world) index(lowers ...string) *Index {
	w.t.Helper()
	b, err := Scan(w.paths(lowers)...)
	must(w.t, err)
	var text bytes.Buffer
	must(w.t, b.Write(&text))
	x, err := NewIndex(bytes.NewReader(text.Bytes()), int64(text.Len()))
	must(w.t, err)
	must(w.t, x.Each(func(Entry) error { return nil }))
	return x
}

func (w *world) paths(names []string) (all []string) {
	for _, n := range names {
		all = append(all, w.path(n))
	}
	return all
}

func (w *world) spec(old *Index, lowers ...string) Spec {
	return Spec{Path: "/etc", Upper: w.path("fs"), Scratch: w.path("stamp"), Lowers: w.paths(lowers), From: "v1", To: "v2", Old: old, OldEntries: w.path("old"),
		Entries: []string{"*.lines"}}
}

// dump shows all of a directory, marks of overlayfs too, except times and numbers of directories.
func dump(t testing.TB, path string) string {
	t.Helper()
	fd, err := entry.OpenRoot(path)
	must(t, err)
	defer unix.Close(fd)
	var b strings.Builder
	show := func(dirfd int, name, path string) {
		n, err := look(dirfd, name)
		must(t, err)
		if n.kind == whiteout {
			fmt.Fprintf(&b, "%s whiteout\n", path)
			return
		}
		e, err := n.entryAt(path)
		must(t, err)
		e.Path = path
		fmt.Fprintf(&b, "%s", bytes.TrimSuffix(appendLine(nil, &e), []byte("\n")))
		if n.kind != dir {
			fmt.Fprintf(&b, " %d.%d", n.st.Sec, n.st.Nsec)
		}
		if n.marks.Opaque {
			b.WriteString(" opaque")
		}
		for _, x := range n.attrs {
			if x.Name == sideAttr {
				fmt.Fprintf(&b, " %s", x.Value)
			}
		}
		b.WriteString("\n")
	}
	show(fd, "", ".")
	must(t, entry.Walk(fd, func(dirfd int, name, path string, st entry.Stat) (bool, error) {
		show(dirfd, name, path)
		return true, nil
	}))
	return b.String()
}

func verdicts(r *Report) string {
	var b strings.Builder
	for _, i := range r.Items {
		fmt.Fprintf(&b, "%s %s", entry.Quote(i.Path), i.Verdict)
		if i.Side != "" {
			fmt.Fprintf(&b, " > %s", entry.Quote(i.Side))
		}
		b.WriteString("\n")
	}
	return b.String()
}

var errStop = errors.New("power cut")

// stopped runs a merge that ends before its k-th change, from 1 on, and reports whether it came so far.
func stopped(s Spec, k int) (cut bool, err error) {
	n := 0
	_, err = run(context.Background(), s, func(string) error {
		if n++; n == k {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return true, nil
	}
	return false, err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
