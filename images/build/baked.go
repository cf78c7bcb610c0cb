package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Baked names what a machine should have alone, and every machine has that boots the image. It is told, and it is an error where
// identity.strict is set.
type Baked string

// What is looked for.
const (
	BakedMachineID  Baked = "machine-id"
	BakedDBusID     Baked = "dbus-id"
	BakedHostKeys   Baked = "ssh-host-keys"
	BakedSeed       Baked = "random-seed"
	BakedPasswords  Baked = "passwords"
	BakedLeases     Baked = "leases"
	BakedNetwork    Baked = "network-secret"
	BakedWifi       Baked = "wifi"
	BakedCredential Baked = "credential-secret"
	BakedHostID     Baked = "host-id"
	BakedISCSI      Baked = "iscsi-name"
	BakedTLS        Baked = "tls-keys"
)

// baked says what it means that all machines have the same, and what can be done about it.
var baked = map[Baked]struct{ means, remedy string }{
	BakedMachineID: {"all machines are the same one to DHCP servers, the journal and fleet managers where identity.machine-id is inherit",
		"leave the word uninitialized, or nothing, in /etc/machine-id"},
	BakedDBusID: {"systemd takes it for the machine-id of a first boot", "remove it, or make it a link to /etc/machine-id"},
	BakedHostKeys: {"whoever has the image has the secret keys; the machines hide them where identity.ssh-host-keys is not inherit",
		"remove them: rm etc/ssh/ssh_host_*"},
	BakedSeed:       {"it is known to whoever has the image; it is never credited", "remove it"},
	BakedPasswords:  {"whoever has the image can try to guess them, once for all machines", "lock the account with passwd -l, and log in by key"},
	BakedLeases:     {"all machines ask for the same address", "remove them"},
	BakedNetwork:    {"all machines make the same stable addresses of it", "remove it: NetworkManager makes another"},
	BakedWifi:       {"whoever has the image has the pass phrase", "let the site bring it: identity.network-manager = \"persist\""},
	BakedCredential: {"whoever has the image can read what systemd-creds encrypted with it", "remove it: systemd makes another"},
	BakedHostID:     {"all machines are the same to ZFS, which then does not notice a pool that is in use elsewhere", "remove it"},
	BakedISCSI:      {"all machines are the same initiator to a target", "remove it, or write GenerateName=yes"},
	BakedTLS:        {"whoever has the image has the secret key", "remove it, and have the machine make its own: make-ssl-cert generate-default-snakeoil"},
}

// bakedFiles say where to look, by directory: names with the wildcards of path.Match, and what tells a file that counts from one
// that does not; nil is any that is not empty. what describes the finding and may be empty.
var bakedFiles = map[string][]struct {
	name  string
	kind  Baked
	holds func(text []byte) (what string, ok bool)
}{
	"etc": {{"machine-id", BakedMachineID, initializedID}, {"shadow", BakedPasswords, passwordHashes}, {"passwd", BakedPasswords, passwordHashes},
		{"hostid", BakedHostID, nil}, {"dhcpcd.duid", BakedLeases, nil}},
	"etc/ssh":                               {{"ssh_host_*_key", BakedHostKeys, nil}},
	"etc/dropbear":                          {{"dropbear_*_host_key", BakedHostKeys, nil}},
	"etc/iscsi":                             {{"initiatorname.iscsi", BakedISCSI, has("InitiatorName=")}},
	"etc/ssl/private":                       {{"*.key", BakedTLS, nil}},
	"etc/pki/tls/private":                   {{"*.key", BakedTLS, nil}},
	"etc/dovecot/private":                   {{"*.key", BakedTLS, nil}, {"*.pem", BakedTLS, nil}},
	"etc/wpa_supplicant":                    {{"*.conf", BakedWifi, has("psk=", "password=")}},
	"etc/netplan":                           {{"*.yaml", BakedWifi, has("password:")}},
	"var/lib/iwd":                           {{"*.psk", BakedWifi, nil}, {"*.8021x", BakedWifi, nil}},
	"var/lib/dbus":                          {{"machine-id", BakedDBusID, initializedID}},
	"var/lib/dhcp":                          {{"*.lease*", BakedLeases, has("lease")}},
	"var/lib/dhclient":                      {{"*.lease*", BakedLeases, has("lease")}},
	"var/lib/dhcpcd":                        {{"*.lease*", BakedLeases, nil}, {"duid", BakedLeases, nil}},
	"var/lib/systemd":                       {{"random-seed", BakedSeed, nil}, {"credential.secret", BakedCredential, nil}},
	"var/lib/systemd/network":               {{"*", BakedLeases, nil}},
	"var/lib/urandom":                       {{"random-seed", BakedSeed, nil}},
	"var/lib/seedrng":                       {{"seed.*", BakedSeed, nil}},
	"var/lib":                               {{"random-seed", BakedSeed, nil}},
	"boot/loader":                           {{"random-seed", BakedSeed, nil}},
	"boot/efi/loader":                       {{"random-seed", BakedSeed, nil}},
	"efi/loader":                            {{"random-seed", BakedSeed, nil}},
	"var/lib/NetworkManager":                {{"secret_key", BakedNetwork, nil}, {"*.lease", BakedLeases, nil}},
	"etc/NetworkManager/system-connections": {{"*", BakedWifi, has("psk=", "password=", "wep-key", "leap-password=", "private-key-password=")}},
}

