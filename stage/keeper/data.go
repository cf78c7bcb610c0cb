package keeper

import (
	"context"
	"path"

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
	parent, name := path.Split(spec.Name)
	if err := s.Apply(mount.Mkdir{Path: s.path(parent), Mode: 0o755}); err != nil {
		return err
	}
	in, err := entry.OpenRoot(s.path(parent))
	if err != nil {
		return err
	}
	defer unix.Close(in)
	if !entry.Exists(in, name) {
		if err := s.seed(in, name, spec); err != nil {
			return err
		}
	}
	if spec.Type == overlay.File {
		return nil
	}
	return s.sweepDir(ctx, s.path(spec.Name), nil, spec.Rule)
}

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
		from, err := entry.OpenRoot(path.Dir(spec.From))
		if err != nil {
			return err
		}
		defer unix.Close(from)
		s.say("cp -a %s %s", spec.From, s.path(spec.Name))
		c := entry.Copier{}
		if err := c.Copy(from, path.Base(spec.From), in, temp); err != nil {
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

// sweep drops what the rule does not let survive.
func (s *Keeper) sweep(ctx context.Context, spec upperSpec) error {
	return s.sweepDir(ctx, s.path(spec.Dir, state.FilesDir), spec.Found.At, spec.Rule)
}

func (s *Keeper) sweepDir(ctx context.Context, dir string, lowers []string, r rule.Rule) error {
	if len(r.Allow)+len(r.Deny) == 0 {
		return nil
	}
	swept, err := merge.Sweep(ctx, dir, lowers, r.Survives)
	if err != nil || swept.Removed == 0 {
		return err
	}
	s.say("%s: %d paths do not survive, first %q", r.Path, swept.Removed, swept.Paths[0])
	return syncFS(dir)
}

func syncFS(dir string) error {
	fd, err := entry.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

func (s *Keeper) replace(name string, text []byte) error {
	in, err := entry.OpenRoot(s.path(path.Dir(name)))
	if err != nil {
		return err
	}
	defer unix.Close(in)
	return entry.Write(in, path.Base(name), text)
}
