package live

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/boot/dialect/persistence"
	"veneer/overlay"
	"veneer/overlay/entry"
	"veneer/overlay/mount"
	"veneer/overlay/rule"
	"veneer/stage"
)

// stampName is the file that remembers, beside the upper's directories, which base it was written on. live-boot and its kin do not
// look at it.
const stampName = ".veneer-base"

// stackKept makes the root with what is kept in it.
func (f *foreign) stackKept(ctx context.Context, lowers []string, parts []part) (dir string, err error) {
	if len(parts) > 0 && parts[0].Dest == "/" && parts[0].Kind == persistence.Union {
		if f.Kept.ReadOnly {
			dir, err = f.volatileRoot(ctx, lowers, []string{path.Join(parts[0].source(), parts[0].upper)})
		} else {
			dir, err = f.persistentRoot(ctx, lowers, parts[0])
		}
		f.record(parts[0], rule.Overlay)
		parts = parts[1:]
	} else {
		dir, err = f.volatileRoot(ctx, lowers, nil)
	}
	if err != nil || len(parts) == 0 {
		return dir, err
	}
	_, err = stage.Do(ctx, f.r, stage.StepRules, func(context.Context) (struct{}, error) {
		for i, p := range parts {
			if err := f.keep(lowers, p, i); err != nil {
				return struct{}{}, fmt.Errorf("%s of %s: %w", p.Dest, p.from.device.Path, err)
			}
		}
		return struct{}{}, nil
	})
	return dir, err
}

// persistentRoot stacks an upper that is kept, in the directories where its dialect has it.
func (f *foreign) persistentRoot(ctx context.Context, lowers []string, p part) (string, error) {
	return stage.Do(ctx, f.r, stage.StepStackRoot, func(context.Context) (string, error) {
		if err := f.m.Modules("overlay"); err != nil {
			return "", err
		}
		if err := f.stamp(p); err != nil {
			return "", err
		}
		m, ops, err := f.overlay(lowers, p, "/")
		if err != nil {
			return "", err
		}
		if m.Target = stage.RootDir; f.env.Config.ReadOnly {
			m.Flags = mount.ReadOnly
		}
		ops = append(ops, mount.Mkdir{Path: stage.RootDir, Mode: 0o755}, m, mount.Mkdir{Path: upperDir, Mode: 0o755},
			mount.Symlink{Content: path.Join(p.source(), p.upper), Path: path.Join(upperDir, overlay.KeptUpper)},
			mount.Symlink{Content: path.Join(p.source(), p.work), Path: path.Join(upperDir, overlay.KeptWork)})
		if err := f.r.Apply(f.m, ops...); err != nil {
			return "", err
		}
		f.r.Record.Upper = stage.Upper{Kind: string(boot.UpperPersistent), Mount: upperDir}
		return stage.RootDir, f.publish(lowers)
	})
}

// overlay plans the overlay of an upper that is kept over what the images have at a path, but for its target.
func (f *foreign) overlay(lowers []string, p part, at string) (mount.Mount, []mount.Op, error) {
	upper, work := path.Join(p.source(), p.upper), path.Join(p.source(), p.work)
	ops := []mount.Op{mount.Place{Path: upper, Root: p.from.at}, mount.Place{Path: work, Root: p.from.at}}
	if at == "/" || len(lowers) > 0 {
		like := lowers[len(lowers)-1]
		if !f.there(p, p.upper) {
			ops = append(ops, mount.Like{Path: upper, Of: like})
		}
	}
	links, m, err := overlay.Layers{Lowers: lowers, Upper: upper, Work: work}.Stacked(overlay.KeptOptions, path.Join(stage.LinkDir, "kept"+strings.ReplaceAll(at, "/", "-")))
	return m, append(ops, links...), err
}

// there reports whether the source of a part is there, or a name in it.
func (f *foreign) there(p part, name string) bool {
	_, err := fs.Stat(f.m.Files(p.from.at), path.Join(p.Source, name))
	return err == nil
}

