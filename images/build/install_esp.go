package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/images/esp"
)

// NoESP as InstallSpec.ESP leaves what firmware starts alone.
const NoESP = "none"

// Renewed is what an installation did to an EFI system partition.
type Renewed struct {
	Place   string   `json:"place"`   // device or directory
	Wrote   []string `json:"wrote"`   // names on it
	Former  []string `json:"former"`  // what these follow, which can still be started
	Removed []string `json:"removed"` // to make room
	Bytes   int64    `json:"bytes"`
}

func (r Renewed) print(line printLine) {
	if len(r.Wrote) == 0 {
		line("esp", "%s has it already", r.Place)
		return
	}
	line("esp", "%s, %s: %s", r.Place, FormatBytes(r.Bytes), joined(r.Wrote))
	if len(r.Former) > 0 {
		line("former", "%s", joined(r.Former))
	}
	if len(r.Removed) > 0 {
		line("removed", "%s", joined(r.Removed))
	}
}

// openESP finds the EFI system partition that is to be renewed and plans how. done gives it back.
func (i *installer) openESP(ctx context.Context, r *Installed) (done func() error, err error) {
	done = func() error { return nil }
	if i.spec.ESP == NoESP || !i.spec.Default {
		return done, nil
	}
	place := i.spec.ESP
	if place == "" {
		if place, err = esp.OnDiskOf(i.parent()); err != nil {
			if !errors.Is(err, esp.ErrNone) { // a disk that cannot be read is none that firmware starts for us
				r.Notes = append(r.Notes, fmt.Sprintf("what firmware starts was left alone: %v; name its partition with --esp", err))
			}
			return done, nil
		}
	}
	dir, err := openESPAt(place)
	if err != nil {
		return done, fmt.Errorf("%w; name another with --esp, or --esp none", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dir.Close())
		}
	}()
	if !i.spec.anyESP {
		err = esp.Check(dir.Path, i.parent())
		if err != nil && i.spec.ESP == "" {
			r.Notes = append(r.Notes, fmt.Sprintf("what firmware starts was left alone: %v", err))
			return dir.Close, nil
		}
		if err != nil {
			return done, fmt.Errorf("%w; name the EFI system partition with --esp, or --esp none", err)
		}
	}
	e := &renewal{man: i.man, write: !i.spec.DryRun, out: i.spec.Output, files: esp.Files{Root: dir.Path, Step: i.spec.stop}, done: Renewed{Place: place, Wrote: []string{}, Former: []string{}, Removed: []string{}}}
	if e.current, err = i.currentManifest(); err != nil {
		return done, err
	}
	err = e.look()
	if err == nil && i.spec.ESP != "" {
		err = e.isESP()
	}
	if err != nil {
		return done, fmt.Errorf("%s: %w", place, err)
	}
	if !e.ours() && i.spec.ESP == "" {
		r.Notes = append(r.Notes, fmt.Sprintf("%s starts nothing of %s, and was left alone: name it with --esp to have it started from there", place, i.man.Name))
		return dir.Close, nil
	}
	if e.write { // only now: what is not ours was only read
		if err := dir.Writable(); err != nil {
			return done, err
		}
	}
	if err := e.plan(ctx); err != nil {
		return done, fmt.Errorf("%s: %w", place, err)
	}
	i.esp, r.ESP = e, &e.done
	return dir.Close, nil
}

// parent is a directory on the file system of the store, which may not be there yet.
func (i *installer) parent() string {
	if _, err := os.Stat(i.store); err != nil {
		return filepath.Dir(i.store)
	}
	return i.store
}

func openESPAt(place string) (esp.Dir, error) {
	info, err := os.Stat(place)
	if err != nil {
		return esp.Dir{}, err
	}
	if info.IsDir() {
		return esp.Dir{Path: filepath.Clean(place)}, nil
	}
	return esp.Mount(place)
}

