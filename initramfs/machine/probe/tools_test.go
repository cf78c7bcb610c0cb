package probe

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const (
	someUUID = "0f1e2d3c-4b5a-4978-8697-a5b4c3d2e1f0"
	mib      = 1 << 20
)

// recipe makes an image with the real tools. FILE stands for it, TREE for a small directory, SIZE is made before.
type recipe struct {
	name  string
	size  int64
	steps [][]string
	bulk  func(off int64) bool // key material and the like, which a sample need not keep
	patch func(t *testing.T, file string)
}

func fileSystems() []recipe {
	ext := func(words ...string) [][]string {
		return [][]string{append(append([]string{"mke2fs", "-q", "-F", "-U", someUUID}, words...), "FILE")}
	}
	fat := func(words ...string) [][]string {
		return [][]string{append(append([]string{"mkfs.vfat", "-i", "12ab34cd"}, words...), "FILE")}
	}
	iso := func(words ...string) [][]string {
		return [][]string{append(append([]string{"xorriso", "-as", "mkisofs", "--modification-date=2026010203040506", "-o", "FILE"}, words...), "TREE")}
	}
	luks := func(words ...string) [][]string {
		return [][]string{append(append([]string{"cryptsetup", "luksFormat", "-q", "--uuid", someUUID, "--key-file", "KEY", "--pbkdf", "pbkdf2",
			"--pbkdf-force-iterations", "1000"}, words...), "FILE")}
	}
	keys := func(off int64) bool { return off >= 1024 }
	return []recipe{
		{name: "ext4", size: 8 * mib, steps: ext("-t", "ext4", "-L", "VENEER")},
		{name: "ext4-longest-label", size: 8 * mib, steps: ext("-t", "ext4", "-L", "sixteen bytes ok")},
		{name: "ext4-non-ascii-label", size: 8 * mib, steps: ext("-t", "ext4", "-L", "Größe ½ x")},
		{name: "ext4-small-blocks", size: 8 * mib, steps: ext("-t", "ext4", "-b", "1024", "-O", "bigalloc")},
		{name: "ext4-large-blocks", size: 64 * mib, steps: ext("-t", "ext4", "-b", "65536")},
		{name: "ext3", size: 8 * mib, steps: ext("-t", "ext3", "-L", "three")},
		{name: "ext2", size: 8 * mib, steps: ext("-t", "ext2", "-L", "two")},
		{name: "ext2-oldest", size: 8 * mib, steps: ext("-t", "ext2", "-r", "0", "-O", "none")},
		{name: "jbd", size: 8 * mib, steps: ext("-O", "journal_dev", "-b", "4096", "-L", "log")},
		{name: "btrfs", size: 128 * mib, steps: [][]string{{"mkfs.btrfs", "-q", "-U", someUUID, "-L", "a store " + strings.Repeat("ö", 60), "FILE"}}},
		{name: "xfs", size: 300 * mib, steps: [][]string{{"mkfs.xfs", "-q", "-m", "uuid=" + someUUID, "-L", "twelve chars", "FILE"}}},
		{name: "xfs-old", size: 300 * mib, steps: [][]string{{"mkfs.xfs", "-q", "-m", "crc=0,uuid=" + someUUID, "-n", "ftype=0", "FILE"}}},
		{name: "fat12", size: 2 * mib, steps: fat("-F12", "-n", "FLOPPY")},
		{name: "fat16", size: 20 * mib, steps: fat("-F16", "-n", "WITH SPACE")},
		{name: "fat32", size: 40 * mib, steps: fat("-F32", "-n", "ELEVENCHARS")},
		{name: "fat32-no-label", size: 40 * mib, steps: fat("-F32")},
		{name: "fat32-oem-label", size: 40 * mib, steps: fat("-F32", "-n", "ABC"), patch: replaceAll("ABC        ", "\x8eB\xe1        ")},
		{name: "fat32-label-in-boot-sector-only", size: 40 * mib, steps: fat("-F32", "-n", "STALE"), patch: replaceAll("STALE      \x08", strings.Repeat("\x00", 12))},
		{name: "fat32-4k-sectors", size: 300 * mib, steps: fat("-F32", "-S", "4096", "-n", "FOURK")},
		{name: "fat32-label-in-a-later-cluster", size: 40 * mib, steps: append(fat("-F32", "-s", "1", "-n", "BURIED"),
			append([]string{"mcopy", "-i", "FILE"}, append(manyNames(40), "::")...)), patch: buryLabel},
		{name: "iso9660", steps: iso("-V", "VENEER")},
		{name: "iso9660-joliet", steps: iso("-V", "Mixed Case and longer than J", "-J", "-R")},
		{name: "iso9660-joliet-non-ascii", steps: iso("-V", "Größe é", "-J")},
		{name: "iso9660-joliet-of-another-case", steps: iso("-V", "Live_System of a long_name, ok", "-J"), patch: upperPrimary},
		{name: "iso9660-hybrid", steps: iso("-V", "HYBRID", "-partition_offset", "16", "-G", "MBR", "--protective-msdos-label")},
		{name: "squashfs", steps: [][]string{{"mksquashfs", "TREE", "FILE", "-quiet", "-no-progress"}}},
		{name: "erofs", steps: [][]string{{"mkfs.erofs", "-T0", "-U", someUUID, "FILE", "TREE"}}, patch: erofsLabel},
		{name: "luks1", size: 4 * mib, steps: luks("--type", "luks1"), bulk: keys},
		{name: "luks2", size: 20 * mib, steps: luks("--type", "luks2", "--label", "a secret store"), bulk: keys},
		{name: "swap", size: 2 * mib, steps: [][]string{{"mkswap", "-q", "-U", someUUID, "-L", "swap here", "FILE"}}},
		{name: "swap-16k-pages", size: 2 * mib, steps: [][]string{{"mkswap", "-q", "-p", "16384", "-U", someUUID, "FILE"}}},
		{name: "nothing", size: 2 * mib},
		{name: "gpt", size: 4 * mib, steps: [][]string{{"sfdisk", "-q", "FILE", "SCRIPT:label: gpt\nlabel-id: " + someUUID + "\nsize=1M, uuid=" + someUUID}}},
		{name: "dos", size: 4 * mib, steps: [][]string{{"sfdisk", "-q", "FILE", "SCRIPT:label: dos\nlabel-id: 0x1234abcd\nsize=1M"}}},
		{name: "ext4-over-btrfs", size: 128 * mib, steps: [][]string{{"mkfs.btrfs", "-q", "-U", someUUID, "FILE"}}, patch: graft("ext4")},
		{name: "squashfs-over-swap", size: 4 * mib, steps: [][]string{{"mkswap", "-q", "-U", someUUID, "FILE"}}, patch: graft("squashfs")},
	}
}