// maxBaked bounds what is read of a file.
const maxBaked = 1 << 20

// BakedReport tells of one kind.
type BakedReport struct {
	Kind  Baked    `json:"kind"`
	Means string   `json:"means"` // what it means that all machines have it
	Count int      `json:"count"`
	First []string `json:"first"` // paths, with what was found
}

// ImageBaked is what is baked into one image.
type ImageBaked struct {
	Image string        `json:"image"`
	Baked []BakedReport `json:"baked"`
}

// bakedIn looks for what the machines that boot this tree would share.
func (t *Tree) bakedIn() ([]BakedReport, error) {
	found := map[Baked]*BakedReport{}
	for _, e := range t.Entries {
		files, ok := bakedFiles[path.Dir(e.Path)]
		if !ok || e.kind() != unix.S_IFREG || e.Size == 0 {
			continue
		}
		for _, f := range files {
			if match, _ := path.Match(f.name, path.Base(e.Path)); !match {
				continue
			}
			what, ok := "", true
			if f.holds != nil {
				err := t.read(e, func(r io.Reader) error {
					text, err := io.ReadAll(io.LimitReader(r, maxBaked))
					what, ok = f.holds(text)
					return err
				})
				if err != nil {
					return nil, fmt.Errorf("%s: %w", quotePath(e.Path), err)
				}
			}
			if !ok {
				continue
			}
			r := found[f.kind]
			if r == nil {
				r = &BakedReport{Kind: f.kind, Means: baked[f.kind].means}
				found[f.kind] = r
			}
			if r.Count++; len(r.First) < shown {
				text := quotePath("/" + e.Path)
				if what != "" {
					text += " (" + what + ")"
				}
				r.First = append(r.First, text)
			}
		}
	}
	var reports []BakedReport
	for _, kind := range slices.Sorted(maps.Keys(found)) {
		reports = append(reports, *found[kind])
	}
	return reports, nil
}

// judgeBaked is the error of a build that wants no identity in an image, but what is allowed.
func judgeBaked(source string, reports []BakedReport, c IdentityConfig) error {
	if !c.Strict {
		return nil
	}
	var errs []error
	for _, r := range reports {
		if slices.Contains(c.Allow, r.Kind) {
			continue
		}
		lines := r.First
		if more := r.Count - len(lines); more > 0 {
			lines = append(slices.Clone(lines), fmt.Sprintf("and %d more", more))
		}
		errs = append(errs, fmt.Errorf("  %s: %s\n    -> %s: %s; or add %q to identity.allow", r.Kind, strings.Join(lines, "\n  "), r.Means, baked[r.Kind].remedy, r.Kind))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s holds what each machine should have of its own (identity.strict):\n%w", source, err)
	}
	return nil
}

func bakedNames() []string {
	var names []string
	for kind := range baked {
		names = append(names, string(kind))
	}
	slices.Sort(names)
	return names
}

// initializedID leaves out what systemd makes an ID in place of, see machine-id(5).
func initializedID(text []byte) (string, bool) {
	word := strings.TrimSpace(string(text))
	return "", word != "" && word != "uninitialized"
}

// has looks for a line that begins with one of the words and does not end there. A comment is no such line.
func has(words ...string) func([]byte) (string, bool) {
	return func(text []byte) (string, bool) {
		for line := range bytes.Lines(text) {
			line = bytes.TrimSpace(line)
			for _, w := range words {
				if bytes.HasPrefix(line, []byte(w)) && len(line) > len(w) {
					return "", true
				}
			}
		}
		return "", false
	}
}

// passwordHashes lists the accounts of passwd(5) or shadow(5) with a password, or without the need of one; a locked account has
// none that would do.
func passwordHashes(text []byte) (string, bool) {
	var with, without []string
	for line := range bytes.Lines(text) {
		fields := strings.Split(strings.TrimRight(string(line), "\r\n"), ":")
		if len(fields) < 3 || fields[0] == "" || strings.HasPrefix(fields[0], "#") {
			continue
		}
		switch hash := fields[1]; {
		case hash == "":
			without = append(without, fields[0])
		case hash != "x" && !strings.HasPrefix(hash, "!") && !strings.HasPrefix(hash, "*"):
			with = append(with, fields[0])
		}
	}
	var said []string
	if len(with) > 0 {
		said = append(said, "a hash of "+accounts(with))
	}
	if len(without) > 0 {
		said = append(said, "no password is needed for "+accounts(without))
	}
	return strings.Join(said, "; "), len(said) > 0
}

func accounts(names []string) string {
	more := ""
	if len(names) > shown {
		more = fmt.Sprintf(" and %d more", len(names)-shown)
		names = names[:shown]
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = quotePath(n)
	}
	return strings.Join(quoted, ", ") + more
}
