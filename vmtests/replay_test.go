package vmtests

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/overlay"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

// bench is a directory on this host that looks to the keeper as the initramfs does, with the images of a build mounted: the very
// program of the tools layer goes on there with a state, without a machine.
type bench struct {
	t      *testing.T
	root   string // its /
	man    images.Manifest
	serial string
	lowers []string // below root, bottom first
	tools  string
}

// benchOf mounts what a deployment consists of, in a mount namespace of the calling goroutine's own: in another, a process that has
// nothing to do with it would keep a disk mounted.
func benchOf(t *testing.T, out output, serial string) bench {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a replay mounts images: run it as root")
	}
	runtime.LockOSThread() // for good: the thread ends with the test, and the namespace with it
	if err := errors.Join(unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
		t.Fatal(err)
	}
	b := bench{t: t, root: t.TempDir(), man: out.manifest(t), serial: serial}
	var dirs []string
	for i, img := range b.man.Images {
		lower := fmt.Sprintf("/lower/%d", i)
		if img.Role == images.RoleTools {
			b.tools = lower
		}
		b.lowers = append(b.lowers, lower)
		dirs = append([]string{b.root + lower}, dirs...)
		mounted(t, b.root+lower, "-o", "ro,loop", filepath.Join(out.file("images"), img.ID+".img"))
	}
	mounted(t, b.root+"/proc", "-t", "proc", "proc")
	mounted(t, b.root+stage.RootDir, "-t", "overlay", "-o", "ro,lowerdir="+strings.Join(dirs, ":"), "overlay")
	return b
}

// mounted mounts something until the test ends.
func mounted(t *testing.T, dir string, args ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "", "mount", append(args, dir)...)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
	})
}

// stateAt is where a bench has the state, and where on its disk it lies.
const stateAt = "/state/veneer"

// with mounts the image of a state disk, which replays its journal, has fn look at the state, and checks the file system afterwards.
func (b bench) with(img string, fn func(at string) error) error {
	dir := filepath.Join(b.root, path.Dir(stateAt))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("mount", "-o", "loop", img, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("mount: %w: %s", err, out)
	}
	err := os.MkdirAll(b.root+stateAt, 0o755)
	if err == nil {
		err = fn(b.root + stateAt)
	}
	if err := errors.Join(err, unmount(dir)); err != nil {
		return err
	}
	if out, err := exec.Command("e2fsck", "-fn", img).CombinedOutput(); err != nil {
		return fmt.Errorf("e2fsck: %w: %s", err, out)
	}
	return nil
}

// unmount is patient: between its fork and its exec, a program that a parallel case starts has our files open.
func unmount(dir string) error {
	err := unix.EBUSY
	for range 100 {
		if err, _ = unix.Unmount(dir, 0).(unix.Errno); err != unix.EBUSY {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != 0 {
		return &fs.PathError{Op: "unmount", Path: dir, Err: err}
	}
	return nil
}

// goOn does what the steps of a boot do with the state: requests, uppers, data.
func (b bench) goOn() (err error) {
	cmd := exec.Command(b.tools+"/usr/bin/veneer", "keep")
	cmd.Path = b.tools + "/usr/bin/veneer" // within the root
	cmd.SysProcAttr, cmd.Dir, cmd.Env = &syscall.SysProcAttr{Chroot: b.root}, "/", []string{"PATH="}
	to, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	from, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		to.Close()
		err = errors.Join(err, cmd.Wait())
	}()
	call := func(c stage.Call) error {
		c.Dir, c.Owner = stateAt, stage.Owner{Product: b.man.Name, Boot: "5f1c1e3a-0000-4000-8000-000000000001"}
		if err := stage.WriteCall(to, &c); err != nil {
			return err
		}
		a, err := stage.ReadAnswer(from)
		if err == nil {
			err = a.Err()
		}
		for _, r := range a.Requests.Requests {
			if r.Error != "" {
				err = errors.Join(err, fmt.Errorf("%s: %s", r.Kind, r.Error))
			}
		}
		if a.Upper.What != "" {
			err = errors.Join(err, fmt.Errorf("%s: %s", a.Upper.What, a.Upper.Why))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.Op, err)
		}
		return nil
	}
	if err := call(stage.Call{Op: stage.OpRequests, Asked: stage.Asked{Deployment: b.serial}}); err != nil {
		return err
	}
	for _, r := range b.man.Rules {
		if r.Action == rule.Merge {
			err = errors.Join(err, b.upper(r, call))
		}
	}
	for _, r := range b.man.Rules {
		if r.Action == rule.Persist && err == nil {
			name, nerr := state.Escape(r.Path)
			err = errors.Join(nerr, call(stage.Call{Op: stage.OpData, Data: stage.DataSpec{Name: "data/" + name, From: stage.RootDir + r.Path, Type: overlay.Directory, Rule: r}}))
		}
	}
	return err
}

