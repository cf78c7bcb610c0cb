package disk

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/initramfs/machine/disktest"
	"veneer/initramfs/machine/probe"
	"veneer/stage"
)

// TestADestructionThatIsCutOffIsEndedByWhoeverMakesSomethingThere cuts before each write.
func TestADestructionThatIsCutOffIsEndedByWhoeverMakesSomethingThere(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	const size, header = 32 * mib, 16 * mib
	const tell = "the words\nof the state"
	m, dev := New(t.Logf), disktest.Loop(t, size)
	disktest.Run(t, "sh", "-c", "printf key | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "+dev+" -")
	disktest.Run(t, "sh", "-c", "printf 'key' >/run/key && printf more | cryptsetup luksAddKey -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file /run/key "+dev+" -")
	test := func() bool {
		return exec.Command("cryptsetup", "open", "--test-passphrase", "--key-file", "/run/key", dev).Run() == nil
	}
	if !test() {
		t.Fatal("the key does not open what was made with it")
	}
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	whole := make([]byte, size)
	if _, err := f.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	keys := bytes.Count(whole[:header], []byte{0})
	if keys == header {
		t.Fatal("the header holds nothing: this test would see nothing")
	}
	stopped := errors.New("the power is cut")
	cuts, opened := 0, 0
	for ended := false; !ended; cuts++ {
		if _, err := f.WriteAt(whole, 0); err != nil {
			t.Fatal(err)
		}
		n := 0
		err := (&site{File: f, before: func(int64) error {
			if n++; n > cuts {
				return stopped
			}
			return nil
		}}).destroy(tell)
		if ended = err == nil; err != nil && !errors.Is(err, stopped) {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		b, err := probe.LookAt(f, size)
		if err != nil {
			t.Fatal(err)
		}
		if cuts == 0 {
			if b.Empty || !test() {
				t.Errorf("before the first write: %+v, and the key opens: %v", b, test())
			}
			continue
		}
		if !b.Empty {
			t.Errorf("cut before write %d: the device holds %s, want that it holds nothing", cuts+1, b.Reason)
		}
		if test() {
			opened++
		}
		m.asked = stage.DiskSpec{Device: dev}
		if got, err := m.Told(); err != nil || got != tell {
			t.Errorf("cut before write %d: Told() = %q, %v", cuts+1, got, err)
		}
		s, err := openSite(dev)
		if err != nil {
			t.Fatal(err)
		}
		after := make([]byte, header)
		_, err = s.ReadAt(after, 0)
		if err := errors.Join(err, s.clearTold(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(after, make([]byte, header)) || test() {
			t.Errorf("cut before write %d: keys are left where something else is made", cuts+1)
		}
		if got, err := m.Told(); err != nil || got != tell {
			t.Errorf("cut before write %d, and made anew: Told() = %q, %v", cuts+1, got, err)
		}
	}
	if opened == 0 {
		t.Error("the key never opened what was cut off: this test proves nothing about the rest")
	}
	t.Logf("%d cuts; after %d of them the key would still have opened the device", cuts-1, opened)
	// What is made on a device that holds nothing for any other reason is told nothing.
	if _, err := f.WriteAt(make([]byte, probe.MarkSize), size-probe.MarkSize); err != nil {
		t.Fatal(err)
	}
	s, err := openSite(dev)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.clearTold(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Told(); err != nil || got != "" {
		t.Errorf("Told() = %q, %v, want nothing", got, err)
	}
}

func TestAnOrderDestroysOnlyWhatIsEncryptedAndUnused(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	m, dev := New(t.Logf), disktest.Loop(t, 32*mib)
	m.asked = stage.DiskSpec{Device: dev}
	if err := m.Destroy(m.Order("x")); !errors.Is(err, stage.ErrForeign) {
		t.Errorf("Destroy() of an empty device = %v, want ErrForeign", err)
	}
	disktest.Run(t, "sh", "-c", "printf key | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "+dev+" -")
	used, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Destroy(m.Order("x")); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Destroy() of a device in use = %v, want EBUSY", err)
	}
	used.Close()
	if err := m.Destroy("nonsense"); err == nil {
		t.Error("Destroy() of nonsense went well")
	}
	if err := m.Destroy(m.Order("x")); err != nil {
		t.Error(err)
	}
	if got, err := m.Told(); err != nil || got != "x" {
		t.Errorf("Told() = %q, %v", got, err)
	}
}

func TestTheAreasOfAHeaderThatIsNoneAreAsLargeAsTheyCanBe(t *testing.T) {
	head := make([]byte, 200*mib)
	copy(head, luksMagic)
	if h, keys, ok, err := luksAreas(bytes.NewReader(head), int64(len(head))); h != 4096 || keys != 136*mib || !ok || err != nil {
		t.Errorf("luksAreas() = %d, %d, %v, %v; want 4 KiB and 136 MiB", h, keys, ok, err)
	}
	if _, _, ok, _ := luksAreas(bytes.NewReader(make([]byte, 4096)), 4096); ok {
		t.Error("zeros are taken for LUKS")
	}
}
