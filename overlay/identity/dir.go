package identity

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// dir is a directory below which files are read and written by descriptor: the merged root, where links are followed as they
// will be after the switch and never lead out (RESOLVE_IN_ROOT), or the state, in which a link is an error.
type dir struct {
	fd      int
	path    string // for messages
	resolve uint64
	before  func() error // each thing that replace does; for tests, which end the world there
}

func openDir(path string, resolve uint64) (*dir, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &dir{fd: fd, path: path, resolve: resolve}, nil
}

func (d *dir) close() { unix.Close(d.fd) }

func (d *dir) fail(op, rel string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path.Join(d.path, rel), Err: err}
}

func (d *dir) open(rel string, flags uint64) (int, error) {
	flags |= unix.O_CLOEXEC
	if flags&unix.O_PATH == 0 { // openat2 refuses flags that mean nothing beside it
		flags |= unix.O_NOCTTY | unix.O_NONBLOCK
	}
	how := unix.OpenHow{Flags: flags, Resolve: d.resolve | unix.RESOLVE_NO_MAGICLINKS}
	for {
		fd, err := unix.Openat2(d.fd, rel, &how)
		if err != unix.EINTR && err != unix.EAGAIN { // EAGAIN: something was renamed meanwhile, see openat2(2)
			return fd, err
		}
	}
}

// read returns the content of a regular file of at most most bytes.
func (d *dir) read(rel string, most int64) ([]byte, error) {
	fd, err := d.open(rel, unix.O_RDONLY)
	if err != nil {
		return nil, d.fail("open", rel, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > most) {
		err = errOdd
	}
	if err != nil {
		return nil, d.fail("read", rel, err)
	}
	text := make([]byte, st.Size)
	for at := 0; at < len(text); {
		n, err := unix.Read(fd, text[at:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, d.fail("read", rel, err)
		case n == 0:
			return text[:at], nil
		default:
			at += n
		}
	}
	return text, nil
}

var errOdd = errors.New("not a regular file of the size that it should have")

// exists reports whether a name leads to anything.
func (d *dir) exists(rel string) bool {
	fd, err := d.open(rel, unix.O_PATH)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// link returns what a symbolic link holds, or "" for anything else.
func (d *dir) link(rel string) string {
	fd, err := d.open(rel, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	b := make([]byte, 256)
	n, err := unix.Readlinkat(fd, "", b)
	if err != nil || n == len(b) {
		return ""
	}
	return string(b[:n])
}

// names lists a directory; one that is not there is empty.
func (d *dir) names(rel string) ([]string, error) {
	fd, err := d.open(rel, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, d.fail("open", rel, err)
	}
	f := os.NewFile(uintptr(fd), rel)
	defer f.Close()
	names, err := f.Readdirnames(maxNames)
	if err == io.EOF {
		err = nil
	}
	return names, d.fail("list", rel, err)
}

// maxNames bounds what is read of a directory.
const maxNames = 1024

// parent opens the directory that rel lies in, and makes it with what is missing above it.
func (d *dir) parent(rel string, missing uint32) (fd int, err error) {
	up := path.Dir(rel)
	fd, err = d.open(up, unix.O_RDONLY|unix.O_DIRECTORY)
	if !errors.Is(err, unix.ENOENT) || missing == 0 || up == "." {
		return fd, err
	}
	above, err := d.parent(up, missing)
	if err != nil {
		return -1, err
	}
	defer unix.Close(above)
	if err := unix.Mkdirat(above, path.Base(up), missing); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	if err := unix.Fsync(above); err != nil {
		return -1, err
	}
	return d.open(up, unix.O_RDONLY|unix.O_DIRECTORY)
}

// write makes rel a regular file of root's with this content, whatever was there. At any instant, power cuts included, the old
// or the new file is there.
func (d *dir) write(rel string, content []byte, mode uint32) error {
	up := uint32(0o755)
	if mode&0o077 == 0 {
		up = 0o700
	}
	return d.fail("write", rel, d.replace(rel, up, func(at int, temp string) error {
		fd, err := unix.Openat(at, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for len(content) > 0 {
			n, err := unix.Write(fd, content)
			if err != nil && err != unix.EINTR {
				return err
			}
			content = content[max(n, 0):]
		}
		return errors.Join(unix.Fchown(fd, 0, 0), unix.Fchmod(fd, mode), unix.Fsync(fd))
	}))
}

// renew overwrites a file of that size in place, durably: one write to the disk, where write costs two commits of a journal, and no new
// block. A cut leaves a mix of old and new.
func (d *dir) renew(rel string, content []byte) error {
	fd, err := d.open(rel, unix.O_WRONLY|unix.O_DSYNC)
	if err != nil {
		return d.fail("open", rel, err)
	}
	if d.before != nil {
		err = d.before()
	}
	if err == nil {
		var n int
		if n, err = unix.Pwrite(fd, content, 0); err == nil && n != len(content) {
			err = unix.EIO
		}
	}
	unix.Close(fd)
	return d.fail("write", rel, err)
}

// symlink makes rel a link, as write makes a file.
func (d *dir) symlink(rel, content string) error {
	return d.fail("link", rel, d.replace(rel, 0o755, func(at int, temp string) error { return unix.Symlinkat(content, at, temp) }))
}

func (d *dir) replace(rel string, missing uint32, create func(at int, temp string) error) error {
	at, err := d.parent(rel, missing)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	name := path.Base(rel)
	temp := "." + name + ".veneer" // one name: what an interrupted write left is found and removed
	for _, do := range []func() error{
		func() error {
			if err := unix.Unlinkat(at, temp, 0); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
			return nil
		},
		func() error { return create(at, temp) },
		func() error { return unix.Renameat(at, temp, at, name) },
		func() error { return unix.Fsync(at) },
	} {
		if d.before != nil {
			err = d.before()
		}
		if err == nil {
			err = do()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remove takes away a name; one that is not there is no error.
func (d *dir) remove(rel string) error {
	at, err := d.parent(rel, 0)
	if err == nil {
		defer unix.Close(at)
		if err = unix.Unlinkat(at, path.Base(rel), 0); err == nil {
			err = unix.Fsync(at)
		}
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return d.fail("remove", rel, err)
}

// Store is the state's directory identity/.
type Store struct{ *dir }

// OpenStore opens the directory, and makes it where its parent is there. Nobody but root may look into it: it holds keys.
func OpenStore(path string) (*Store, error) {
	if err := unix.Mkdir(path, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	d, err := openDir(path, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, err
	}
	return &Store{d}, nil
}

// Close releases the directory.
func (s *Store) Close() { s.close() }

// usual is a word of a file: without the end of the line.
func usual(text []byte) string { return strings.TrimRight(string(text), "\r\n") }
