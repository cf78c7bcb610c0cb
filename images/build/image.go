package build

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"veneer/images"
	"veneer/images/verity"
)

// imageJob is an image to be made.
type imageJob struct {
	role    images.Role
	name    string
	fs      FileSystem
	source  string // directory or archive; empty for the tools
	allowed []Loss
	tree    *Tree
	losses  []LossReport
	baked   []BakedReport
}

// scan looks at the source, and judges what the image could not keep of it.
func (j *imageJob) scan(ctx context.Context, scratch string) error {
	if j.tree == nil {
		info, err := os.Stat(j.source)
		if err != nil {
			return fmt.Errorf("source of %s: %w", j.name, err)
		}
		if info.IsDir() {
			j.tree, err = scanDir(ctx, j.source)
		} else {
			j.tree, err = scanTar(ctx, j.source, scratch)
		}
		if err != nil {
			return err
		}
	}
	limits := squashfsLimits
	if j.fs.Type == Erofs {
		limits = erofsLimits
	}
	j.tree.examine(limits)
	var err error
	if j.losses, err = j.tree.found.judge(j.tree.Source, j.allowed); err != nil {
		return err
	}
	j.baked, err = j.tree.bakedIn()
	return err
}

// make writes the image into the stage: the file system, and behind it the hash tree. Its name there is its ID.
func (j *imageJob) make(ctx context.Context, tools map[string]string, s *stage, epoch *time.Time, progress *Progress) (images.Image, error) {
	newest := j.tree.newest(epoch)
	raw := s.path(j.name + ".raw")
	progress.Start(j.name, j.tree.Bytes)
	var err error
	if j.fs.Type == Erofs {
		scratch := s.path(j.name + ".tree")
		if err := os.Mkdir(scratch, 0o755); err != nil {
			return images.Image{}, err
		}
		err = makeErofs(ctx, tools["mkfs.erofs"], raw, scratch, j.fs, j.tree, newest, progress)
		err = errors.Join(err, os.RemoveAll(scratch))
	} else {
		err = makeSquashfs(ctx, tools["mksquashfs"], raw, j.fs, j.tree, newest, progress)
	}
	if err != nil {
		return images.Image{}, fmt.Errorf("image %s: %w", j.name, err)
	}
	img, err := j.seal(ctx, raw, progress)
	if err != nil {
		return images.Image{}, fmt.Errorf("image %s: %w", j.name, err)
	}
	progress.Finish("%s of %s from %s, ID %.16s…", FormatBytes(img.Size), j.fs.Type, FormatBytes(j.tree.Bytes), img.ID)
	return img, os.Rename(raw, s.path(filepath.Join("images", img.ID+".img")))
}

// seal appends the hash tree to a file system, and has all of it written to the medium.
func (j *imageJob) seal(ctx context.Context, path string, progress *Progress) (images.Image, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return images.Image{}, err
	}
	r, err := verity.Append(ctx, f, verity.Options{})
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, closeSynced(f)); err != nil {
		return images.Image{}, err
	}
	return images.Image{
		Role: j.role, Name: j.name, ID: hex.EncodeToString(r.Root[:]), Size: r.Size, FileSystem: j.fs.Type,
		Verity: images.Verity{Algorithm: "sha256", BlockSize: verity.BlockSize, DataBlocks: r.DataBlocks, HashOffset: r.HashOffset},
	}, nil
}