func (b bench) upper(r rule.Rule, call func(stage.Call) error) error {
	if r.Path != "/etc" {
		return fmt.Errorf("a rule for %s that this bench does not know", r.Path)
	}
	spec := stage.UpperSpec{Path: r.Path, Dir: "etc/" + b.serial, Rule: r, Index: b.tools + "/usr/lib/veneer/index/etc",
		Base: stage.Base{Name: b.man.Name, Version: b.man.Version, Serial: b.serial}}
	for _, img := range b.man.Images {
		spec.Base.Images = append(spec.Base.Images, img.ID)
		if img.Role == images.RoleBase {
			spec.Base.Base = img.ID
		}
	}
	var lowers []string
	for _, l := range b.lowers {
		lowers = append(lowers, b.root+l)
	}
	found, err := overlay.Look(lowers, r.Path)
	if err != nil {
		return err
	}
	for i := range found.At {
		found.At[i] = strings.TrimPrefix(found.At[i], b.root)
	}
	spec.Found = found
	return call(stage.Call{Op: stage.OpUpper, Upper: spec})
}

// tree is what lies in a directory, by path: types, modes, owners, contents, marks of overlayfs, but for the machine-id. A directory
// that is not there is nil.
type tree map[string]string

func treeOf(dir string) (tree, error) {
	all := tree{}
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if base := path.Base(rel); base == "machine-id" || base == ".machine-id.veneer" {
			return nil // written by each boot that runs, whatever became of the state
		}
		line := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", len(text), sha256.Sum256(text))
		case unix.S_IFLNK:
			to, err := os.Readlink(name)
			if err != nil {
				return err
			}
			line += " " + to
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" %x", st.Rdev)
		case unix.S_IFDIR:
			var value [1]byte
			if n, err := unix.Lgetxattr(name, "trusted.overlay.opaque", value[:]); err == nil {
				line += " opaque " + string(value[:n])
			}
		}
		all[rel] = line
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, err
}

// differs names the paths in which two trees differ.
func (a tree) differs(b tree) (paths []string) {
	for p, line := range a {
		if b[p] != line {
			paths = append(paths, p)
		}
	}
	for p := range b {
		if _, there := a[p]; !there {
			paths = append(paths, p)
		}
	}
	return paths
}

// parts are the trees of a state that matter to people, by their places in it.
type parts map[string]tree

func partsOf(at string, places ...string) (parts, error) {
	all := parts{}
	var errs []error
	for _, p := range places {
		t, err := treeOf(filepath.Join(at, p))
		all[p] = t
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

// differs is that of all the trees, but for some paths.
func (a parts) differs(b parts, but []string) (paths []string) {
	for place, t := range a {
		for _, p := range t.differs(b[place]) {
			if p = path.Join(place, p); !slices.Contains(but, p) {
				paths = append(paths, p)
			}
		}
	}
	slices.Sort(paths)
	return paths
}

// mostInstants bounds, more or less, how many power cuts a replay tries.
const mostInstants = 150

// replay leaves the power away at every instant that the log has room for, and has each looked at. image is the disk before.
// It returns how many instants led to each outcome.
func (b bench) replay(what, image, log string, look func(at string) (outcome string, err error)) map[string]int {
	b.t.Helper()
	l := openWriteLog(b.t, log)
	running := copied(b.t, image)
	disk, err := os.OpenFile(running, os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer disk.Close()
	outcomes, flushes, done, messes, failures := map[string]int{}, 0, 0, 0, 0
	for _, at := range l.instants(mostInstants) {
		for ; done < at.done; done++ {
			if l.writes[done].flush {
				flushes++
			}
			if err := l.apply(disk, l.writes[done]); err != nil {
				b.t.Fatal(err)
			}
		}
		cut := filepath.Join(filepath.Dir(running), "cut.img")
		must(b.t, "", "cp", "--sparse=always", running, cut)
		if err := l.applyTo(cut, at.also); err != nil {
			b.t.Fatal(err)
		}
		if len(at.also) > 0 {
			messes++
		}
		outcome := ""
		err := b.with(cut, func(dir string) (err error) {
			outcome, err = look(dir)
			return err
		})
		if err != nil {
			b.t.Errorf("%s: the power fails behind write %d of %d, with %d of those behind it: %.2000v", what, at.done, len(l.writes), len(at.also), err)
			if failures++; failures > 5 {
				b.t.Fatal("and so on")
			}
			continue
		}
		outcomes[outcome]++
	}
	total := 0
	for _, n := range outcomes {
		total += n
	}
	b.t.Logf("%s: %d writes and flushes, %d flushes: %d power cuts, %d of them with later writes on the disk: %v", what, len(l.writes), flushes, total, messes, outcomes)
	return outcomes
}

func (l *writeLog) applyTo(image string, which []int) error {
	if len(which) == 0 {
		return nil
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, n := range which {
		if err := l.apply(f, l.writes[n]); err != nil {
			return err
		}
	}
	return nil
}
