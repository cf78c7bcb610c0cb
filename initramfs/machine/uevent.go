package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"veneer/stage"

	"golang.org/x/sys/unix"
)

// uevent is what the kernel says of a device, see Documentation/ABI/testing/sysfs-uevent and lib/kobject_uevent.c.
type uevent struct {
	action string // add, change, remove, ...
	vars   map[string]string
}

// monitor is a socket on which the kernel announces devices.
type monitor struct{ fd int }

// receiveBuffer is generous: an event that does not fit is lost, and the kernel tells so with ENOBUFS.
const receiveBuffer = 4 << 20

func newMonitor() (*monitor, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("uevent socket: %w", err)
	}
	// The forced size needs no raised limit; an older kernel's default would still do.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	const kernelGroup = 1
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind uevent socket: %w", err)
	}
	return &monitor{fd}, nil
}

func (m *monitor) close() error { return unix.Close(m.fd) }

// errLost means that the kernel dropped events because we were slow: look at everything again.
var errLost = errors.New("uevents were lost")

// next returns the next event. It waits until ctx ends, and not at all if ctx has ended already.
func (m *monitor) next(ctx context.Context) (uevent, error) {
	buf := make([]byte, 16<<10)
	for {
		n, from, err := unix.Recvfrom(m.fd, buf, 0)
		switch {
		case err == nil:
			if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 { // the kernel, and nobody else
				if e, ok := parseUevent(buf[:n]); ok {
					return e, nil
				}
			}
			continue
		case errors.Is(err, unix.ENOBUFS):
			return uevent{}, errLost
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN):
			return uevent{}, fmt.Errorf("receive uevent: %w", err)
		}
		wait, err := stage.Remaining(ctx)
		if err != nil {
			return uevent{}, err
		}
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLIN}}, int(wait.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return uevent{}, fmt.Errorf("poll uevent socket: %w", err)
		}
	}
}

// parseUevent reads "ACTION@DEVPATH\0KEY=VALUE\0...".
func parseUevent(msg []byte) (uevent, bool) {
	head, rest, ok := bytes.Cut(msg, []byte{0})
	if !ok || !bytes.Contains(head, []byte{'@'}) {
		return uevent{}, false
	}
	e := uevent{vars: map[string]string{}}
	for _, kv := range strings.Split(string(rest), "\x00") {
		if k, v, ok := strings.Cut(kv, "="); ok {
			e.vars[k] = v
		}
	}
	e.action = e.vars["ACTION"]
	return e, e.action != ""
}
