package machine

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Attend handles uevents until done is closed, so that the drivers of what appears meanwhile are loaded.
func (m *Machine) Attend(done <-chan struct{}) error {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	defer unix.Close(bell)
	rung := make(chan error, 1)
	go func() {
		<-done
		_, err := unix.Write(bell, binary.NativeEndian.AppendUint64(nil, 1))
		rung <- err
	}()
	for {
		if err := m.drain(); err != nil {
			return errors.Join(err, <-rung) // the bell is closed after it was rung
		}
		fds := []unix.PollFd{{Fd: int32(m.uevents.fd), Events: unix.POLLIN}, {Fd: int32(bell), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return errors.Join(fmt.Errorf("poll uevent socket: %w", err), <-rung)
		}
		if fds[1].Revents != 0 {
			return <-rung
		}
	}
}
