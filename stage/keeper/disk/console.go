package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"veneer/stage"

	"golang.org/x/sys/unix"
)

// maxPassphrase is the longest one that cryptsetup takes.
const maxPassphrase = 512

// askConsole asks for a secret on the console, without echo. The init handles the devices that appear meanwhile: the keyboard may
// be one of them.
func askConsole(ctx context.Context, prompt string) (line []byte, err error) {
	console, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer console.Close()
	fd := int(console.Fd())
	if was, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		quiet := *was
		quiet.Lflag = quiet.Lflag&^unix.ECHO | unix.ICANON | unix.ECHONL
		quiet.Iflag |= unix.ICRNL
		const andDropWhatWasTyped = unix.TCSETS + 2 // TCSETSF
		if err := unix.IoctlSetTermios(fd, andDropWhatWasTyped, &quiet); err != nil {
			return nil, fmt.Errorf("switch off the echo of the console: %w", err)
		}
		defer func() { err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, was)) }()
	}
	if _, err := fmt.Fprintf(console, "\r\n%s: ", strings.ReplaceAll(prompt, "\n", " ")); err != nil {
		return nil, err
	}
	buf := make([]byte, maxPassphrase+1)
	defer clear(buf)
	for n := 0; ; {
		if err := awaitInput(ctx, fd); err != nil {
			return nil, fmt.Errorf("nobody answered on the console: %w", err)
		}
		k, err := unix.Read(fd, buf[n:])
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return nil, err
		}
		if err == nil && k == 0 {
			return nil, errors.New("the console ends")
		}
		n += max(k, 0)
		if end := bytes.IndexByte(buf[:n], '\n'); end >= 0 {
			return bytes.Clone(buf[:end]), nil
		}
		if n == len(buf) {
			return nil, fmt.Errorf("more than %d bytes", maxPassphrase)
		}
	}
}

// awaitInput waits until fd can be read.
func awaitInput(ctx context.Context, fd int) error {
	for {
		if _, err := stage.Remaining(ctx); err != nil {
			return err
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 200); err != nil && !errors.Is(err, unix.EINTR) { // whoever ends ctx wakes no poll
			return err
		}
		if fds[0].Revents != 0 {
			return nil
		}
	}
}
