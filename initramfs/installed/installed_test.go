package installed

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// debianGrub is what update-grub writes on Debian 12, shortened.
const debianGrub = `### BEGIN /etc/grub.d/10_linux ###
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux $menuentry_id_option 'gnulinux-simple-a' {
	load_video
	insmod part_gpt
	search --no-floppy --fs-uuid --set=root 5f0a
	echo	'Loading Linux 6.1.0-18-amd64 ...'
	linux	/boot/vmlinuz-6.1.0-18-amd64 root=UUID=5f0a ro  quiet
	initrd	/boot/intel-ucode.img /boot/initrd.img-6.1.0-18-amd64
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-a' {
	menuentry 'Debian GNU/Linux, with Linux 6.1.0-18-amd64 (recovery mode)' --class debian $menuentry_id_option 'gnulinux-18-recovery' {
		linux	/boot/vmlinuz-6.1.0-18-amd64 root=UUID=5f0a ro single
		initrd	/boot/initrd.img-6.1.0-18-amd64
	}
	menuentry 'Debian GNU/Linux, with Linux 6.1.0-9-amd64' --class debian $menuentry_id_option 'gnulinux-9' {
		linux	/boot/vmlinuz-6.1.0-9-amd64 root=UUID=5f0a ro  quiet
		initrd	/boot/initrd.img-6.1.0-9-amd64
	}
}
### BEGIN /etc/grub.d/41_custom ###
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
fi
`

const debianEntry = `# Boot Loader Specification type#1 entry
title      Debian GNU/Linux 12 (bookworm)
version    6.1.0-18-amd64
machine-id 4f2b
sort-key   debian
options    root=UUID=5f0a ro quiet
linux      /debian/6.1.0-18-amd64/linux
initrd     /debian/6.1.0-18-amd64/initrd.img-6.1.0-18-amd64
`

