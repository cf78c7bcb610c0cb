package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// Names in a state directory; docs/reset.md lists them.
const (
	etcDir       = "etc"
	upperDir     = "upper"
	mergeDir     = "merge"
	dataDir      = "data"
	identityDir  = "identity"
	requestsDir  = "requests"
	journalDir   = "journal"
	asideDir     = "aside"
	snapshotsDir = "snapshots"
	trashDir     = "trash"
	ballastDir   = "ballast"
	formatFile   = "format"
	askedFile    = "asked"
	blessedFile  = "blessed"
	attemptsFile = "attempts"
	reseedFile   = "reseed"
)

// maxSmall bounds every file of this package's own making that is read back.
const maxSmall = 1 << 20

// A Dir is an open state directory. Two programs may hold one: the init changes what is in use, before anything is stacked on it,
// the command only files, lists, makes snapshots and deletes what is out of use.
type Dir struct {
	fd   int
	name string                // as it was opened, for messages
	stop func(op string) error // asked before each change; nil but in tests, where its error is the power cut
}

// Open opens the state directory at name.
func Open(name string) (*Dir, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open state directory", Path: name, Err: err}
	}
	return &Dir{fd: fd, name: name}, nil
}

// Close closes the directory. It is a no-op after the first time.
func (d *Dir) Close() error {
	if d.fd < 0 {
		return nil
	}
	err := unix.Close(d.fd)
	d.fd = -1
	return err
}

// Name is the name that the directory was opened by.
func (d *Dir) Name() string { return d.name }

func (d *Dir) wrap(op, rel string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path.Join(d.name, rel), Err: err}
}

// change announces the next change to the disk.
func (d *Dir) change(op string) error {
	if d.stop == nil {
		return nil
	}
	return d.stop(op)
}

// openat opens what lies at rel, below the state directory, through no link and no mount. Subvolumes of btrfs are no mounts.
func (d *Dir) openat(rel string, flags int) (int, error) { return openBeneath(d.fd, rel, flags) }

func openBeneath(fd int, rel string, flags int) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV}
	for {
		got, err := unix.Openat2(fd, rel, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return got, err
		}
	}
}

func (d *Dir) openDir(rel string) (int, error) { return d.openat(rel, unix.O_RDONLY|unix.O_DIRECTORY) }

// parent opens the directory that rel lies in.
func (d *Dir) parent(rel string) (fd int, name string, err error) {
	dir, name := path.Split(rel)
	if dir == "" {
		dir = "."
	}
	fd, err = d.openDir(path.Clean(dir))
	return fd, name, err
}

// lstat looks at what lies at rel. Nothing there, or nothing that could hold it, is not an error.
func (d *Dir) lstat(rel string) (st unix.Stat_t, there bool, err error) {
	fd, name, err := d.parent(rel)
	if missing(err) {
		return st, false, nil
	}
	if err != nil {
		return st, false, d.wrap("look at", rel, err)
	}
	defer unix.Close(fd)
	err = unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if missing(err) {
		return st, false, nil
	}
	return st, err == nil, d.wrap("look at", rel, err)
}

// isDir reports whether a directory lies at rel.
func (d *Dir) isDir(rel string) bool {
	st, there, err := d.lstat(rel)
	return err == nil && there && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// missing reports that a path leads nowhere; a link on the way is a wrong turn like any other.
func missing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// mkdir makes a directory for root alone, unless there is one.
func (d *Dir) mkdir(rel string) error {
	if d.isDir(rel) {
		return nil
	}
	fd, name, err := d.parent(rel)
	if err != nil {
		return d.wrap("make directory", rel, err)
	}
	defer unix.Close(fd)
	if err := d.change("mkdir " + rel); err != nil {
		return err
	}
	if err := unix.Mkdirat(fd, name, 0o700); errors.Is(err, unix.EEXIST) {
		return d.wrap("make directory", rel, errors.New("what is there is none; move it away from another machine"))
	} else if err != nil && !(full(err) && d.spare("d", fd, name)) {
		return d.wrap("make directory", rel, err)
	}
	return d.sync(fd, rel)
}

// sync makes the entries of a directory durable.
func (d *Dir) sync(fd int, rel string) error {
	if err := d.change("fsync " + rel); err != nil {
		return err
	}
	return d.wrap("fsync directory", rel, unix.Fsync(fd))
}

// read returns a regular file of at most limit bytes. It waits for no fifo and opens no device.
func (d *Dir) read(rel string, limit int) ([]byte, error) {
	st, there, err := d.lstat(rel)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, d.wrap("read", rel, fs.ErrNotExist)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, d.wrap("read", rel, errors.New("not a regular file"))
	}
	fd, err := d.openat(rel, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, d.wrap("read", rel, err)
	}
	f := os.NewFile(uintptr(fd), rel)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, d.wrap("read", rel, err)
	}
	if len(text) > limit {
		return nil, d.wrap("read", rel, fmt.Errorf("larger than %d bytes", limit))
	}
	return text, nil
}

