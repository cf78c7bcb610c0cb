package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"veneer/images/canonical"
	"veneer/initramfs/machine/probe"
	"veneer/stage"
)

// What a secure reset does to an encrypted device. The keys are overwritten here, and not by `cryptsetup erase`: that leaves the
// header and the tokens, so that the device would not be empty, it works slot by slot by what the header says, so that a header that
// has rotted keeps its keys, and it is a program that the base may lack.
//
//	before       the device is closed, and opens with a key
//	first write  the last two blocks: what the next state is to be told, and the mark that the device holds nothing
//	then         the areas of the keys and the second header, and after them the first header: as long as that is there, whoever
//	             makes something on the device knows that keys may be there, and overwrites them
//	after        the device holds nothing, and the mark

// Limits of LUKS2, see its on-disk format specification.
const (
	luksMagic   = "LUKS\xba\xbe"
	maxLUKSHead = 4 << 20
	maxKeyAreas = 128 << 20
)

// order is what Requests hands out, and Destroy gets back.
type order struct{ Device, Tell string }

func (o *order) walk(c *canonical.Coder) {
	canonical.String(c, "device", &o.Device)
	canonical.String(c, "tell", &o.Tell)
}

// Order is the order to destroy the device that was opened last, and to leave tell for the state that is made there.
func (m *Disk) Order(tell string) string {
	o := order{m.asked.Device, tell}
	return string(canonical.Write(o.walk))
}

// CanRemake reports why the device that was opened last could not be encrypted anew as it is asked for.
func (m *Disk) CanRemake(fsType string) error {
	if m.asked.Device == "" {
		return errors.New("nobody knows how it was opened")
	}
	need := []struct{ program, pkg string }{{"cryptsetup", "cryptsetup-bin"}}
	if mk, ok := makerOf(fsType); ok {
		need = append(need, struct{ program, pkg string }{"mkfs." + fsType, mk.pkg})
	}
	if m.asked.Unlock.Kind == stage.UnlockTPM2 {
		if _, err := os.Stat("/dev/tpmrm0"); err != nil {
			return fmt.Errorf("its key is to be sealed by a TPM: %w", err)
		}
		need = append(need, struct{ program, pkg string }{"systemd-cryptenroll", enrolPackages})
	}
	leave, err := m.enter(m.asked.Root)
	if err != nil {
		return err
	}
	for _, n := range need {
		if _, perr := findProgram(n.program); perr != nil {
			err = errors.Join(err, fmt.Errorf("%w: %s: put the Debian package %s into it", stage.ErrNoTool, n.program, n.pkg))
		}
	}
	return errors.Join(err, leave())
}

