package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const linuxType = "0fc63daf-8483-4772-8e79-3d69d8477de4"

// table makes a disk with sfdisk, as a sparse file.
func table(t *testing.T, size int64, sector int, script string) *os.File {
	t.Helper()
	need(t, "sfdisk")
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sfdisk", "-q", device(t, f.Name(), sector))
	cmd.Stdin = strings.NewReader("label: gpt\n" + script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	return f
}

// device is what sfdisk takes for a disk with such sectors: the file, or a loop device.
func device(t *testing.T, file string, sector int) string {
	t.Helper()
	if sector == 512 {
		return file
	}
	out, err := exec.Command("losetup", "--show", "-f", "-b", fmt.Sprint(sector), file).Output()
	if err != nil {
		t.Skipf("no loop device with sectors of %d bytes: run as root: %v", sector, err)
	}
	loop := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", loop).Run() })
	return loop
}

// seen is what sfdisk says of a disk: its partitions, one a line.
func seen(t *testing.T, file string, sector int) string {
	t.Helper()
	out, err := exec.Command("sfdisk", "-J", device(t, file, sector)).Output()
	if err != nil {
		return fmt.Sprintf("sfdisk: %v", err)
	}
	var list struct {
		PartitionTable struct {
			Partitions []struct {
				Start, Size      int64
				Type, UUID, Name string
			}
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range list.PartitionTable.Partitions {
		fmt.Fprintf(&b, "%d+%d %s %q\n", p.Start*int64(sector), p.Size*int64(sector), strings.ToLower(p.UUID), p.Name)
	}
	return b.String()
}

// ours is what Partitions says, in the same words.
func ours(t *testing.T, f *os.File, size int64, sector int) string {
	t.Helper()
	parts, err := Partitions(f, size, sector)
	if err != nil {
		return fmt.Sprintf("Partitions: %v", err)
	}
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%d+%d %s %q\n", p.Start, p.Size, p.UUID, p.Name)
	}
	return b.String()
}

func verify(t *testing.T, file string, sector int) {
	t.Helper()
	out, err := exec.Command("sfdisk", "--verify", device(t, file, sector)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No errors detected") {
		t.Errorf("sfdisk --verify: %v\n%s", err, out)
	}
}

// spoil changes the bytes of a disk.
func spoil(t *testing.T, file string, change func(b []byte)) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	change(b)
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func apply(t *testing.T, f *os.File, ws []Write) {
	t.Helper()
	for _, w := range ws {
		if _, err := f.WriteAt(w.Data, w.Offset); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPartitionIsAddedAtTheEndAsSfdiskReadsIt(t *testing.T) {
	const tib = 1 << 40
	for _, tt := range []struct {
		name         string
		size, larger int64 // when the table was made, and now
		sector       int
		script       string
		want         int64 // bytes, of the partition; 0 is all
		start, got   int64
	}{
		{"all the room", 64 * mib, 64 * mib, 512, "size=10M, name=a\n", 0, 11 * mib, 52 * mib},
		{"a given size", 64 * mib, 64 * mib, 512, "size=10M\n", 5*mib - 1, 11 * mib, 5 * mib},
		{"an empty table", 64 * mib, 64 * mib, 512, "", 0, mib, 62 * mib},
		{"a gap is not the end", 64 * mib, 64 * mib, 512, "start=30M, size=10M\nstart=2M, size=1M\n", 0, 40 * mib, 23 * mib},
		{"an end that is not aligned", 64 * mib, 64 * mib, 512, "start=2048, size=4099\n", 0, 4 * mib, 59 * mib},
		{"a disk that was enlarged", 64 * mib, 256 * mib, 512, "size=10M\nsize=+\n", 0, 63 * mib, 192 * mib},
		{"sectors of 4 KiB", 64 * mib, 128 * mib, 4096, "size=10M\n", 0, 11 * mib, 116 * mib},
		{"more than 2 TiB", tib, 5 * tib, 512, "size=10M\n", 0, 11 * mib, 5*tib - 12*mib},
		{"more than 2 TiB in sectors of 4 KiB", 3 * tib, 5 * tib, 4096, "size=1T\n", 0, tib + mib, 4*tib - 2*mib},
		{"a number in between is free", 64 * mib, 64 * mib, 512, "2: size=10M\n", 0, 11 * mib, 52 * mib},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := table(t, tt.size, tt.sector, tt.script)
			if err := f.Truncate(tt.larger); err != nil {
				t.Fatal(err)
			}
			before := seen(t, f.Name(), tt.sector)
			g, err := ReadGPT(f, tt.larger, tt.sector)
			if err != nil {
				t.Fatal(err)
			}
			p, err := g.Add("veneer-state é", linuxType, [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, tt.want, 0)
			if err != nil {
				t.Fatal(err)
			}
			if p.Start != tt.start || p.Size != tt.got {
				t.Errorf("Add() = %+v, want %d+%d", p, tt.start, tt.got)
			}
			apply(t, f, g.Writes())
			verify(t, f.Name(), tt.sector)
			line := fmt.Sprintf("%d+%d %s %q\n", tt.start, tt.got, "01020304-0506-4708-890a-0b0c0d0e0f10", "veneer-state é")
			after := seen(t, f.Name(), tt.sector)
			if rest := strings.Replace(after, line, "", 1); rest != before || rest == after {
				t.Errorf("sfdisk shows\n%swant\n%sand %s", after, before, line)
			}
			if got := ours(t, f, tt.larger, tt.sector); got != after {
				t.Errorf("Partitions() =\n%swant\n%s", got, after)
			}
			again, err := ReadGPT(f, tt.larger, tt.sector)
			if err != nil {
				t.Fatal(err)
			}
			if ws := again.Writes(); len(ws) != 0 {
				t.Errorf("a table that is right is written again: %d writes", len(ws))
			}
			if found, kind, ok, err := again.Find("veneer-state é"); !ok || err != nil || found != p || kind != linuxType {
				t.Errorf("Find() = %+v %s %v %v, want %+v", found, kind, ok, err, p)
			}
		})
	}
}

// TestEachPrefixOfTheWritesIsTheOldTableOrTheNew cuts the power behind every sector.
func TestEachPrefixOfTheWritesIsTheOldTableOrTheNew(t *testing.T) {
	for _, tt := range []struct {
		name         string
		size, larger int64
		grow         bool
	}{
		{"added", 16 * mib, 16 * mib, false},
		{"added to a disk that was enlarged", 16 * mib, 32 * mib, false},
		{"grown", 16 * mib, 32 * mib, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := table(t, tt.size, 512, "size=2M, name=a\nsize=3M, name=b\n")
			if err := f.Truncate(tt.larger); err != nil {
				t.Fatal(err)
			}
			before := seen(t, f.Name(), 512)
			change := func() *GPT {
				t.Helper()
				g, err := ReadGPT(f, tt.larger, 512)
				if err != nil {
					t.Fatal(err)
				}
				if tt.grow {
					_, _, err = g.Grow(2)
				} else if _, _, found, _ := g.Find("new"); !found {
					_, err = g.Add("new", linuxType, [16]byte{1}, 0, 0)
				}
				if err != nil {
					t.Fatal(err)
				}
				return g
			}
			disk := make([]byte, tt.larger)
			if err := readAt(f, disk, 0); err != nil {
				t.Fatal(err)
			}
			ws := change().Writes()
			cuts, old := 0, 0
			after := ""
			for i, w := range ws {
				for n := 512; n <= len(w.Data); n += 512 {
					state := bytes.Clone(disk)
					for _, done := range ws[:i] {
						copy(state[done.Offset:], done.Data)
					}
					copy(state[w.Offset:], w.Data[:n])
					apply(t, f, []Write{{0, state}})
					cuts++
					got, theirs := ours(t, f, tt.larger, 512), seen(t, f.Name(), 512)
					if got != theirs {
						t.Fatalf("cut in write %d behind %d bytes: Partitions() =\n%ssfdisk:\n%s", i, n, got, theirs)
					}
					if got == before {
						old++
					} else if after == "" {
						after = got
					} else if got != after {
						t.Fatalf("cut in write %d behind %d bytes: neither old nor new:\n%s", i, n, got)
					}
					// The next boot does the same again, and then all is well.
					apply(t, f, change().Writes())
					verify(t, f.Name(), 512)
					if got := ours(t, f, tt.larger, 512); after != "" && got != after {
						t.Fatalf("cut in write %d behind %d bytes, then again:\n%swant\n%s", i, n, got, after)
					}
				}
			}
			if old == 0 || old == cuts || after == before {
				t.Errorf("%d of %d cuts show the old table, which proves nothing", old, cuts)
			}
			t.Logf("%d cuts: %d old, %d new", cuts, old, cuts-old)
		})
	}
}

func TestOneDamagedCopyIsRepaired(t *testing.T) {
	for name, damage := range map[string]func(b []byte){
		"the first header":    func(b []byte) { b[512+30]++ },
		"the first entries":   func(b []byte) { b[1024+60]++ },
		"the backup's header": func(b []byte) { b[len(b)-512+30]++ },
		"the backup":          func(b []byte) { clear(b[len(b)-33*512:]) },
	} {
		t.Run(name, func(t *testing.T) {
			f := table(t, 16*mib, 512, "size=2M, name=a\n")
			want := seen(t, f.Name(), 512)
			spoil(t, f.Name(), damage)
			r, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			g, err := ReadGPT(r, 16*mib, 512)
			if err != nil {
				t.Fatal(err)
			}
			ws := g.Writes()
			if len(ws) != 2 {
				t.Errorf("%d writes, want 2: entries and header of the damaged copy", len(ws))
			}
			apply(t, r, ws)
			verify(t, f.Name(), 512)
			if got := seen(t, f.Name(), 512); got != want {
				t.Errorf("after the repair:\n%swant\n%s", got, want)
			}
		})
	}
}

func TestAPartitionGrowsOnlyAtTheEnd(t *testing.T) {
	f := table(t, 16*mib, 512, "size=2M, name=a\nsize=3M, name=b\n")
	if err := f.Truncate(32 * mib); err != nil {
		t.Fatal(err)
	}
	g, err := ReadGPT(f, 32*mib, 512)
	if err != nil {
		t.Fatal(err)
	}
	if _, grew, err := g.Grow(1); grew || err != nil {
		t.Errorf("Grow(1) = %v, %v; want it to stay, for 2 lies behind it", grew, err)
	}
	if p, grew, err := g.Grow(2); !grew || err != nil || p.Start != 3*mib || p.Size != 28*mib {
		t.Errorf("Grow(2) = %+v, %v, %v; want 28 MiB from 3 MiB on", p, grew, err)
	}
	if _, grew, err := g.Grow(2); grew || err != nil {
		t.Errorf("Grow(2) again = %v, %v; want nothing to do", grew, err)
	}
	for _, n := range []int{0, 3, 129} {
		if _, _, err := g.Grow(n); !errors.Is(err, ErrTable) {
			t.Errorf("Grow(%d) = %v, want ErrTable", n, err)
		}
	}
}

func TestATableThatMakesNoSenseIsLeftAlone(t *testing.T) {
	resum := func(b []byte) { // makes the checksums of the first copy right again
		h := b[512:1024]
		g := GPT{disk: disk{bytes.NewReader(b), int64(len(b)), 512}, header: h, table: b[1024:][:128*128]}
		g.primary, g.backup, g.at, g.mbr = [2][]byte{nil, nil}, [2][]byte{h, g.table}, 2, b[:512]
		ws := g.Writes()
		copy(b[512:], ws[len(ws)-1].Data)
	}
	for _, tt := range []struct {
		name   string
		damage func(b []byte)
		says   string
	}{
		{"a hybrid MBR", func(b []byte) { b[446+16+4], b[446+16+12] = 0x83, 1 }, "protective MBR alone"},
		{"an MBR", func(b []byte) { b[446+4] = 0x83 }, "protective MBR alone"},
		{"no MBR", func(b []byte) { clear(b[:512]) }, "protective MBR alone"},
		{"both copies damaged", func(b []byte) { b[512+30]++; b[len(b)-512+30]++ }, "first: checksum"},
		{"overlapping partitions", func(b []byte) { le.PutUint64(b[1024+128+32:], 2048); resum(b) }, "overlap"},
		{"a partition behind the end", func(b []byte) { le.PutUint64(b[1024+128+40:], 1<<40); resum(b) }, "lies outside"},
		{"a partition that ends before it starts", func(b []byte) { le.PutUint64(b[1024+40:], 7); resum(b) }, "lies outside"},
		{"room that covers the table", func(b []byte) { le.PutUint64(b[512+40:], 3); resum(b) }, "covers the table"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := table(t, 16*mib, 512, "size=2M, name=a\nsize=3M, name=b\n")
			spoil(t, f.Name(), tt.damage)
			r, err := os.Open(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := ReadGPT(r, 16*mib, 512); !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("ReadGPT() = %v, want ErrTable that says %q", err, tt.says)
			}
		})
	}
	t.Run("a copy of a larger disk", func(t *testing.T) {
		f := table(t, 16*mib, 512, "size=2M\n")
		if _, err := ReadGPT(f, 12*mib, 512); !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), "larger disk") {
			t.Errorf("ReadGPT() = %v, want ErrTable", err)
		}
	})
}

