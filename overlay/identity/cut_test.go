package identity

import (
	"errors"
	"testing"
)

var errCut = errors.New("the power is cut")

// cutAt makes the k-th thing that is done to the state from now on the last one.
func (b *bed) cutAt(k int) *Store {
	s := b.store()
	s.before = func() error {
		if k--; k < 0 {
			panic(errCut)
		}
		return nil
	}
	return s
}

// powered runs do, and reports whether it came to its end before the power was cut.
func powered(do func()) (ended bool) {
	defer func() {
		if v := recover(); v != nil && v != errCut {
			panic(v)
		}
	}()
	do()
	return true
}

// The power is cut before each thing that a first boot, a save and a second boot do to the state, and the machine boots again: an
// ID that was seen is the ID, no seed is credited twice, and a host key is as it was made or not there.
func TestThePowerIsCutAtEachInstant(t *testing.T) {
	all := []Setting{{Clock, Persist}, {RandomSeed, Persist}, {MachineID, Persist}, {DBus, Inherit}, {SSHHostKeys, Persist}}
	cuts := 0
	for k, whole := 0, false; !whole; k++ {
		b := newBed(t)
		b.put("etc/machine-id", "uninitialized\n")
		b.put("usr/lib/systemd/systemd", "")
		b.put("usr/lib/systemd/system/"+SaveUnit, "")
		b.env.Images = []string{copyOf(t, b.root)}
		b.env.Platform = "board"
		credited := map[string]bool{}
		b.sys.mixed = func(seed []byte, credit int) {
			if credit > 0 && credited[string(seed)] {
				t.Errorf("cut %d: a seed is credited twice", k)
			}
			credited[string(seed)] = credited[string(seed)] || credit > 0
		}
		boot := func(s *Store) {
			if _, err := Apply(b.root, s, all, b.env); err != nil {
				t.Fatal(err)
			}
		}
		s := b.cutAt(k)
		whole = powered(func() {
			boot(s)
			b.put("etc/ssh/ssh_host_ed25519_key", "own")
			b.put("etc/ssh/ssh_host_rsa_key", "own")
			if _, err := Save(b.root, s, all, b.env, true); err != nil {
				t.Fatal(err)
			}
			boot(s)
		})
		seen := b.get("var/lib/dbus/machine-id")
		b.root = copyOf(t, b.env.Images[0]) // the root was volatile
		boot(b.store())
		if kept := b.kept("machine-id"); kept[0] == '!' || seen[0] != '!' && kept != seen {
			t.Errorf("cut %d: the ID %q was seen, and later it is %q", k, seen, kept)
		}
		for _, name := range []string{"ssh_host_ed25519_key", "ssh_host_rsa_key"} {
			if text := b.get("etc/ssh/" + name); text[0] != '!' && text != "own" {
				t.Errorf("cut %d: %s is %q", k, name, text)
			}
		}
		cuts++
	}
	if cuts < 20 {
		t.Errorf("only %d cuts", cuts)
	}
	t.Logf("%d cuts, each followed by a boot", cuts)
}
