package identity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Linux is the System that runs.
type Linux struct{}

// Random implements System. It never waits: early in a boot there may be nothing that would end the wait.
func (Linux) Random(b []byte) (bool, error) {
	ready := true
	for len(b) > 0 {
		flags := unix.GRND_NONBLOCK
		if !ready {
			flags = unix.GRND_INSECURE
		}
		n, err := unix.Getrandom(b, flags)
		switch {
		case errors.Is(err, unix.EAGAIN) && ready:
			ready = false
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false, fmt.Errorf("getrandom: %w", err)
		default:
			b = b[n:]
		}
	}
	return ready, nil
}

// Mix implements System.
func (Linux) Mix(b []byte, credit int) error {
	fd, err := unix.Open("/dev/urandom", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: "/dev/urandom", Err: err}
	}
	defer unix.Close(fd)
	// struct rand_pool_info of random(4): the credit in bits, the size in bytes, the bytes.
	info := make([]byte, 8, 8+len(b))
	binary.NativeEndian.PutUint32(info, uint32(credit))
	binary.NativeEndian.PutUint32(info[4:], uint32(len(b)))
	info = append(info, b...)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0]))); errno != 0 {
		return &fs.PathError{Op: "add entropy", Path: "/dev/urandom", Err: errno}
	}
	return nil
}

// Now implements System.
func (Linux) Now() time.Time { return time.Now().Round(0) }

// SetTime implements System.
func (Linux) SetTime(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	if err := unix.Settimeofday(&tv); err != nil {
		return fmt.Errorf("set the clock to %s: %w", t.UTC().Format(time.RFC3339), err)
	}
	return nil
}

// SetHostname implements System.
func (Linux) SetHostname(name string) error {
	if err := unix.Sethostname([]byte(name)); err != nil {
		return fmt.Errorf("set hostname %q: %w", name, err)
	}
	return nil
}

// platformFiles are where a platform tells its ID, in the order in which they are asked: of DMI, of a device tree, of a Xen
// guest.
var platformFiles = []string{"sys/class/dmi/id/product_uuid", "proc/device-tree/vm,uuid", "proc/device-tree/serial-number", "sys/hypervisor/uuid"}

// Platform is the ID that the hardware, or the hypervisor, has for this machine, below the directory root; "" where it has
// none that tells it from others.
func Platform(root string) string {
	for _, name := range platformFiles {
		text, err := os.ReadFile(root + "/" + name)
		if err != nil || len(text) > 256 {
			continue
		}
		if id := platformID(text); id != "" {
			return id
		}
	}
	return ""
}

// junkPlatforms are what makers write who write the same on every board.
var junkPlatforms = []string{"03000200-0400-0500-0006-000700080009", "12345678-1234-5678-90ab-cddeefaabbcc", "12345678-1234-1234-1234-123456789abc",
	"none", "not specified", "default string", "to be filled by o.e.m.", "system serial number", "0123456789", "1234567890", "0123456789abcdef"}

// platformID is what a file of the platform says, in one spelling; "" for what is no ID.
func platformID(text []byte) string {
	id := strings.ToLower(strings.TrimSpace(strings.TrimRight(string(text), "\x00\n")))
	if len(id) < 8 || strings.Trim(id, "0-") == "" || strings.Trim(id, "f-") == "" {
		return ""
	}
	for _, c := range []byte(id) {
		if c <= ' ' && c != ' ' || c >= 0x7f {
			return ""
		}
	}
	for _, junk := range junkPlatforms {
		if id == junk {
			return ""
		}
	}
	return id
}
