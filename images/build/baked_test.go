package build

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bakedTree is a tree with one of each, and beside it what must not be taken for it.
var bakedTree = map[string]string{
	"etc/machine-id":                                           "0123456789abcdef0123456789abcdef\n",
	"var/lib/dbus/machine-id":                                  "0123456789abcdef0123456789abcdef\n",
	"etc/ssh/ssh_host_ed25519_key":                             "secret",
	"etc/ssh/ssh_host_ed25519_key.pub":                         "public",
	"etc/ssh/sshd_config":                                      "HostKey /etc/ssh/ssh_host_rsa_key\n",
	"var/lib/systemd/random-seed":                              "seed",
	"boot/efi/loader/random-seed":                              "seed",
	"etc/shadow":                                               "root:$y$j9T$x:1::::::\ndaemon:*:1::::::\nguest::1::::::\nlocked:!$y$j9T$x:1::::::\n",
	"etc/passwd":                                               "root:x:0:0::/root:/bin/sh\n",
	"var/lib/dhcp/dhclient.eth0.leases":                        "lease {\n}\n",
	"var/lib/dhcp/dhclient.empty.leases":                       "# nothing\n",
	"var/lib/NetworkManager/secret_key":                        "nm-v2:x",
	"etc/NetworkManager/system-connections/shop.nmconnection":  "[wifi-security]\npsk=hunter2\n",
	"etc/NetworkManager/system-connections/wired.nmconnection": "[ethernet]\n# psk=none\n",
	"var/lib/systemd/credential.secret":                        "secret",
	"etc/hostid":                                               "\x01\x02\x03\x04",
	"etc/iscsi/initiatorname.iscsi":                            "## comment\nInitiatorName=iqn.1993-08.org.debian:01:x\n",
	"etc/ssl/private/ssl-cert-snakeoil.key":                    "secret",
	"usr/share/doc/etc/machine-id":                             "0123456789abcdef0123456789abcdef\n",
}

const bakedFound = `credential-secret: /var/lib/systemd/credential.secret
dbus-id: /var/lib/dbus/machine-id
host-id: /etc/hostid
iscsi-name: /etc/iscsi/initiatorname.iscsi
leases: /var/lib/dhcp/dhclient.eth0.leases
machine-id: /etc/machine-id
network-secret: /var/lib/NetworkManager/secret_key
passwords: /etc/shadow (a hash of root; no password is needed for guest)
random-seed: /boot/efi/loader/random-seed /var/lib/systemd/random-seed
ssh-host-keys: /etc/ssh/ssh_host_ed25519_key
tls-keys: /etc/ssl/private/ssl-cert-snakeoil.key
wifi: /etc/NetworkManager/system-connections/shop.nmconnection
`

// inDirectory and inArchive are the two kinds of source.
func inDirectory(t *testing.T, files map[string]string) *Tree {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), text)
	}
	tree, err := scanDir(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func inArchive(t *testing.T, files map[string]string) *Tree {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "tree.tar")
	write(t, name, b.String())
	tree, err := scanTar(context.Background(), name, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestWhatIsBakedInIsFoundInADirectoryAndInAnArchive(t *testing.T) {
	for name, source := range map[string]func(*testing.T, map[string]string) *Tree{"directory": inDirectory, "archive": inArchive} {
		t.Run(name, func(t *testing.T) {
			tree := source(t, bakedTree)
			defer tree.Close()
			reports, err := tree.bakedIn()
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, r := range reports {
				got += fmt.Sprintf("%s: %s\n", r.Kind, strings.Join(r.First, " "))
				if r.Means == "" || baked[r.Kind].remedy == "" || r.Count != len(r.First) {
					t.Errorf("%+v", r)
				}
			}
			if diff := cmp.Diff(bakedFound, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestACleanTreeHasNothingBakedIn(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"empty files":        {"etc/machine-id": "", "var/lib/dbus/machine-id": "", "etc/hostid": "", "var/lib/systemd/random-seed": ""},
		"the word":           {"etc/machine-id": "uninitialized\n"},
		"locked accounts":    {"etc/shadow": "root:*:1::::::\nx:!:1::::::\ny:!*:1::::::\nz:!!:1::::::\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\nbin:*:1:1::/:\n"},
		"a generated name":   {"etc/iscsi/initiatorname.iscsi": "GenerateName=yes\n"},
		"an open wifi":       {"etc/NetworkManager/system-connections/open": "[wifi]\nssid=open\n"},
		"public halves only": {"etc/ssh/ssh_host_rsa_key.pub": "public"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := inDirectory(t, files)
			defer tree.Close()
			if got, err := tree.bakedIn(); err != nil || len(got) != 0 {
				t.Errorf("bakedIn() = %+v, %v", got, err)
			}
		})
	}
}

func TestStrictRefusesWhatIsNotAllowed(t *testing.T) {
	tree := inDirectory(t, map[string]string{"etc/hostid": "1234", "etc/shadow": "root:$6$x:1::::::\n"})
	defer tree.Close()
	reports, err := tree.bakedIn()
	if err != nil {
		t.Fatal(err)
	}
	if err := judgeBaked("tree", reports, IdentityConfig{}); err != nil {
		t.Errorf("without strict: %v", err)
	}
	if err := judgeBaked("tree", reports, IdentityConfig{Strict: true, Allow: []Baked{BakedHostID, BakedPasswords}}); err != nil {
		t.Errorf("all of it allowed: %v", err)
	}
	err = judgeBaked("tree", reports, IdentityConfig{Strict: true, Allow: []Baked{BakedPasswords}})
	want := `tree holds what each machine should have of its own (identity.strict):
  host-id: /etc/hostid
    -> all machines are the same to ZFS, which then does not notice a pool that is in use elsewhere: remove it; or add "host-id" to identity.allow`
	if err == nil || err.Error() != want {
		t.Errorf("judgeBaked() = %v, want %s", err, want)
	}
}

func TestANoteIsCalm(t *testing.T) {
	var b strings.Builder
	r := Report{Baked: []ImageBaked{{"base", []BakedReport{{BakedPasswords, baked[BakedPasswords].means, 2, []string{"/etc/shadow (a hash of root)", "/etc/passwd"}}}}}}
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := "note       passwords in base, /etc/shadow (a hash of root) and 1 more: whoever has the image can try to guess them, once for all machines\n"
	if !strings.Contains(b.String(), want) {
		t.Errorf("got %swant %s", b.String(), want)
	}
}

func FuzzPasswordHashes(f *testing.F) {
	f.Add([]byte(bakedTree["etc/shadow"]))
	f.Add([]byte("::\n:\n\x00:\x00:x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if what, ok := passwordHashes(text); ok != (what != "") || strings.ContainsAny(what, "\n\r\x00") {
			t.Errorf("passwordHashes(%q) = %q, %t", text, what, ok)
		}
	})
}