// tempPrefix begins the names of what is not finished. Whoever lists a directory passes over them.
const tempPrefix = ".new-"

// write replaces the file at rel as a whole: whoever reads it, after whichever stop, sees the former content or the new one.
func (d *Dir) write(rel string, text []byte) error { return d.writeFlags(rel, text, 0) }

// create is write for a file that must not be there yet.
func (d *Dir) create(rel string, text []byte) error {
	return d.writeFlags(rel, text, unix.RENAME_NOREPLACE)
}

func (d *Dir) writeFlags(rel string, text []byte, flags uint) (err error) {
	dir, name, err := d.parent(rel)
	if err != nil {
		return d.wrap("write", rel, err)
	}
	defer unix.Close(dir)
	temp := tempPrefix + name
	if err := d.change("clear " + temp); err != nil {
		return err
	}
	if err := unix.Unlinkat(dir, temp, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return d.wrap("clear", path.Join(path.Dir(rel), temp), err)
	}
	if err := d.change("create " + temp); err != nil {
		return err
	}
	fd, err := openBeneath2(dir, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if full(err) && d.spare("f", dir, temp) {
		fd, err = openBeneath2(dir, temp, unix.O_WRONLY, 0)
	}
	if err != nil {
		return d.wrap("create", path.Join(path.Dir(rel), temp), err)
	}
	f := os.NewFile(uintptr(fd), temp)
	defer f.Close()
	if err := d.change("write " + temp); err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		if err := d.change("fsync " + temp); err != nil {
			return err
		}
		err = f.Sync()
	}
	if err != nil {
		unix.Unlinkat(dir, temp, 0) // it takes up room that there is too little of
		return d.wrap("write", rel, err)
	}
	if err := d.change("rename " + rel); err != nil {
		return err
	}
	if err := unix.Renameat2(dir, temp, dir, name, flags); err != nil {
		unix.Unlinkat(dir, temp, 0)
		return d.wrap("replace", rel, err)
	}
	return d.sync(dir, rel)
}

func openBeneath2(fd int, name string, flags int, mode uint64) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Mode: mode, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	return unix.Openat2(fd, name, &how)
}

// remove deletes a file, if it is there.
func (d *Dir) remove(rel string) error {
	fd, name, err := d.parent(rel)
	if missing(err) {
		return nil
	}
	if err != nil {
		return d.wrap("remove", rel, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if errors.Is(unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW), unix.ENOENT) {
		return nil
	}
	if err := d.change("remove " + rel); err != nil {
		return err
	}
	if err := unix.Unlinkat(fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return d.wrap("remove", rel, err)
	}
	return d.sync(fd, rel)
}

// names lists the entries of a directory in order, without those that are not finished. A directory that is not there has none.
// More than most is an error: veneer leaves no such thing, and memory is bounded.
func (d *Dir) names(rel string, most int) ([]string, error) {
	fd, err := d.openDir(rel)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, d.wrap("list", rel, err)
	}
	f := os.NewFile(uintptr(fd), rel)
	defer f.Close()
	all, err := f.Readdirnames(most + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, d.wrap("list", rel, err)
	}
	if len(all) > most {
		return nil, d.wrap("list", rel, fmt.Errorf("more than %d entries: that is not what veneer leaves there; clean it up", most))
	}
	all = slices.DeleteFunc(all, func(n string) bool { return len(n) >= len(tempPrefix) && n[:len(tempPrefix)] == tempPrefix })
	slices.Sort(all)
	return all, nil
}
