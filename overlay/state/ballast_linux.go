package state

import (
	"errors"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// What a reset needs when there is nothing left: a few blocks for its records, a few inodes for their files.
const (
	ballastSize   = 1 << 20
	ballastInodes = 32
)

// blocks is the file of real blocks.
const blocks = "blocks"

// room is what a file system has left for root.
type room struct{ bytes, files int64 }

func (d *Dir) room() (room, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(d.fd, &s); err != nil {
		return room{}, d.wrap("statfs", ".", err)
	}
	r := room{int64(s.Bfree) * s.Bsize, int64(s.Ffree)}
	if s.Files == 0 { // btrfs makes inodes as it needs them
		r.files = 1 << 30
	}
	return r, nil
}

// ReleaseBallast gives back what was put by for a full disk.
func (d *Dir) ReleaseBallast() error {
	names, err := d.names(ballastDir, 2*ballastInodes)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := d.remove(path.Join(ballastDir, n)); err != nil {
			return err
		}
	}
	// On btrfs what was given back is there after the next commit.
	return d.wrap("syncfs", ".", unix.Syncfs(d.fd))
}

// KeepBallast puts 1 MiB of real blocks and a few inodes by, so that a reset works when the disk is full. It takes half as much,
// and half of that, where there is not enough; with nothing to take it leaves nothing and is not an error.
func (d *Dir) KeepBallast() error {
	if err := d.mkdir(ballastDir); err != nil {
		return noSpace(err)
	}
	fd, err := d.openDir(ballastDir)
	if err != nil {
		return d.wrap("open", ballastDir, err)
	}
	defer unix.Close(fd)
	for i := range ballastInodes {
		name := strconv.Itoa(i)
		if err := d.change("ballast " + name); err != nil {
			return err
		}
		f, err := openBeneath2(fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return noSpace(d.wrap("make", path.Join(ballastDir, name), err))
		}
		unix.Close(f)
	}
	if err := d.change("ballast blocks"); err != nil {
		return err
	}
	f, err := openBeneath2(fd, blocks, unix.O_WRONLY|unix.O_CREAT, 0o600)
	if err != nil {
		return noSpace(d.wrap("make", path.Join(ballastDir, blocks), err))
	}
	defer unix.Close(f)
	for size := int64(ballastSize); size >= ballastSize/8; size /= 2 {
		err = unix.Fallocate(f, 0, 0, size)
		if err == nil || !errors.Is(err, unix.ENOSPC) {
			break
		}
		unix.Ftruncate(f, 0) // ext4 keeps what it got of a failed fallocate
	}
	return noSpace(d.wrap("allocate", path.Join(ballastDir, blocks), err))
}

// hasBallast reports whether something is put by; the blocks come last.
func (d *Dir) hasBallast() bool {
	st, there, err := d.lstat(path.Join(ballastDir, blocks))
	return err == nil && there && st.Blocks > 0
}

// noSpace drops an error that only says that there is no room.
func noSpace(err error) error {
	if full(err) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
