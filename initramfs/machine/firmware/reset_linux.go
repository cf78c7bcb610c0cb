// Package firmware reads and deletes the one variable of the UEFI firmware that a boot of ours obeys: systemd's FactoryResetRequest.
//
// It guarantees that nothing is obeyed that is not addressed to the system that boots, that a variable of any content is only read,
// and that only this one is ever deleted. It writes none. initramfs/machine sits above it.
package firmware

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf16"

	"golang.org/x/sys/unix"
)

// resetVariable is what `systemctl start factory-reset.target` sets (systemd-factory-reset(8), systemd 258 and newer).
const resetVariable = "FactoryResetRequest-8cf2644b-4b0b-428f-9387-6d876050dc67"

// maxVariable bounds what is read of a variable.
const maxVariable = 16 << 10

// A Reset is the request of an operating system to be reset by its next boot.
type Reset struct {
	ID      string // ID of its os-release
	ImageID string // IMAGE_ID of its os-release, or ""
	Boot    string // ID of the boot that asked, 32 hexadecimal digits
}

// For reports whether the request is addressed to the system with this os-release, and was made by a boot before this one: as
// systemd has it, of several systems on one machine only the one that asked is reset.
func (r Reset) For(osRelease []byte, boot string) bool {
	id, image := "linux", ""
	for _, line := range strings.Split(string(osRelease), "\n") {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		if len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
			value = value[1 : len(value)-1]
		}
		switch name {
		case "ID":
			id = value
		case "IMAGE_ID":
			image = value
		}
	}
	return r.ID == id && r.ImageID == image && r.Boot != strings.ReplaceAll(strings.ToLower(boot), "-", "")
}

// Word names the request for whoever remembers that it was carried out.
func (r Reset) Word() string { return r.ID + " " + r.ImageID + " " + r.Boot }

// ResetRequested reads the request; ok is false where there is no such firmware or no request. sys is /sys. It mounts efivarfs where
// nobody did.
func ResetRequested(sys string) (r Reset, ok bool, err error) {
	efi := filepath.Join(sys, "firmware/efi")
	if _, err := os.Stat(efi); err != nil {
		return r, false, nil // not started by UEFI
	}
	vars := filepath.Join(efi, "efivars")
	var s unix.Statfs_t
	if err := unix.Statfs(vars, &s); err == nil && int64(s.Type) == unix.SYSFS_MAGIC {
		if err := unix.Mount("efivarfs", vars, "efivarfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return r, false, &fs.PathError{Op: "mount efivarfs", Path: vars, Err: err}
		}
	}
	f, err := os.OpenFile(filepath.Join(vars, resetVariable), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxVariable))
	if err != nil {
		return r, false, err
	}
	r, err = parseReset(raw)
	if err != nil {
		return r, false, fmt.Errorf("firmware variable FactoryResetRequest: %w", err)
	}
	return r, true, nil
}

// ClearReset deletes the request. The kernel makes the files of variables that it does not know immutable.
func ClearReset(sys string) error {
	name := filepath.Join(sys, "firmware/efi/efivars", resetVariable)
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	const immutable = 0x10 // FS_IMMUTABLE_FL
	if flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil && flags&immutable != 0 {
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable); err != nil {
			return &fs.PathError{Op: "clear the immutable flag of", Path: name, Err: err}
		}
	}
	return os.Remove(name)
}

var errForm = errors.New("not a request as systemd writes it")

// parseReset reads four bytes of attributes and JSON in UTF-16.
func parseReset(raw []byte) (Reset, error) {
	if len(raw) < 6 || len(raw)%2 != 0 {
		return Reset{}, errForm
	}
	var units []uint16
	for i := 4; i+1 < len(raw); i += 2 {
		u := uint16(raw[i]) | uint16(raw[i+1])<<8
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	fields, err := textFields(string(utf16.Decode(units)))
	if err != nil {
		return Reset{}, err
	}
	id, has := fields["osReleaseId"]
	r := Reset{id, fields["osReleaseImageId"], strings.ToLower(strings.ReplaceAll(fields["bootId"], "-", ""))}
	if !has || len(r.Boot) != 32 || strings.Trim(r.Boot, "0123456789abcdef") != "" {
		return Reset{}, errForm
	}
	return r, nil
}

// textFields returns the fields of a JSON object whose values are text; other values are passed over.
func textFields(s string) (map[string]string, error) {
	fields := map[string]string{}
	s, ok := strings.CutPrefix(strings.TrimLeft(s, spaces), "{")
	for depth, name := 1, ""; ok; {
		s = strings.TrimLeft(s, spaces)
		if s == "" {
			break
		}
		c := s[0]
		if c == '"' {
			var text string
			if text, s, ok = jsonText(s); !ok {
				break
			}
			rest, isName := strings.CutPrefix(strings.TrimLeft(s, spaces), ":")
			switch {
			case depth > 1:
			case isName:
				name, s = text, rest
			case name != "":
				fields[name], name = text, ""
			}
			continue
		}
		s = s[1:]
		switch c {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return fields, nil
			}
		case ',':
			if depth == 1 {
				name = ""
			}
		}
	}
	return nil, errForm
}

const spaces = " \t\r\n"

// jsonText takes one text in quotes off the front.
func jsonText(s string) (text, rest string, ok bool) {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			text, err := strconv.Unquote(strings.ReplaceAll(s[:i+1], `\/`, `/`))
			return text, s[i+1:], err == nil
		}
	}
	return "", "", false
}