// currentManifest is that of the deployment which boots now; nil where none does.
func (i *installer) currentManifest() (*images.Manifest, error) {
	at := os.DirFS(i.store)
	serial, err := images.Default(at)
	if err != nil {
		return nil, nil // a new store, or one that boots nothing
	}
	text, _, err := images.ReadDeployment(at, serial)
	if err != nil {
		return nil, nil
	}
	man, err := images.ParseManifest(text)
	if err != nil {
		return nil, nil
	}
	return &man, nil
}

// outputUKI returns the UKI of a build output: as a file of its own, or out of its disk.
func outputUKI(ctx context.Context, out string) ([]byte, error) {
	if program, err := readSmall(filepath.Join(out, outUKI), maxUKI); err == nil || !errors.Is(err, os.ErrNotExist) {
		return program, err
	}
	for _, name := range []string{outDisk, outQcow2, outZstd} {
		image := filepath.Join(out, name)
		if _, err := os.Stat(image); err != nil {
			continue
		}
		raw, done, err := rawDisk(ctx, image)
		if err != nil {
			return nil, err
		}
		defer done()
		d, err := openDisk(raw)
		if err != nil {
			return nil, err
		}
		found, err := d.uki(ctx)
		if found != nil || err != nil {
			return found, err
		}
	}
	return nil, fmt.Errorf("the output has no UKI, which firmware of this partition starts: name the output \"uki\" in veneer.toml and build again, or --esp none: %w", os.ErrNotExist)
}

// uki returns the first UKI on the EFI system partition; nil where there is none.
func (d diskImage) uki(ctx context.Context) (found []byte, err error) {
	err = d.eachOnESP(ctx, func(_ string, content []byte) error {
		if isUKI(content[:min(len(content), 4096)]) && found == nil {
			found = content
		}
		return nil
	})
	return found, err
}

// room tells how much is missing for what is to be written, counted in clusters.
func (e *renewal) room() (missing int64, err error) {
	free := e.free
	if free == nil {
		free = e.statfs
	}
	have, cluster, err := free()
	need := int64(espMargin)
	for _, p := range e.puts {
		need += (int64(len(p.content)) + cluster - 1) / cluster * cluster
	}
	return need - have, err
}

// statfs tells the free bytes of the partition, and of a cluster.
func (e *renewal) statfs() (free, cluster int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(e.files.Root, &st); err != nil {
		return 0, 1, fmt.Errorf("statfs %s: %w", e.files.Root, err)
	}
	if st.Flags&unix.ST_RDONLY != 0 && e.write {
		return 0, 1, fmt.Errorf("%s is mounted read-only", e.files.Root)
	}
	return int64(st.Bavail) * st.Bsize, st.Bsize, nil
}

// espMargin is room for directories and configurations.
const espMargin = 128 << 10

// stage writes what is new under other names.
func (e *renewal) stage() error {
	if err := e.files.Sweep(entryDir, filepath.Dir(firstProgram(e.man.Architecture)), filepath.Dir(biosConfig)); err != nil {
		return err
	}
	for _, name := range e.done.Removed {
		if err := e.remove(name); err != nil {
			return err
		}
	}
	for _, p := range e.puts {
		same := func(r io.Reader) error {
			at, same, err := compare(r, bytes.NewReader(p.content))
			if err == nil && !same {
				err = fmt.Errorf("it differs at byte %d from what was written", at)
			}
			return err
		}
		if err := e.files.Stage(p.name, bytes.NewReader(p.content), same); err != nil {
			return roomError(err, e.files.Root, e.done.Bytes)
		}
	}
	return nil
}

// remove deletes a UKI, or a set for a BIOS of which only our own files go.
func (e *renewal) remove(name string) error {
	var errs []error
	if path.Dir(name) == biosDir {
		for _, own := range setFiles {
			errs = append(errs, e.files.Remove(path.Join(name, own)))
		}
	}
	return errors.Join(append(errs, e.files.Remove(name))...)
}

// publish gives it its names, what the others point to first.
func (e *renewal) publish() error {
	for _, p := range e.puts {
		if err := e.files.Publish(p.name, p.former); err != nil {
			return err
		}
	}
	for _, m := range e.moves {
		if err := e.files.Rename(m[0], m[1]); err != nil {
			return err
		}
	}
	return nil
}
