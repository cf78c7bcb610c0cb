package tpm

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Path is the kernel's TPM with its resource manager, which lets several programs use it.
const Path = "/dev/tpmrm0"

// Device is a TPM of the kernel.
type Device struct {
	TPM
	fd int
}

// Open opens the device at path. Each command has wait; the kernel itself allows some of them minutes.
func Open(path string, wait time.Duration) (*Device, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	d := &Device{fd: fd}
	d.Exchange = func(command []byte) ([]byte, error) {
		answer, err := exchange(fd, command, wait)
		if err != nil {
			return nil, &fs.PathError{Op: "ask", Path: path, Err: err}
		}
		return answer, nil
	}
	return d, nil
}

// Close closes the device.
func (d *Device) Close() error { return unix.Close(d.fd) }

// exchange writes a command, which the kernel carries out beside us, and waits for the answer.
func exchange(fd int, command []byte, wait time.Duration) ([]byte, error) {
	if n, err := unix.Write(fd, command); err != nil || n != len(command) {
		return nil, errors.Join(err, errShort(n, len(command)))
	}
	deadline := time.Now().Add(wait)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, os.ErrDeadlineExceeded
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		if err != nil || n == 0 {
			continue
		}
		answer := make([]byte, maxAnswer)
		n, err = unix.Read(fd, answer)
		if err != nil {
			return nil, err
		}
		return answer[:n], nil
	}
}

func errShort(n, want int) error {
	if n >= 0 && n < want {
		return errors.New("the command was taken in part only")
	}
	return nil
}