// Destroy carries out an order.
func (m *Disk) Destroy(text string) error {
	var o order
	if err := canonical.Read([]byte(text), o.walk); err != nil {
		return err
	}
	f, err := os.OpenFile(o.Device, os.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err == nil {
		err = errors.Join((&site{File: f}).destroy(o.Tell), f.Close())
	}
	if err != nil {
		return fmt.Errorf("destroy the key of %s: %w", o.Device, err)
	}
	return nil
}

func (s *site) destroy(tell string) (err error) {
	if s.size, err = s.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	head := make([]byte, len(luksMagic))
	if _, err := s.ReadAt(head, 0); err != nil {
		return err
	}
	if string(head) != luksMagic || s.size < 4*probe.Reserved {
		return fmt.Errorf("%w: it is not LUKS", stage.ErrForeign)
	}
	told, err := told(tell)
	if err != nil {
		return err
	}
	if err := s.put(append(told, probe.Mark(s.size)...), s.size-int64(len(told))-probe.MarkSize); err != nil {
		return err
	}
	return s.eraseKeys()
}

// eraseKeys overwrites whatever a LUKS header and its keys can be in, the header last; of any other content nothing.
func (s *site) eraseKeys() error {
	head, keys, ok, err := luksAreas(s, s.size)
	if err != nil || !ok {
		return err
	}
	zeros := make([]byte, probe.Reserved)
	for at := head; at < keys; at += int64(len(zeros)) {
		if err := s.write(zeros[:min(int64(len(zeros)), keys-at)], at); err != nil {
			return err
		}
	}
	if err := s.Sync(); err != nil {
		return err
	}
	return s.put(make([]byte, head), 0)
}

// luksAreas tells where the first header of a LUKS device ends, and where the last key. Of a header that makes no sense everything
// that could be one goes: there is no harm in that, since all of the device is given up.
func luksAreas(r io.ReaderAt, size int64) (head, keys int64, ok bool, err error) {
	b := make([]byte, 4096)
	if _, err := r.ReadAt(b, 0); err != nil {
		return 0, 0, false, err
	}
	if !bytes.HasPrefix(b, []byte(luksMagic)) {
		return 0, 0, false, nil
	}
	head, keys = int64(len(b)), min(size, 2*maxLUKSHead+maxKeyAreas)
	switch n := int64(binary.BigEndian.Uint64(b[8:])); {
	case binary.BigEndian.Uint16(b[6:]) != 2 || n < 16<<10 || n > maxLUKSHead || n%4096 != 0 || n > size:
	default:
		text := make([]byte, n-4096)
		if _, err := r.ReadAt(text, 4096); err != nil {
			return 0, 0, false, err
		}
		text, _, _ = bytes.Cut(text, []byte{0})
		var form struct {
			Config struct {
				KeySlots string `json:"keyslots_size"`
			}
		}
		if json.Unmarshal(text, &form) == nil {
			if areas, err := strconv.ParseInt(form.Config.KeySlots, 10, 64); err == nil && areas > 0 && areas <= maxKeyAreas {
				head, keys = n, min(size, 2*n+areas)
			}
		}
	}
	return head, keys, true, nil
}

// What the next state is to be told lies in the block before the mark: a magic, the length, the bytes, and their checksum. It stays
// there: whoever is told twice notices, and a device that is made anew for any other reason is cleared of it.
const (
	toldMagic = "veneer destroyed what this device held\n"
	toldHead  = len(toldMagic) + 8
)

func told(text string) ([]byte, error) {
	b := make([]byte, probe.MarkSize)
	if len(text) > len(b)-toldHead {
		return nil, fmt.Errorf("%d bytes are too much to tell", len(text))
	}
	n := copy(b, toldMagic)
	binary.LittleEndian.PutUint32(b[n:], uint32(len(text)))
	binary.LittleEndian.PutUint32(b[n+4:], crc32.ChecksumIEEE([]byte(text)))
	copy(b[toldHead:], text)
	return b, nil
}

// Told is what Destroy left on the device that was opened last, or "".
func (m *Disk) Told() (string, error) {
	if m.asked.Device == "" {
		return "", nil
	}
	f, err := os.OpenFile(m.asked.Device, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	b := make([]byte, probe.MarkSize)
	if _, err := f.ReadAt(b, size-2*probe.MarkSize); err != nil {
		return "", err
	}
	text, ok := bytes.CutPrefix(b, []byte(toldMagic))
	n := binary.LittleEndian.Uint32(b[len(toldMagic):])
	if !ok || int(n) > len(b)-toldHead {
		return "", nil
	}
	text = text[8:][:n]
	if crc32.ChecksumIEEE(text) != binary.LittleEndian.Uint32(b[len(toldMagic)+4:]) {
		return "", nil
	}
	return string(text), nil
}

// clearTold removes what is told of a device that was given up by somebody else.
func (s *site) clearTold() error {
	if s.marked {
		return nil
	}
	return s.put(make([]byte, probe.MarkSize), s.size-2*probe.MarkSize)
}

// remember keeps how a device is to be opened: of several ways the first, which is how it is made.
func (m *Disk) remember(s stage.DiskSpec) {
	if m.asked.Device != s.Device {
		m.asked = s
	}
}
