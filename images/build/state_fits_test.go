package build

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/images"
	"veneer/initramfs"
)

// programs puts empty programs, and other files, into a tree.
func programs(t *testing.T, tree string, names ...string) {
	t.Helper()
	for _, name := range names {
		if !strings.Contains(name, "/") {
			name = "usr/sbin/" + name
		}
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	age(t, tree)
}

const (
	madeState = "state = {place = \"PARTLABEL=state\", create = true"
	tss       = "usr/lib/x86_64-linux-gnu/libtss2-"
	token     = "usr/lib/x86_64-linux-gnu/cryptsetup/libcryptsetup-token-systemd-tpm2.so"
)

func TestAStateThatTheBaseCannotMakeIsRefusedAndTheRemedyIsNamed(t *testing.T) {
	for _, c := range []struct {
		name, state string
		has         []string
		want        string // of the error; "" is none
		note        string
	}{
		{"xfs without its mkfs", madeState + `, filesystem = "xfs"}`, []string{"mkfs.ext4"}, "state.filesystem: xfs is made with mkfs.xfs", ""},
		{"the package is named", madeState + `}`, nil, "e2fsprogs", ""},
		{"with its mkfs, and no fsck", madeState + `}`, []string{"mkfs.ext4"}, "", "is checked with e2fsck of the package e2fsprogs"},
		{"with all of it", madeState + `}`, []string{"mkfs.ext4", "e2fsck"}, "", "none"},
		{"a program that is none", madeState + `}`, []string{"usr/sbin/mkfs.ext4/x"}, "mkfs.ext4", ""},
		{"encrypted without cryptsetup", madeState + `, unlock = "random"}`, []string{"mkfs.ext4"}, "state.unlock: an encrypted state is opened with cryptsetup", ""},
		{"encrypted, opened only", `state = {place = "PARTLABEL=state", unlock = "passphrase"}`, []string{"e2fsck"}, "cryptsetup-bin", ""},
		{"a TPM without the libraries", madeState + `, unlock = "tpm2"}`, []string{"mkfs.ext4", "cryptsetup", "systemd-cryptenroll", token, tss + "esys.so.0", tss + "rc.so.0", tss + "mu.so.0"},
			"libtss2-tcti-device.so, which", ""},
		{"a TPM without the handler of tokens", madeState + `, unlock = "tpm2"}`, []string{"mkfs.ext4", "cryptsetup", "systemd-cryptenroll", tss + "esys.so.0", tss + "rc.so.0", tss + "mu.so.0", tss + "tcti-device.so.0"},
			"libcryptsetup-token-systemd-tpm2.so", ""},
		{"a TPM that nobody can give a key", madeState + `, unlock = "tpm2"}`, []string{"mkfs.ext4", "cryptsetup", token, tss + "esys.so.0", tss + "rc.so.0", tss + "mu.so.0", tss + "tcti-device.so.0"},
			"systemd-cryptenroll", ""},
		{"a TPM with all of it", madeState + `, unlock = "tpm2"}`, []string{"mkfs.ext4", "e2fsck", "cryptsetup", "systemd-cryptenroll", token, tss + "esys.so.0", tss + "rc.so.0", tss + "mu.so.0", tss + "tcti-device.so.0"},
			"", "none"},
		{"what may be a stick", `state = {place = "LABEL=STICK"}`, []string{"e2fsck"}, "", "made with mkfs.ext4"},
		{"in a store that was made with it", "outputs = [\"store\"]\n" + `state = {place = "store"}`, []string{"e2fsck"}, "", "none"},
		{"none at all", "", nil, "", "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProject(t, c.state+"\n")
			programs(t, filepath.Join(p.dir, "tree"), c.has...)
			tree, err := scanDir(context.Background(), filepath.Join(p.dir, "tree"))
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			b := &builder{spec: p.spec(t, t.TempDir()), jobs: []*imageJob{{role: images.RoleBase, tree: tree}}}
			switch err := b.stateFits(); {
			case c.want == "" && err != nil:
				t.Errorf("it is refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			switch notes := strings.Join(b.report.Notes, "\n"); {
			case c.note == "none" && notes != "":
				t.Errorf("notes %q, want none", notes)
			case c.note != "none" && !strings.Contains(notes, c.note):
				t.Errorf("notes %q, want one with %q", notes, c.note)
			}
		})
	}
}

func TestAKernelThatCannotOpenTheStateIsRefused(t *testing.T) {
	const at = "usr/lib/modules/6.1.0-test/"
	const random = madeState + `, unlock = "random"}` + "\n"
	list := func(names string) string { return "kernel.modules = {policy = \"list\", list = [" + names + "]}\n" }
	for _, c := range []struct {
		name, more    string
		modules, tree []string
		want          string
	}{
		{"dm_crypt nowhere", random, []string{"ext4"}, nil, "state.unlock: kernel 6.1.0-test has dm_crypt neither as a module nor built in"},
		{"dm_crypt not in the base", random, []string{"ext4", "dm-crypt"}, nil, "does not have it in /lib/modules/6.1.0-test"},
		{"in a base without a modules.dep", random, []string{"ext4", "dm-crypt"}, []string{at + "kernel/dm-crypt.ko", "modprobe"}, "modules.dep"},
		{"in a base without modprobe", random, []string{"ext4", "dm-crypt"}, []string{at + "kernel/dm-crypt.ko", at + "modules.dep"}, "kmod"},
		{"in the base", random, []string{"ext4", "dm-crypt"}, []string{at + "kernel/dm-crypt.ko.xz", at + "modules.dep", "modprobe"}, ""},
		{"its cipher not in the base", random, []string{"ext4", "dm-crypt", "xts"}, []string{at + "kernel/dm-crypt.ko.xz", at + "modules.dep", "modprobe"}, "the module xts"},
		{"named for the initramfs", random + list(`"dm-crypt", "xts"`), []string{"ext4", "dm-crypt", "xts"}, nil, ""},
		{"xfs is not in a list", madeState + `, filesystem = "xfs"}` + "\n" + list(""), []string{"xfs"}, nil, "state.filesystem: the module xfs"},
		{"xfs is in the generic initramfs", madeState + `, filesystem = "xfs"}` + "\n", []string{"xfs"}, nil, ""},
		{"nothing is asked of it", "", nil, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProject(t, "")
			text := strings.Replace(string(read(t, filepath.Join(p.dir, "veneer.toml"))), `kernel = {from = "kernel"}`, `kernel.from = "kernel"`, 1)
			write(t, filepath.Join(p.dir, "veneer.toml"), text+c.more)
			modules := filepath.Join(p.dir, "modules")
			for _, m := range c.modules {
				programs(t, modules, "kernel/"+m+".ko")
			}
			programs(t, filepath.Join(p.dir, "tree"), c.tree...)
			programs(t, modules, "kernel/other.ko")
			tree, err := scanDir(context.Background(), filepath.Join(p.dir, "tree"))
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			b := &builder{spec: p.spec(t, t.TempDir()), jobs: []*imageJob{{role: images.RoleBase, tree: tree}}}
			if b.kernel, err = initramfs.OpenKernelImage(filepath.Join(p.dir, "kernel"), modules); err != nil {
				t.Fatal(err)
			}
			defer b.kernel.Close()
			switch err := b.kernelFits(); {
			case c.want == "" && err != nil:
				t.Errorf("it is refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestWhatIsSaidOfTheMakingOfAStateMeansSomething(t *testing.T) {
	for state, want := range map[string]string{
		`place = "store", create = true`:                                               "state.create: the state is a directory of the store",
		`place = "store", missing = "create"`:                                          "state.missing: the state is a directory of the store",
		`place = "store", filesystem = "xfs"`:                                          "state.filesystem: the state lies in the file system of the store",
		`place = "LABEL=x", create = true`:                                             "nothing that is empty has a LABEL",
		`place = "UUID=12-34", missing = "create"`:                                     "state.missing: nothing that is empty has a UUID",
		`place = "PARTLABEL=state", create = true, grow = true, size = "40M"`:          "state.size: state.grow makes the partition larger",
		`place = "store", grow = true, size = "40M"`:                                   "", // of the store's image; and what a machine has
		`place = "LABEL=x", grow = true`:                                               "",
		`place = "PARTLABEL=state", create = true, size = "40M", filesystem = "btrfs"`: "",
	} {
		_, err := ParseConfig("veneer.toml", []byte("name = \"a\"\nversion = \"1\"\nsource = \"s\"\nkeys.secret = \"k\"\nstate = {"+state+"}\n"))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", state, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "veneer.toml:")):
			t.Errorf("%s: %v; want an error with %q and its line", state, err, want)
		}
	}
}
