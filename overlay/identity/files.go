package identity

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	etcHostname    = "etc/hostname"
	storedHostname = "hostname"

	sshDir    = "etc/ssh"
	storedSSH = "ssh"

	mostKey  = 64 << 10 // bytes
	mostKeys = 32
)

// direction says which way a file goes at a boot.
type direction int

const (
	stay  direction = iota // nowhere: the merged root shows what the base or nobody has
	give                   // from the state into the merged root
	adopt                  // from the merged root into the state
)

// direct decides for a file that persists. own tells that the merged root shows one that is not the base's, kept that a rule
// keeps it there, stored that the state has one. Where the running system's own file outlives the boot, it is the newer one.
//
//	            stored      not stored
//	own, kept   adopt       adopt
//	else        give        stay
func direct(own, kept, stored bool) direction {
	switch {
	case own && kept:
		return adopt
	case stored:
		return give
	}
	return stay
}

// CheckHostname reports whether a name is one that hostname(5) and the kernel take.
func CheckHostname(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("hostname %q: want 1 to 64 characters", clip(name))
	}
	for _, label := range strings.Split(name, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return fmt.Errorf("hostname %q: want letters, digits and inner hyphens, in parts with dots between", clip(name))
		}
	}
	return nil
}

// parseHostname reads the content of /etc/hostname: the first line that is no comment.
func parseHostname(text []byte) (string, error) {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return line, CheckHostname(line)
		}
	}
	return "", errors.New("no hostname")
}

// GeneratedHostname is the hostname of mode generate: the system's name, as far as a hostname can hold it, and the first six
// digits of the machine-id.
func GeneratedHostname(system string, id ID) string {
	label := make([]byte, 0, len(system))
	for _, c := range []byte(strings.ToLower(system)) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			label = append(label, c)
		} else if len(label) > 0 && label[len(label)-1] != '-' {
			label = append(label, '-')
		}
	}
	name := strings.Trim(string(label[:min(len(label), 50)]), "-")
	if name == "" {
		name = "veneer"
	}
	return name + "-" + string(id[:min(len(id), 6)])
}

func (a *applier) hostname(mode Mode) (string, error) {
	name, what := "", ""
	switch mode {
	case Generate:
		id := a.id
		if id == "" { // left to systemd
			b := make([]byte, 3)
			if _, err := a.env.System.Random(b); err != nil {
				return "", err
			}
			id = ID(hex.EncodeToString(b))
		}
		name = GeneratedHostname(a.env.Name, id)
		what = name
	case Persist:
		if a.store == nil {
			return "as the base has it", ErrNoState
		}
		own, _ := a.rootHostname()
		text, _ := a.store.read(storedHostname, 256)
		stored, err := parseHostname(text)
		switch direct(own != "", a.env.Kept.By("/"+etcHostname) != "", err == nil) {
		case stay:
			return "as the base has it", nil
		case adopt:
			if own == stored {
				return "kept", nil
			}
			return "from the kept /etc", a.store.write(storedHostname, []byte(own+"\n"), 0o600)
		}
		name, what = stored, "kept"
	default:
		return "as the base has it", nil
	}
	var errs []error
	if text, _ := a.root.read(etcHostname, 4096); string(text) != name+"\n" {
		errs = append(errs, a.root.write(etcHostname, []byte(name+"\n"), 0o644))
	}
	// For inits that do not read the file, and for what runs before.
	return what, errors.Join(append(errs, a.env.System.SetHostname(name))...)
}

// rootHostname is the hostname that the merged root has, if it is not the base's.
func (a *applier) rootHostname() (string, error) {
	text, err := a.root.read(etcHostname, 4096)
	if err != nil {
		return "", err
	}
	if base, ok := a.base(etcHostname, 4096); ok && bytes.Equal(base, text) {
		return "", nil
	}
	name, err := parseHostname(text)
	if err != nil {
		return "", err
	}
	return name, nil
}

// hostKey reports whether a name is that of a host key of sshd, or of its public half or certificate.
func hostKey(name string) bool {
	kind, ok := strings.CutPrefix(name, "ssh_host_")
	if !ok || len(name) > 100 {
		return false
	}
	kind = strings.TrimSuffix(strings.TrimSuffix(kind, ".pub"), "-cert")
	kind, ok = strings.CutSuffix(kind, "_key")
	return ok && kind != "" && strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// keyMode is what sshd and its users want: the secret half for root alone.
func keyMode(name string) uint32 {
	if strings.HasSuffix(name, ".pub") {
		return 0o644
	}
	return 0o600
}

// hostKeys reads the host keys in a directory, by name.
func (d *dir) hostKeys(rel string) (map[string][]byte, error) {
	names, err := d.names(rel)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	keys := map[string][]byte{}
	for _, name := range names {
		if !hostKey(name) || len(keys) == mostKeys {
			continue
		}
		text, err := d.read(path.Join(rel, name), mostKey)
		if err != nil {
			return nil, err
		}
		keys[name] = text
	}
	return keys, nil
}

// putHostKeys makes the host keys in a directory these, writing what differs. An interrupted one has written some of them, each
// whole.
func (d *dir) putHostKeys(rel string, keys, now map[string][]byte, mode func(string) uint32) error {
	var errs []error
	for name := range now {
		if keys[name] == nil {
			errs = append(errs, d.remove(path.Join(rel, name)))
		}
	}
	for name, text := range keys {
		if there, ok := now[name]; !ok || !bytes.Equal(there, text) {
			errs = append(errs, d.write(path.Join(rel, name), text, mode(name)))
		}
	}
	return errors.Join(errs...)
}

// sshHostKeys hides the keys of the base, which everybody has who has the image, and puts the machine's own in their place. Where
// there are none yet, the running system makes them before sshd starts (veneer-identity-keys.service), since making one takes
// programs and time.
func (a *applier) sshHostKeys(mode Mode) (string, error) {
	if mode == Inherit {
		return "as the base has it", nil
	}
	if !a.root.exists(sshDir) {
		return "no sshd", nil
	}
	now, err := a.root.hostKeys(sshDir)
	if err != nil {
		return "", err
	}
	if mode != Persist || a.store == nil {
		if mode == Persist {
			err = ErrNoState
		}
		return "new for this boot", errors.Join(err, a.root.putHostKeys(sshDir, nil, now, keyMode))
	}
	stored, err := a.store.hostKeys(storedSSH)
	if err != nil {
		return "", err
	}
	own := a.ownKeys(now)
	switch direct(len(own) > 0, a.env.Kept.By("/"+sshDir+"/ssh_host_ed25519_key") != "", len(stored) > 0) {
	case adopt:
		return "from the kept /etc", a.store.putHostKeys(storedSSH, own, stored, secret)
	case give:
		return "kept", a.root.putHostKeys(sshDir, stored, now, keyMode)
	}
	return "to be made", a.root.putHostKeys(sshDir, nil, now, keyMode)
}

func secret(string) uint32 { return 0o600 }

// ownKeys are those of the keys that the base does not have.
func (a *applier) ownKeys(keys map[string][]byte) map[string][]byte {
	own := map[string][]byte{}
	for name, text := range keys {
		if base, ok := a.base(path.Join(sshDir, name), mostKey); !ok || !bytes.Equal(base, text) {
			own[name] = text
		}
	}
	return own
}
