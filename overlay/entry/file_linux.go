package entry

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// OpenRegular opens a regular file in the directory at for writing. It follows no link, and waits for nobody at a fifo.
func OpenRegular(at int, name string) (*os.File, error) {
	fd, err := unix.Openat(at, name, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, errors.New("it is not a regular file"))
	}
	return f, nil
}
