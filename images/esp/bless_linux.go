package esp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"golang.org/x/sys/unix"
)

// vendor is systemd's, of the variables of its Boot Loader Interface.
const vendor = "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// Variables that a loader leaves (https://systemd.io/BOOT_LOADER_INTERFACE).
const (
	countPath  = "LoaderBootCountPath" + vendor  // of the entry that was started and is counted, from the root of the partition
	deviceUUID = "LoaderDevicePartUUID" + vendor // of the partition that the loader came from
)

// maxVariable bounds what is read of a variable.
const maxVariable = 16 << 10

// ErrNotCounted means that no loader counts this boot: there is none, or its entry is good already.
var ErrNotCounted = errors.New("no boot loader counts this boot")

// Counted is an entry whose tries the loader of this boot counts.
type Counted struct {
	Path string // from the root of the partition, with slashes
	UUID string // of the partition
}

// Good is the path without a count.
func (c Counted) Good() string {
	return path.Join(path.Dir(c.Path), ParseName(path.Base(c.Path)).Good().String())
}

// Running returns the entry that this boot was started from. sys is /sys. It mounts efivarfs where nobody did.
func Running(sys string) (c Counted, err error) {
	vars := filepath.Join(sys, "firmware/efi/efivars")
	var s unix.Statfs_t
	if err := unix.Statfs(vars, &s); err != nil {
		return c, ErrNotCounted // not started by UEFI
	}
	if int64(s.Type) == unix.SYSFS_MAGIC {
		if err := unix.Mount("efivarfs", vars, "efivarfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return c, &os.PathError{Op: "mount efivarfs", Path: vars, Err: err}
		}
	}
	where, err := variable(vars, countPath)
	if errors.Is(err, fs.ErrNotExist) {
		return c, ErrNotCounted
	}
	if err != nil {
		return c, err
	}
	c.Path = strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(where, `\`, "/")), "/")
	if !ParseName(path.Base(c.Path)).Counted {
		return c, ErrNotCounted
	}
	c.UUID, err = variable(vars, deviceUUID)
	return c, err
}

// variable reads a text: four bytes of attributes, then UTF-16 up to a NUL.
func variable(vars, name string) (string, error) {
	f, err := os.OpenFile(filepath.Join(vars, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxVariable))
	if err != nil {
		return "", err
	}
	if len(raw) < 6 || len(raw)%2 != 0 {
		return "", fmt.Errorf("firmware variable %s: not a text", name)
	}
	var units []uint16
	for i := 4; i < len(raw); i += 2 {
		u := uint16(raw[i]) | uint16(raw[i+1])<<8
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), nil
}

// Bless takes the count out of the entry's name, on its partition: its boots are good from now on. One that is done already, by
// systemd-bless-boot for one, is no error.
func (c Counted) Bless() (err error) {
	device, err := ByUUID(c.UUID)
	if err != nil {
		return err
	}
	dir, err := Mount(device, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	return c.blessIn(Files{Root: dir.Path})
}

func (c Counted) blessIn(f Files) error {
	good := c.Good()
	_, gerr := os.Lstat(f.at(good))
	_, err := os.Lstat(f.at(c.Path))
	switch {
	case gerr == nil && errors.Is(err, fs.ErrNotExist):
		return nil
	case gerr == nil:
		return fmt.Errorf("%s is there beside %s: remove the one that is not wanted", f.at(good), c.Path)
	case err != nil:
		return fmt.Errorf("the entry that was started is no longer there: %w", err)
	}
	return f.Rename(c.Path, good)
}