// system makes a tree with these files.
func system(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755), os.WriteFile(filepath.Join(root, name), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// snapshot is every file and directory of a tree.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, root)
		if d.IsDir() {
			all[name] = "directory"
			return nil
		}
		text, err := os.ReadFile(path)
		all[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// put adds entries for a kernel to each menu, with an initramfs of a few bytes.
func put(t *testing.T, s Spec) {
	t.Helper()
	menus, err := menusOf(s.Root)
	if err != nil || len(menus) == 0 {
		t.Fatalf("%d menus, %v", len(menus), err)
	}
	var all changes
	for _, m := range menus {
		if err := errors.Join(m.ready(s.Release), m.add(s, []byte("initramfs of "+s.Release), &all)); err != nil {
			t.Fatal(err)
		}
	}
	if err := append(all, s.hooks()...).carryOut(&Report{}); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsAddedIsTakenAwayByteForByte(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"GRUB":                                {grubConfig: debianGrub, "etc/kernel/postinst.d/zz-update-grub": "#!/bin/sh\n"},
		"GRUB with entries of the admin":      {grubConfig: debianGrub, grubCustom: "menuentry 'memtest' {\n\tlinux16 /memtest\n}\n", "etc/kernel/postrm.d/x": ""},
		"GRUB with an empty file":             {grubConfig: debianGrub, grubCustom: ""},
		"systemd-boot":                        {"boot/efi/loader/entries/debian.conf": debianEntry},
		"systemd-boot on a partition at /efi": {"efi/loader/entries/debian.conf": debianEntry, "efi/veneer/of-others": "x"},
		"both":                                {grubConfig: debianGrub, "boot/efi/loader/entries/debian.conf": debianEntry},
	} {
		t.Run(name, func(t *testing.T) {
			root := system(t, files)
			for _, dir := range []string{"etc/kernel/postinst.d", "etc/kernel/postrm.d"} { // that each Debian has
				if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			before := snapshot(t, root)
			s := Spec{Root: root, Release: "6.1.0-18-amd64", Command: "/usr/bin/veneer"}
			put(t, s)
			added := snapshot(t, root)
			put(t, s)
			if diff := cmp.Diff(added, snapshot(t, root)); diff != "" {
				t.Errorf("a second time something else came of it (-first +second):\n%s", diff)
			}
			dry, err := Remove(Spec{Root: root, DryRun: true})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(added, snapshot(t, root)); diff != "" {
				t.Errorf("a dry run changed (-before +after):\n%s", diff)
			}
			done, err := Remove(Spec{Root: root})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
				t.Errorf("what is left differs from what was there (-before +after):\n%s", diff)
			}
			if len(done.Changes) < 4 || cmp.Diff(done.Changes, dry.Changes) != "" {
				t.Errorf("Remove says %q, and said %q before", done.Changes, dry.Changes)
			}
			if again, err := Remove(Spec{Root: root}); err != nil || len(again.Changes) != 0 {
				t.Errorf("a second removal: %q, %v", again.Changes, err)
			}
		})
	}
}

func TestAnEntryOfGRUBIsTheDistributionsWithAnotherInitramfs(t *testing.T) {
	root := system(t, map[string]string{grubConfig: debianGrub})
	put(t, Spec{Root: root, Release: "6.1.0-9-amd64", Append: "veneer.debug"})
	put(t, Spec{Root: root, Release: "6.1.0-18-amd64", Append: "veneer.debug"})
	got, err := os.ReadFile(filepath.Join(root, grubCustom))
	if err != nil {
		t.Fatal(err)
	}
	want := `### BEGIN veneer initramfs (made this file) ###
# words: veneer.upper=tmpfs veneer.debug
menuentry 'Under an overlay (Veneer), with Linux 6.1.0-18-amd64' --class gnu-linux --class os $menuentry_id_option 'veneer' {
	load_video
	insmod part_gpt
	search --no-floppy --fs-uuid --set=root 5f0a
	echo	'Loading Linux 6.1.0-18-amd64 ...'
	linux	/boot/vmlinuz-6.1.0-18-amd64 root=UUID=5f0a ro  quiet veneer.upper=tmpfs veneer.debug
	initrd	/boot/intel-ucode.img /boot/veneer-6.1.0-18-amd64.img
}
menuentry 'Under an overlay (Veneer), with Linux 6.1.0-9-amd64' --class gnu-linux --class os $menuentry_id_option 'veneer-6.1.0-9-amd64' {
	linux	/boot/vmlinuz-6.1.0-9-amd64 root=UUID=5f0a ro  quiet veneer.upper=tmpfs veneer.debug
	initrd	/boot/veneer-6.1.0-9-amd64.img
}
### END veneer initramfs ###
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("custom.cfg (-want +got):\n%s", diff)
	}
	if _, err := Remove(Spec{Root: root, Release: "6.1.0-18-amd64"}); err != nil {
		t.Fatal(err)
	}
	got, err = os.ReadFile(filepath.Join(root, grubCustom))
	if err != nil || strings.Contains(string(got), "6.1.0-18") || !strings.Contains(string(got), "'veneer' {\n\tlinux\t/boot/vmlinuz-6.1.0-9-amd64 root=UUID=5f0a ro  quiet veneer.upper=tmpfs veneer.debug\n") {
		t.Errorf("without the newer kernel custom.cfg is (%v)\n%s", err, got)
	}
}

func TestAnEntryOfSystemdBootComesBehindTheDistributions(t *testing.T) {
	root := system(t, map[string]string{"boot/efi/loader/entries/debian.conf": debianEntry})
	put(t, Spec{Root: root, Release: "6.1.0-18-amd64", Append: "overlayroot=device:dev=LABEL=UPPER"})
	got, err := os.ReadFile(filepath.Join(root, "boot/efi/loader/entries/veneer-6.1.0-18-amd64.conf"))
	if err != nil {
		t.Fatal(err)
	}
	want := `title Debian GNU/Linux 12 (bookworm) under an overlay (Veneer)
version 6.1.0-18-amd64
machine-id 4f2b
sort-key debian-veneer
options root=UUID=5f0a ro quiet overlayroot=device:dev=LABEL=UPPER
linux /debian/6.1.0-18-amd64/linux
initrd /veneer/6.1.0-18-amd64/initramfs.img
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("the entry (-want +got):\n%s", diff)
	}
}

func TestWhatCannotBeAddedIsRefusedBeforeAnythingIsDone(t *testing.T) {
	for name, c := range map[string]struct {
		files   map[string]string
		release string
		want    string
	}{
		"no boot loader":                  {map[string]string{"etc/fstab": ""}, "6.1.0-18-amd64", "-o FILE"},
		"GRUB without custom.cfg":         {map[string]string{grubConfig: strings.ReplaceAll(debianGrub, "custom.cfg", "x")}, "6.1.0-18-amd64", "41_custom"},
		"a kernel that is in no menu":     {map[string]string{grubConfig: debianGrub}, "6.1.0-1-amd64", "update-grub"},
		"systemd-boot without a sort-key": {map[string]string{"efi/loader/entries/debian.conf": strings.ReplaceAll(debianEntry, "sort-key", "#")}, "6.1.0-18-amd64", "sort-key"},
		"a root on LVM":                   {map[string]string{grubConfig: debianGrub, "etc/fstab": "/dev/mapper/vg-root / ext4 defaults 0 1\n"}, "6.1.0-18-amd64", "LVM"},
		"a /usr of its own":               {map[string]string{grubConfig: debianGrub, "etc/fstab": "UUID=1 / ext4 defaults 0 1\nUUID=2 /usr ext4 defaults 0 1\n"}, "6.1.0-18-amd64", "/usr"},
		"a root that fstab does not name": {map[string]string{grubConfig: debianGrub}, "6.1.0-18-amd64", "--device"},
		"a fstab without a root":          {map[string]string{grubConfig: debianGrub, "etc/fstab": "UUID=2 /home ext4 defaults 0 1\n"}, "6.1.0-18-amd64", "--device"},
		"a file system that cannot be":    {map[string]string{grubConfig: debianGrub, "etc/fstab": "UUID=1 / zfs defaults 0 1\n"}, "6.1.0-18-amd64", "zfs"},
		"a kernel that is not there":      {map[string]string{grubConfig: debianGrub, "etc/fstab": "UUID=1 / ext4 defaults 0 1\n", "boot/vmlinuz-6.1.0-9-amd64": ""}, "6.1.0-18-amd64", "the kernels of this system: 6.1.0-9-amd64"},
	} {
		t.Run(name, func(t *testing.T) {
			root := system(t, c.files)
			before := snapshot(t, root)
			_, err := Add(t.Context(), Spec{Root: root, Release: c.release})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Add() = %v, want a refusal with %q", err, c.want)
			}
			if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
				t.Errorf("and something was changed:\n%s", diff)
			}
		})
	}
}