// stamp holds the base that the upper was written on against this one. What it comes to is what the dialect itself does, which
// knows no bases: the upper is used. But it is told.
func (f *foreign) stamp(p part) error {
	if f.env.Paper {
		f.r.Detailf("the stamp of the upper is %s; where it names another base, that is told", path.Join(p.source(), stampName))
		return nil
	}
	text, err := readSmall(f.m.Files(p.from.at), path.Join(p.Source, stampName), 256)
	former := strings.TrimSpace(string(text))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case former == f.base:
		return nil
	case former != "":
		f.r.Degrade("what is kept was written on another base", "the images of the medium are others than at the last boot; what is kept hides what is new in them")
	}
	if err := f.m.Apply(mount.Place{Path: p.source(), Root: p.from.at}); err != nil {
		return err
	}
	dir, err := openBelow(p.from.at, p.Source)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	next := stampName + ".new"
	if err := entry.Remove(dir, next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := entry.Write(dir, next, []byte(f.base+"\n")); err != nil {
		return err
	}
	if err := unix.Renameat(dir, next, dir, stampName); err != nil {
		return &fs.PathError{Op: "rename", Path: stampName, Err: err}
	}
	return unix.Fsync(dir)
}

// openBelow opens a directory below a root; no link leads out of it.
func openBelow(root, name string) (int, error) {
	at, err := entry.OpenRoot(root)
	if err != nil || name == "." {
		return at, err
	}
	defer unix.Close(at)
	return entry.OpenBeneath(at, name)
}

// keep brings one thing that is kept into the merged root.
func (f *foreign) keep(lowers []string, p part, n int) error {
	target := path.Join(stage.RootDir, p.Dest)
	found, err := f.m.Look(lowers, p.Dest)
	if err != nil {
		return err
	}
	if found.Type == overlay.File || found.Type == overlay.Link {
		f.r.Degrade(p.Dest+" is not kept", "the images have a "+string(found.Type)+" there, and what is kept is a directory")
		return nil
	}
	if err := f.r.Apply(f.m, f.place(p.Dest, target, found.Type)...); err != nil {
		return err
	}
	if f.Kept.ReadOnly {
		return f.lookAt(found.At, p, target, n)
	}
	if f.env.Paper || !f.there(p, "") {
		if err := f.seed(p, target); err != nil {
			return err
		}
	}
	switch p.Kind {
	case persistence.Link:
		f.record(p, "link")
		return f.link(p, target)
	case persistence.Bind:
		f.record(p, rule.Bind)
		return f.r.Apply(f.m, mount.Bind{Source: p.source(), Target: target, Root: stage.RootDir})
	}
	f.record(p, rule.Overlay)
	if len(found.At) == 0 {
		found.At = []string{path.Join(stage.MountsDir, "empty")}
		if err := f.r.Apply(f.m, mount.Mkdir{Path: found.At[0], Mode: 0o755}); err != nil {
			return err
		}
	}
	m, ops, err := f.overlay(found.At, p, p.Dest)
	if err != nil {
		return err
	}
	m.Target, m.Root = target, stage.RootDir
	return f.r.Apply(f.m, append(ops, m)...)
}

// place makes the mount point; below /home it is the first user's, as live-boot guesses.
func (f *foreign) place(dest, target string, there overlay.FileType) []mount.Op {
	ops := []mount.Op{mount.Place{Path: target, Root: stage.RootDir}}
	if there == overlay.Nothing && strings.HasPrefix(dest, "/home/") {
		ops = append(ops, mount.Own{Path: target, Root: stage.RootDir, UID: 1000, GID: 1000, Mode: -1})
	}
	return ops
}