func TestSniffAgreesWithBlkidOnWhatTheToolsMake(t *testing.T) {
	for _, r := range fileSystems() {
		t.Run(r.name, func(t *testing.T) {
			file := r.make(t)
			s := loadFile(t, file)
			got := sniffed(s)
			want := blkid(t, file)
			if got != want {
				t.Errorf("Sniff() =\n%sblkid:\n%s", got, want)
			}
			if *update {
				s.trim(r.bulk)
				prefix := "good-"
				if want == "ambiguous\n" {
					prefix = "bad-"
				}
				s.write(t, prefix+r.name, want)
			}
		})
	}
}

// sniffed spells what Sniff answers as blkid below does.
func sniffed(s *sample) string {
	c, err := Sniff(s, s.size)
	switch {
	case errors.Is(err, ErrAmbiguous):
		return "ambiguous\n"
	case err != nil:
		return fmt.Sprintf("error %v\n", err)
	}
	return fmt.Sprintf("type %q\nlabel %q\nuuid %q\n", c.Type, c.Label, c.UUID)
}

// blkid asks libblkid, in the one output format that escapes without loss.
func blkid(t *testing.T, file string) string {
	t.Helper()
	need(t, "blkid")
	out, err := exec.Command("blkid", "-p", "-o", "udev", file).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 8 {
		return "ambiguous\n"
	} else if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 2) {
		t.Fatalf("blkid: %v", err)
	}
	said := map[string]string{}
	for _, line := range strings.Split(string(out), "\n") {
		key, value, _ := strings.Cut(line, "=")
		said[key] = unescape(t, value)
	}
	if said["ID_FS_AMBIVALENT"] != "" {
		return "ambiguous\n"
	}
	kind := said["ID_FS_TYPE"]
	switch kind {
	case "":
		kind = said["ID_PART_TABLE_TYPE"]
	case "ext2", "ext3":
		kind = "ext4" // what mounts it
	}
	return fmt.Sprintf("type %q\nlabel %q\nuuid %q\n", kind, said["ID_FS_LABEL_ENC"], said["ID_FS_UUID_ENC"])
}

func unescape(t *testing.T, s string) string {
	t.Helper()
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		n, err := strconv.ParseUint(s[i+2:i+4], 16, 8)
		if err != nil {
			t.Fatalf("blkid said %q: %v", s, err)
		}
		b.WriteByte(byte(n))
		i += 3
	}
	return b.String()
}

func (r recipe) make(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	file, tree, key, mbr := filepath.Join(dir, "image"), filepath.Join(dir, "tree"), filepath.Join(dir, "key"), filepath.Join(dir, "mbr")
	write(t, key, "open sesame")
	write(t, mbr, strings.Repeat("\xf4", 432))
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(tree, "file"), "content\n")
	for _, name := range manyNames(40) {
		write(t, filepath.Join(dir, name), "x")
	}
	if r.size > 0 {
		write(t, file, "")
		if err := os.Truncate(file, r.size); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range r.steps {
		need(t, step[0])
		words := strings.Split(strings.NewReplacer("FILE", file, "TREE", tree, "KEY", key, "MBR", mbr).Replace(strings.Join(step[1:], "\x00")), "\x00")
		cmd := exec.Command(step[0], words...)
		if script, ok := strings.CutPrefix(words[len(words)-1], "SCRIPT:"); ok {
			cmd = exec.Command(step[0], words[:len(words)-1]...)
			cmd.Stdin = strings.NewReader(script)
		}
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1767225600", "TZ=UTC")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
		}
	}
	if r.patch != nil {
		r.patch(t, file)
	}
	return file
}

// need skips a test whose program is missing.
func need(t *testing.T, program string) {
	t.Helper()
	packages := map[string]string{"mke2fs": "e2fsprogs", "mkfs.btrfs": "btrfs-progs", "mkfs.xfs": "xfsprogs", "mkfs.vfat": "dosfstools",
		"mcopy": "mtools", "xorriso": "xorriso", "mksquashfs": "squashfs-tools", "mkfs.erofs": "erofs-utils", "cryptsetup": "cryptsetup-bin",
		"mkswap": "util-linux", "blkid": "util-linux", "sfdisk": "fdisk", "partx": "util-linux"}
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed; apt-get install %s", program, packages[program])
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func loadFile(t *testing.T, file string) *sample {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := load(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("F%07d.TXT", i)
	}
	return names
}
