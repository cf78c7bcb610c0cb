package state

import (
	"errors"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// What a reset needs when there is nothing left: a few blocks for its records, a few files and directories.
const (
	ballastSize   = 1 << 20
	ballastInodes = 32
)

// spares are the numbers of spare files and directories.
var spares = map[string]int{"f": ballastInodes, "d": ballastInodes / 2}

// blocks is the file of real blocks.
const blocks = "blocks"

// room is what a file system has, and has left without its reserve for root.
type room struct{ size, bytes, files int64 }

func (d *Dir) room() (room, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(d.fd, &s); err != nil {
		return room{}, d.wrap("statfs", ".", err)
	}
	r := room{int64(s.Blocks) * s.Bsize, int64(s.Bavail) * s.Bsize, int64(s.Ffree)}
	if s.Files == 0 { // btrfs makes inodes as it needs them
		r.files = 1 << 30
	}
	return r, nil
}

// ReleaseBallast gives back the blocks that were put by for a full disk. The spare files and directories stay, to be used in the
// place of new ones.
func (d *Dir) ReleaseBallast() error {
	fd, err := d.openat(path.Join(ballastDir, blocks), unix.O_WRONLY|unix.O_NONBLOCK)
	if missing(err) {
		return nil
	}
	if err != nil {
		return d.wrap("open", path.Join(ballastDir, blocks), err)
	}
	defer unix.Close(fd)
	if err := d.change("truncate ballast"); err != nil {
		return err
	}
	// Truncated, not deleted: xfs frees the blocks of a deleted file at its leisure. On btrfs they are there after the next commit.
	if err := unix.Ftruncate(fd, 0); err != nil {
		return d.wrap("truncate", path.Join(ballastDir, blocks), err)
	}
	return d.wrap("syncfs", ".", unix.Syncfs(d.fd))
}

// spare puts a spare file ("f") or directory ("d") in the place of a new one that there was no room for: a file system that is
// full may have no inode, or none where it wants one.
func (d *Dir) spare(kind string, dir int, name string) bool {
	from, err := d.openDir(ballastDir)
	if err != nil {
		return false
	}
	defer unix.Close(from)
	for i := range spares[kind] {
		if d.change("take spare "+kind+strconv.Itoa(i)) != nil {
			return false
		}
		if unix.Renameat2(from, kind+strconv.Itoa(i), dir, name, unix.RENAME_NOREPLACE) == nil {
			return true
		}
	}
	return false
}

// KeepBallast puts by 1 MiB of real blocks, and a few files and directories, so that a reset works when the disk is full. It takes
// half as many blocks, and half of that, where there are not enough; with nothing to take it leaves nothing and is not an error.
func (d *Dir) KeepBallast() error {
	if err := d.mkdir(ballastDir); err != nil {
		return noSpace(err)
	}
	fd, err := d.openDir(ballastDir)
	if err != nil {
		return d.wrap("open", ballastDir, err)
	}
	defer unix.Close(fd)
	for _, kind := range []string{"d", "f"} {
		for i := range spares[kind] {
			name := kind + strconv.Itoa(i)
			if err := d.change("ballast " + name); err != nil {
				return err
			}
			if kind == "d" {
				err = unix.Mkdirat(fd, name, 0o700)
			} else {
				err = unix.Mknodat(fd, name, unix.S_IFREG|0o600, 0)
			}
			if err != nil && !errors.Is(err, unix.EEXIST) {
				return noSpace(d.wrap("make", path.Join(ballastDir, name), err))
			}
		}
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

// roomy reports whether an operation has what it needs, by trying: what statfs(2) says of free blocks is not what a file gets, on
// btrfs least of all.
func (d *Dir) roomy() (bool, error) {
	r, err := d.room()
	if err != nil || r.files < 2*ballastInodes || r.bytes < ballastSize {
		return false, err
	}
	const probe = tempPrefix + "probe"
	fd, err := openBeneath2(d.fd, probe, unix.O_WRONLY|unix.O_CREAT, 0o600)
	if full(err) {
		return false, nil
	}
	if err != nil {
		return false, d.wrap("try", probe, err)
	}
	defer unix.Close(fd)
	defer unix.Unlinkat(d.fd, probe, 0)
	if err := unix.Fallocate(fd, 0, 0, ballastSize/4); full(err) {
		return false, nil
	}
	return true, nil
}

// noSpace drops an error that only says that there is no room.
func noSpace(err error) error {
	if full(err) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
