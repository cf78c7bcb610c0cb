package identity

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// SaveUnit is the unit of the tools layer that calls Save once the boot is complete.
const SaveUnit = "veneer-identity.service"

// Save takes what the running system made or changed of the presets that persist into the state: a machine-id, hostname or host
// keys that differ, a new random seed, the time. booted tells that the first boot, if it was one, is complete. Calling it
// more often than needed writes nothing but the seed and the stamp of the clock.
func Save(root string, store *Store, settings []Setting, env Env, booted bool) ([]Done, error) {
	a := applier{store: store, env: env}
	if err := a.openAll(root); err != nil {
		return nil, err
	}
	defer a.close()
	unlock, err := store.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var done []Done
	for _, s := range settings {
		d := Done{Setting: s}
		d.What, d.Err = a.save(s, booted)
		if d.Err != nil {
			d.Err = fmt.Errorf("%s: %w", s.Name, d.Err)
		}
		if d.What != "" || d.Err != nil {
			done = append(done, d)
		}
	}
	return done, nil
}

// lock waits until no other Save is at work: several units may call it at once.
func (s *Store) lock() (unlock func(), err error) {
	fd, err := s.open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	for err == nil {
		if err = unix.Flock(fd, unix.LOCK_EX); err == nil {
			return func() { unix.Close(fd) }, nil
		} else if err == unix.EINTR {
			err = nil
			continue
		}
		unix.Close(fd)
	}
	return nil, s.fail("lock", ".", err)
}

func (a *applier) save(s Setting, booted bool) (string, error) {
	if s.Name == MachineID && booted && s.Mode != Inherit {
		if err := a.store.remove(firstBootMark); err != nil {
			return "", err
		}
	}
	if s.Mode != Persist {
		return "", nil
	}
	switch s.Name {
	case Clock:
		return "stamped", a.store.write(storedClock, nil, 0o600)
	case RandomSeed:
		if a.systemdKeepsSeed() {
			return "", nil
		}
		return "made", a.store.saveSeed(a.env)
	case MachineID:
		id := a.root.idFile(etcMachineID).id
		if id == "" || id == a.store.idFile(storedMachineID).id {
			return "", nil
		}
		return "saved", a.store.write(storedMachineID, []byte(id+"\n"), 0o600)
	case Hostname:
		return a.saveHostname()
	case SSHHostKeys:
		return a.saveHostKeys()
	}
	return "", nil
}

// saveSeed makes the seed of the next boot a new one, now that the kernel has seen a whole boot.
func (s *Store) saveSeed(env Env) error {
	old, _ := s.read(storedSeed, mostSeed)
	if err := env.System.Mix(old, 0); err != nil && len(old) > 0 {
		return err
	}
	seed := make([]byte, seedSize)
	if ready, err := env.System.Random(seed); err != nil || !ready {
		return err
	}
	return s.write(storedSeed, seed, 0o600)
}

func (a *applier) saveHostname() (string, error) {
	own, err := a.rootHostname()
	stored, _ := a.store.read(storedHostname, 256)
	switch {
	case errors.Is(err, unix.ENOENT) || err == nil && own == "":
		if stored == nil {
			return "", nil
		}
		return "that of the base again", a.store.remove(storedHostname)
	case err != nil:
		return "", err
	case usual(stored) == own:
		return "", nil
	}
	return "saved", a.store.write(storedHostname, []byte(own+"\n"), 0o600)
}

// saveHostKeys keeps the host keys that lie in /etc/ssh. None at all is an accident, or an sshd that is gone: then the state
// keeps what it has.
func (a *applier) saveHostKeys() (string, error) {
	now, err := a.root.hostKeys(sshDir)
	if err != nil {
		return "", err
	}
	stored, err := a.store.hostKeys(storedSSH)
	if err != nil {
		return "", err
	}
	own := a.ownKeys(now)
	same := len(own) == len(stored)
	secrets := 0
	for name, text := range own {
		same = same && bytes.Equal(text, stored[name])
		if !strings.HasSuffix(name, ".pub") {
			secrets++
		}
	}
	if same || secrets == 0 {
		return "", nil
	}
	return "saved", a.store.putHostKeys(storedSSH, own, stored, secret)
}

// WantsHostKeys reports whether sshd's keys are to be made: these settings do not leave them to the base, sshd is there, and
// there is no key.
func WantsHostKeys(root string, settings []Setting) (bool, error) {
	a := applier{}
	if err := a.openAll(root); err != nil {
		return false, err
	}
	defer a.close()
	for _, s := range settings {
		if s.Name != SSHHostKeys || s.Mode == Inherit {
			continue
		}
		keys, err := a.root.hostKeys(sshDir)
		for name := range keys {
			if !strings.HasSuffix(name, ".pub") {
				return false, err
			}
		}
		return err == nil && a.root.exists(path.Join(sshDir, "sshd_config")), err
	}
	return false, nil
}
