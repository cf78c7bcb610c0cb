package keeper

import (
	"context"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/overlay"
	"veneer/overlay/entry"
	"veneer/overlay/merge"
	"veneer/overlay/mount"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

// Data implements stage.StateDir: what is bound appears as a whole, seeded from the merged root.
func (s *Keeper) Data(ctx context.Context, spec stage.DataSpec) error {
	if err := s.container(spec.Name); err != nil {
		return err
	}
	parent, name := path.Split(spec.Name)
	if err := s.Apply(mount.Mkdir{Path: s.path(parent), Mode: 0o755}); err != nil {
		return err
	}
	in, err := entry.OpenRoot(s.path(parent))
	if err != nil {
		return err
	}
	defer unix.Close(in)
	switch {
	case !entry.Exists(in, name):
		if err := s.seed(in, name, spec); err != nil {
			return err
		}
	case spec.Type == overlay.Directory:
		if err := s.reseed(in, name, spec); err != nil {
			return err
		}
	}
	if spec.Type == overlay.File {
		return nil
	}
	return s.sweepDir(ctx, s.path(spec.Name), nil, spec.Rule)
}

// seed makes what is kept as the merged root has it: under another name, durable, and then renamed.
func (s *Keeper) seed(in int, name string, spec stage.DataSpec) error {
	temp := tempPrefix + name
	if entry.Exists(in, temp) {
		if err := entry.Remove(in, temp); err != nil {
			return err
		}
	}
	if spec.Type == overlay.Nothing {
		if err := unix.Mkdirat(in, temp, 0o755); err != nil {
			return err
		}
	} else {
		from, last, err := openFrom(spec.From)
		if err != nil {
			return err
		}
		defer unix.Close(from)
		s.say("cp -a %s %s", spec.From, s.path(spec.Name))
		if err := fill(from, last, in, temp, spec.Skip, 0); err != nil {
			return err
		}
	}
	if err := unix.Syncfs(in); err != nil {
		return err
	}
	if err := unix.Renameat(in, temp, in, name); err != nil {
		return err
	}
	return unix.Fsync(in)
}

// reseed gives a directory back what a reset took of it and the base has, and touches nothing else.
func (s *Keeper) reseed(in int, name string, spec stage.DataSpec) error {
	list, err := s.Reseed()
	if err != nil || !slices.Contains(list, spec.Name) {
		return err
	}
	from, last, err := openFrom(spec.From)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	s.say("cp -an %s %s", spec.From, s.path(spec.Name))
	if err := fill(from, last, in, name, spec.Skip, 0); err != nil {
		return err
	}
	if err := unix.Syncfs(in); err != nil {
		return err
	}
	s.filled = append(s.filled, spec.Name)
	for _, l := range list {
		if !slices.Contains(s.filled, l) {
			return nil // its turn comes
		}
	}
	return s.Reseeded()
}

// openFrom opens the directory that a path of the merged root lies in, through no link.
func openFrom(name string) (dir int, last string, err error) {
	root, err := entry.OpenRoot(stage.RootDir)
	if err != nil {
		return -1, "", err
	}
	defer unix.Close(root)
	rel, last := path.Split(strings.TrimPrefix(name, stage.RootDir+"/"))
	if rel = path.Clean(rel); rel == "." {
		dir, err = entry.OpenDir(root, "")
	} else {
		dir, err = entry.OpenBeneath(root, rel)
	}
	return dir, last, err
}

// fill copies what is in from under name to the name as in to, where it is not there yet. Of a path in skip only the directory itself
// is taken along, for what will be mounted there.
func fill(from int, name string, to int, as string, skip []string, depth int) error {
	if depth > entry.MaxDepth {
		return entry.ErrTooDeep
	}
	c := entry.Copier{}
	there := entry.Exists(to, as)
	st, err := entry.At(from, name)
	switch {
	case err != nil:
		return err
	case !st.Dir() && there:
		return nil
	case !st.Dir() || !there && len(skip) == 0:
		return c.Copy(from, name, to, as)
	}
	if there {
		if old, err := entry.At(to, as); err != nil || !old.Dir() {
			return err // something else has taken the name
		}
	} else if err := c.Node(from, name, to, as); err != nil {
		return err
	}
	if !slices.Contains(skip, "") {
		if err := fillBelow(from, name, to, as, skip, depth); err != nil {
			return err
		}
	}
	if there {
		return nil
	}
	return c.Finish(from, name, to, as)
}

func fillBelow(from int, name string, to int, as string, skip []string, depth int) error {
	src, err := entry.OpenDir(from, name)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := entry.OpenDir(to, as)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	names, err := entry.Names(src)
	if err != nil {
		return err
	}
	for _, n := range names {
		var below []string
		for _, s := range skip {
			if s == n {
				below = append(below, "")
			} else if rest, ok := strings.CutPrefix(s, n+"/"); ok {
				below = append(below, rest)
			}
		}
		if err := fill(src, n, dst, n, below, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// sweep drops what the rule does not let survive.
func (s *Keeper) sweep(ctx context.Context, spec upperSpec) error {
	return s.sweepDir(ctx, s.path(spec.Dir, state.FilesDir), spec.Found.At, spec.Rule)
}

func (s *Keeper) sweepDir(ctx context.Context, dir string, lowers []string, r rule.Rule) error {
	if len(r.Allow)+len(r.Deny) == 0 {
		return nil
	}
	swept, err := merge.Sweep(ctx, dir, lowers, survives(dir, r))
	if err != nil || swept.Removed == 0 {
		return err
	}
	s.say("%s: %d paths do not survive, first %q", r.Path, swept.Removed, swept.Paths[0])
	return syncFS(dir)
}

// survives is what the rule says of a path in an upper; the other side of a conflict goes with the file that it lies beside, and all
// that is in it with it.
func survives(upper string, r rule.Rule) func(string) bool {
	return func(name string) bool {
		if r.Survives(name) || r.Action != rule.Merge {
			return r.Survives(name)
		}
		for at := name; at != "."; at = path.Dir(at) {
			if file, ok := merge.SideOf(upper, at); ok && r.Survives(file) {
				return true
			}
		}
		return false
	}
}

func syncFS(dir string) error {
	fd, err := entry.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// replace makes a file whatever was there, the file of an earlier call or half of one. Its name is not durable yet.
func (s *Keeper) replace(name string, text []byte) error {
	in, err := entry.OpenRoot(s.path(path.Dir(name)))
	if err != nil {
		return err
	}
	defer unix.Close(in)
	temp := tempPrefix + path.Base(name)
	if err := entry.Remove(in, temp); err != nil {
		return err
	}
	if err := entry.Write(in, temp, text); err != nil {
		return err
	}
	if err := unix.Renameat(in, temp, in, path.Base(name)); err != nil {
		return err
	}
	return unix.Fsync(in)
}