func TestWordsThatAMenuOrTheInitWouldNotTakeAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		words, want string
		shell       bool
	}{
		"none":                           {"", "", false},
		"a word of ours":                 {"veneer.debug quiet", "", false},
		"an upper on a device":           {"veneer.upper=persistent veneer.state=LABEL=UPPER", "", false},
		"overlayroot":                    {"overlayroot=device:dev=LABEL=UPPER,recurse=0 systemd.unit=a@b:c.target", "", false},
		"a shell that is there":          {"veneer.break=switch-root", "", true},
		"a line of its own":              {"a\nmenuentry evil {\nreboot\n}", `does not take '\n'`, false},
		"a tab":                          {"a\tb", "does not take", false},
		"a command":                      {"quiet; reboot", "does not take ';'", false},
		"a quote without its other half": {"it's", "does not take", false},
		"double quotes":                  {`x="a b"`, "does not take", false},
		"a variable":                     {"x=$root", "does not take '$'", false},
		"a backslash":                    {`a\b`, "does not take", false},
		"braces":                         {"{ }", "does not take '{'", false},
		"a remark":                       {"a #b", "does not take '#'", false},
		"a parameter that is none":       {"veneer.junk=1", "no such parameter", false},
		"a value that is none":           {"veneer.upper=tmpfs:size=no", "veneer.upper", false},
		"the network":                    {"veneer.url=http://x/", "no network", false},
		"no overlay":                     {"overlayroot=disabled", "nothing says what the upper is", false},
		"an encrypted overlay":           {"overlayroot=crypt:dev=/dev/sda3", "encrypted upper", false},
		"an upper that is kept nowhere":  {"veneer.upper=persistent", "veneer.state=DEVICE", false},
		"an upper in the store":          {"veneer.upper=persistent veneer.state=store", "veneer.state=DEVICE", false},
		"a medium of others":             {"boot=live", "names a medium", false},
		"a shell that is not there":      {"veneer.on-fail=shell", "--rescue-shell", false},
		"a stop without a shell":         {"veneer.break=switch-root", "--rescue-shell", false},
	} {
		t.Run(name, func(t *testing.T) {
			root := system(t, map[string]string{grubConfig: debianGrub})
			before := snapshot(t, root)
			s := Spec{Root: root, Release: "6.1.0-18-amd64", Append: c.words, Shell: c.shell}
			if err := s.checkWords(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("checkWords() = %v, want %q", err, c.want)
			}
			if _, err := Add(t.Context(), s); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Add() = %v, want %q", err, c.want)
			}
			if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
				t.Errorf("and something was changed:\n%s", diff)
			}
		})
	}
}

