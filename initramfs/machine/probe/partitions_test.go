package probe

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/go-cmp/cmp"
)

// tables are disks with partition tables, made by sfdisk.
func tables() []recipe {
	sfdisk := func(script string) [][]string { return [][]string{{"sfdisk", "-q", "FILE", "SCRIPT:" + script}} }
	const gptHead = "label: gpt\nlabel-id: " + someUUID + "\n"
	return []recipe{
		{name: "table-gpt", size: 8 * mib, steps: sfdisk(gptHead +
			"size=1M, uuid=" + someUUID + ", name=\"a store\"\n4: size=2M, uuid=01234567-89ab-cdef-0123-456789abcdef, name=\"Größe €\"\n")},
		{name: "table-gpt-longest-name", size: 4 * mib, steps: sfdisk(gptHead + "size=1M, uuid=" + someUUID + ", name=\"" + strings.Repeat("n", 36) + "\"\n")},
		{name: "table-gpt-first-damaged", size: 4 * mib, steps: sfdisk(gptHead + "size=1M, uuid=" + someUUID + ", name=\"saved by the backup\"\n"),
			patch: func(t *testing.T, file string) { edit(t, file, func(b []byte) { b[1024+40]++ }) }},
		{name: "table-mbr", size: 4 * mib, steps: sfdisk("label: dos\nlabel-id: 0x0034abcd\nsize=1M\n3: size=1M, bootable\n")},
		{name: "table-mbr-logical", size: 16 * mib, steps: sfdisk("label: dos\nlabel-id: 0x1234abcd\nsize=1M\nsize=12M, type=f\n" +
			strings.Repeat("size=1M\n", 5))},
		{name: "table-mbr-without-id", size: 4 * mib, steps: sfdisk("label: dos\nlabel-id: 0x00000000\nsize=1M\n")},
		{name: "table-none", size: 4 * mib},
		{name: "table-none-but-fat", size: 4 * mib, steps: [][]string{{"mkfs.vfat", "-i", "12ab34cd", "FILE"}}},
	}
}

func TestPartitionsAgreeWithPartxOnWhatTheToolsMake(t *testing.T) {
	for _, r := range tables() {
		t.Run(r.name, func(t *testing.T) {
			file := r.make(t)
			s := loadFile(t, file)
			got, want := listed(s), partx(t, file)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Partitions() differs from partx (-want +got):\n%s", diff)
			}
			if *update {
				const backup = 33 * 512 // of a GPT, kept for the tests that damage the first
				if _, err := s.ReadAt(make([]byte, backup), s.size-backup); err != nil {
					t.Fatal(err)
				}
				s.trim(nil)
				s.write(t, r.name, want)
			}
		})
	}
}

// listed spells what Partitions answers as partx below does.
func listed(s *sample) string {
	parts, err := Partitions(s, s.size, 512)
	if errors.Is(err, ErrNoTable) {
		return "no table\n"
	} else if err != nil {
		return fmt.Sprintf("error %v\n", err)
	}
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%d name %q uuid %q start %d size %d\n", p.Number, p.Name, p.UUID, p.Start, p.Size)
	}
	return b.String()
}

func partx(t *testing.T, file string) string {
	t.Helper()
	need(t, "partx")
	out, err := exec.Command("partx", "-P", "-b", "-o", "NR,NAME,UUID,START,SECTORS", file).Output()
	if err != nil || len(out) == 0 {
		return "no table\n"
	}
	field := regexp.MustCompile(`(\w+)="([^"]*)"`)
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		v := map[string]string{}
		for _, m := range field.FindAllStringSubmatch(line, -1) {
			v[m[1]] = unescape(t, m[2])
		}
		var start, sectors int64
		fmt.Sscan(v["START"], &start)
		fmt.Sscan(v["SECTORS"], &sectors)
		fmt.Fprintf(&b, "%s name %q uuid %q start %d size %d\n", v["NR"], v["NAME"], v["UUID"], start*512, sectors*512)
	}
	return b.String()
}

func TestPartitionsReadsWhatGoDiskfsWrites(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		t.Run(fmt.Sprintf("sectors of %d bytes", sector), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.Truncate(8 * mib); err != nil {
				t.Fatal(err)
			}
			first := uint64(mib / sector)
			table := &gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true, GUID: someUUID,
				Partitions: []*gpt.Partition{{Index: 1, Start: first, End: 2*first - 1, Type: gpt.LinuxFilesystem, Name: "veneer", GUID: strings.ToUpper(someUUID)}}}
			if err := table.Write(f, 8*mib); err != nil {
				t.Fatal(err)
			}
			got, err := Partitions(f, 8*mib, sector)
			if err != nil {
				t.Fatal(err)
			}
			want := []Partition{{1, "veneer", someUUID, mib, mib}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Partitions() (-want +got):\n%s", diff)
			}
		})
	}
}
