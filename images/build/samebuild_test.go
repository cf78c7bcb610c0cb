package build

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"veneer/images"
)

func TestTwoBuildsGiveTheSameBytes(t *testing.T) {
	p := newProject(t, "")
	want := files(t, p.build(t, nil))
	if len(want) != 7 {
		t.Fatalf("output has %d files", len(want))
	}
	// The time of day has to move on for what is stamped with it.
	time.Sleep(1100 * time.Millisecond)
	archive := filepath.Join(t.TempDir(), "tree.tar")
	run(t, "tar", "tar", "-C", filepath.Join(p.dir, "tree"), "-cf", archive, ".")
	for name, change := range map[string]func(*testing.T, *Spec){
		"in another time zone, locale and umask": func(t *testing.T, _ *Spec) {
			t.Setenv("TZ", "Pacific/Kiritimati")
			t.Setenv("LC_ALL", "de_DE.UTF-8")
			old := syscall.Umask(0o077)
			t.Cleanup(func() { syscall.Umask(old) })
		},
		"with other settings of mke2fs": func(t *testing.T, _ *Spec) { t.Setenv("MKE2FS_CONFIG", "/nowhere") },
		"with a later SOURCE_DATE_EPOCH": func(t *testing.T, s *Spec) {
			later := time.Now()
			s.Epoch = &later
			t.Setenv("SOURCE_DATE_EPOCH", "1")
		},
		"on one processor": func(t *testing.T, _ *Spec) { onOneProcessor(t) },
		"from an archive":  func(_ *testing.T, s *Spec) { s.Config.Source = archive },
		"from a copy in another order": func(t *testing.T, s *Spec) {
			s.Config.Source = filepath.Join(t.TempDir(), "copy")
			run(t, "coreutils", "cp", "-a", filepath.Join(p.dir, "tree"), s.Config.Source)
			for _, name := range []string{"usr/bin/other", "usr/bin/tool"} {
				path := filepath.Join(s.Config.Source, name)
				content := read(t, path)
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				write(t, path, string(content))
			}
			age(t, s.Config.Source)
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := files(t, p.build(t, func(s *Spec) { change(t, s) }))
			for file := range want {
				if !bytes.Equal(want[file], got[file]) {
					t.Errorf("%s differs", file)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d files, want %d", len(got), len(want))
			}
		})
	}
}

func TestTimesAfterSourceDateEpochAreSetToIt(t *testing.T) {
	p := newProject(t, "")
	epoch := time.Unix(1600000000, 0)
	first := p.build(t, func(s *Spec) { s.Epoch = &epoch })
	now := time.Now()
	if err := os.Chtimes(filepath.Join(p.dir, "tree/etc/hostname"), now, now); err != nil {
		t.Fatal(err)
	}
	second := p.build(t, func(s *Spec) { s.Epoch = &epoch })
	if !bytes.Equal(read(t, filepath.Join(first, images.ManifestName)), read(t, filepath.Join(second, images.ManifestName))) {
		t.Error("a time after SOURCE_DATE_EPOCH changed an image")
	}
}

// onOneProcessor lets this program and those that it starts use one processor.
func onOneProcessor(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // a child has the processors of the thread that starts it
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.SchedSetaffinity(0, &all); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
}