func TestAFullDiskIsToldAsSuch(t *testing.T) {
	f := table(t, 16*mib, 512, "size=10M\n")
	add := func(size, least int64) error {
		t.Helper()
		g, err := ReadGPT(f, 16*mib, 512)
		if err != nil {
			t.Fatal(err)
		}
		_, err = g.Add("x", linuxType, [16]byte{}, size, least)
		return err
	}
	if err := add(5*mib, 0); !errors.Is(err, ErrNoRoom) || !strings.Contains(err.Error(), "4 MiB are free, 5 are wanted") {
		t.Errorf("Add(5 MiB) = %v, want ErrNoRoom with both sizes", err)
	}
	if err := add(0, 5*mib); !errors.Is(err, ErrNoRoom) {
		t.Errorf("Add(at least 5 MiB) = %v, want ErrNoRoom", err)
	}
	if err := add(4*mib, 4*mib); err != nil {
		t.Errorf("Add(4 MiB) = %v, want it to fit", err)
	}
	full := table(t, 16*mib, 512, "table-length: 4\n"+strings.Repeat("size=1M\n", 4))
	g, err := ReadGPT(full, 16*mib, 512)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Add("x", linuxType, [16]byte{}, 0, 0); !errors.Is(err, ErrNoRoom) || !strings.Contains(err.Error(), "entries") {
		t.Errorf("Add() to a full table = %v, want ErrNoRoom", err)
	}
}

func TestGUIDsAreReadAsTheyAreSpelled(t *testing.T) {
	b, err := parseGUID(linuxType)
	if err != nil || guid(b[:]) != linuxType {
		t.Errorf("parseGUID() = %x, %v", b, err)
	}
	for _, bad := range []string{"", "0fc63daf", linuxType + "0", strings.Replace(linuxType, "f", "g", 1)} {
		if _, err := parseGUID(bad); err == nil {
			t.Errorf("parseGUID(%q) succeeded", bad)
		}
	}
}