func TestABrokenMarkIsNotGuessedAt(t *testing.T) {
	root := system(t, map[string]string{grubConfig: debianGrub, grubCustom: grubBegin + "menuentry 'x' {\n"})
	if _, err := Remove(Spec{Root: root}); err == nil || !strings.Contains(err.Error(), "mend the file") {
		t.Errorf("Remove() = %v, want a refusal", err)
	}
}

func TestARootWhoseFileSystemNothingTellsIsRefusedWithARemedy(t *testing.T) {
	root := system(t, map[string]string{"etc/fstab": "# empty\n"})
	if _, err := rootOf(Spec{Root: root, Device: "LABEL=root"}); err == nil || !strings.Contains(err.Error(), "give it one (LABEL=root / ext4 ") {
		t.Errorf("rootOf() = %v, want the line that is missing", err)
	}
}

func TestTheSubvolumeOfFstabIsPartOfTheRoot(t *testing.T) {
	root := system(t, map[string]string{"etc/fstab": "# made by the installer\nUUID=5f0a / btrfs defaults,subvol=@rootfs 0 0\nUUID=5f0a /home btrfs subvol=@home 0 0\n"})
	got, err := rootOf(Spec{Root: root})
	if err != nil || got.ref != "UUID=5f0a:/@rootfs" || got.fsType != "btrfs" {
		t.Errorf("the root is %+v, %v", got, err)
	}
}

func TestTheDriversOfADiskAreThoseOnTheWayToItsBus(t *testing.T) {
	sys := t.TempDir()
	disk := "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1"
	for _, dir := range []string{disk, "dev/block", "module/ahci", "module/sd_mod", "bus/pci/drivers/ahci", "bus/scsi/drivers/sd"} {
		if err := os.MkdirAll(filepath.Join(sys, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"dev/block/8:1":                          filepath.Join(sys, disk),
		"bus/pci/drivers/ahci/module":            filepath.Join(sys, "module/ahci"),
		"bus/scsi/drivers/sd/module":             filepath.Join(sys, "module/sd_mod"),
		"devices/pci0000:00/0000:00:1f.2/driver": filepath.Join(sys, "bus/pci/drivers/ahci"),
		"devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/driver": filepath.Join(sys, "bus/scsi/drivers/sd"),
	} {
		if err := os.Symlink(to, filepath.Join(sys, link)); err != nil {
			t.Fatal(err)
		}
	}
	if got := driversOf(sys, "8:1"); cmp.Diff([]string{"sd_mod", "ahci"}, got) != "" {
		t.Errorf("drivers %q", got)
	}
}

func TestKernelsAreInTheOrderOfTheirVersions(t *testing.T) {
	root := system(t, map[string]string{"boot/vmlinuz-6.1.0-9-amd64": "", "boot/vmlinuz-6.1.0-18-amd64": "", "boot/vmlinuz-5.10.0-30-amd64": "", "boot/vmlinuz-6.1.0-18-cloud-amd64": ""})
	if diff := cmp.Diff([]string{"5.10.0-30-amd64", "6.1.0-9-amd64", "6.1.0-18-amd64", "6.1.0-18-cloud-amd64"}, Kernels(root)); diff != "" {
		t.Error(diff)
	}
}