// seed makes the source of what is kept: with what the root has there where it is bound, else empty.
func (f *foreign) seed(p part, target string) error {
	if p.Kind != persistence.Bind {
		return f.r.Apply(f.m, mount.Place{Path: p.source(), Root: p.from.at}, mount.Like{Path: p.source(), Of: target})
	}
	f.r.Detailf("test -e %[1]s || cp -a %[2]s %[1]s", p.source(), target)
	if f.env.Paper {
		return nil
	}
	dir, name := path.Split(path.Clean(p.Source))
	if err := f.m.Apply(mount.Place{Path: path.Join(p.from.at, dir), Root: p.from.at}); err != nil {
		return err
	}
	to, err := openBelow(p.from.at, path.Clean("./"+dir))
	if err != nil {
		return err
	}
	defer unix.Close(to)
	from, err := openBelow(stage.RootDir, path.Clean("."+path.Dir(p.Dest)))
	if err != nil {
		return err
	}
	defer unix.Close(from)
	next := name + ".veneer-new" // a copy that a power cut ended is no seed
	if err := entry.Remove(to, next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c := entry.Copier{Sync: true}
	if err := c.Copy(from, path.Base(p.Dest), to, next); err != nil {
		return err
	}
	if err := unix.Renameat(to, next, to, name); err != nil {
		return &fs.PathError{Op: "rename", Path: next, Err: err}
	}
	return unix.Fsync(to)
}

// lookAt brings what is kept into the root without writing to it: under an upper in memory.
func (f *foreign) lookAt(lowers []string, p part, target string, n int) error {
	source := p.source()
	switch p.Kind {
	case persistence.Link:
		f.record(p, "link")
		return f.link(p, target)
	case persistence.Union:
		source = path.Join(source, p.upper)
	case persistence.Bind:
		lowers = nil
	}
	if !f.there(p, "") {
		return nil
	}
	f.record(p, rule.Overlay)
	dir := path.Join(stage.UpperDir, "ephemeral", strconv.Itoa(n))
	upper, work := path.Join(dir, overlay.KeptUpper), path.Join(dir, overlay.KeptWork)
	links, m, err := overlay.Layers{Lowers: append(append([]string{}, lowers...), source), Upper: upper, Work: work}.Stacked("index=off", path.Join(stage.LinkDir, strconv.Itoa(n)))
	if err != nil {
		return err
	}
	m.Target, m.Root = target, stage.RootDir
	ops := append([]mount.Op{mount.Mkdir{Path: upper, Mode: 0o755}, mount.Mkdir{Path: work, Mode: 0o700}, mount.Like{Path: upper, Of: source}}, links...)
	return f.r.Apply(f.m, append(ops, m)...)
}

// link makes a symbolic link in the root for each file that is kept.
func (f *foreign) link(p part, target string) error {
	if f.env.Paper {
		f.r.Detailf("ln -s, for each file in %s, in %s", p.source(), target)
		return nil
	}
	from, err := openBelow(p.from.at, p.Source)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := openBelow(stage.RootDir, strings.TrimPrefix(p.Dest, "/"))
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return linkFiles(from, to, p.source(), 0)
}

func linkFiles(from, to int, content string, depth int) error {
	if depth > entry.MaxDepth {
		return entry.ErrTooDeep
	}
	names, err := entry.Names(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		st, err := entry.At(from, name)
		if err != nil {
			return err
		}
		if !st.Dir() {
			if err := entry.Remove(to, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := unix.Symlinkat(path.Join(content, name), to, name); err != nil {
				return &fs.PathError{Op: "symlink", Path: name, Err: err}
			}
			continue
		}
		if err := linkDir(from, to, name, content, depth); err != nil {
			return err
		}
	}
	return nil
}

func linkDir(from, to int, name, content string, depth int) error {
	src, err := entry.OpenDir(from, name)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	if names, err := entry.Names(src); err != nil || len(names) == 0 {
		return err // live-boot makes no empty ones
	}
	if err := unix.Mkdirat(to, name, 0o755); err == nil {
		st, err := entry.At(from, name)
		if err == nil {
			err = errors.Join(entry.SetOwner(to, name, st.UID, st.GID), entry.SetMode(to, name, st.Mode&0o7777))
		}
		if err != nil {
			return err
		}
	} else if !errors.Is(err, unix.EEXIST) {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	dst, err := entry.OpenDir(to, name)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	return linkFiles(src, dst, path.Join(content, name), depth+1)
}

// record tells the running system of one thing that is kept.
func (f *foreign) record(p part, form rule.Form) {
	source := p.source()
	upper := ""
	if form == rule.Overlay {
		if upper = stage.StatePersistent; f.Kept.ReadOnly {
			upper = string(boot.UpperTmpfs)
		}
	}
	f.r.Record.Rules = append(f.r.Record.Rules, stage.Rule{Path: p.Dest, Action: string(rule.Persist), Form: string(form), Source: source, Upper: upper, Origin: string(f.Dialect)})
}
