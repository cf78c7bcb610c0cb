package probe

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Bounds of what a device, honest or not, may cost. A FAT directory of 100 clusters costs two reads for each.
const (
	maxSniffReads, maxSniffBytes = 2*maxRootClusters + 1, headSize + 2*maxRootBytes + 1<<20
	maxTableReads, maxTableBytes = 4*maxLogical + 4, 2*gptMaxTable + 4*maxLogical*mbrSize + 1<<20
)

func TestSniffAnswersWithTheSamplesAsBlkidDid(t *testing.T) {
	for _, file := range append(samples(t, "good-"), samples(t, "bad-")...) {
		t.Run(file, func(t *testing.T) {
			s, want := read(t, file)
			if diff := cmp.Diff(want, sniffed(s)); diff != "" {
				t.Errorf("Sniff() (-want +got):\n%s", diff)
			}
			if s.reads > 3 && !strings.Contains(file, "later-cluster") {
				t.Errorf("Sniff() took %d reads, want at most 3", s.reads)
			}
		})
	}
}

func TestPartitionsAnswersWithTheSamplesAsPartxDid(t *testing.T) {
	for _, file := range samples(t, "table-") {
		t.Run(file, func(t *testing.T) {
			s, want := read(t, file)
			if diff := cmp.Diff(want, listed(s)); diff != "" {
				t.Errorf("Partitions() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAmbiguousContentIsRefusedWithBothNames(t *testing.T) {
	s, _ := read(t, "testdata/bad-ext4-over-btrfs.txt")
	c, err := Sniff(s, s.size)
	if !errors.Is(err, ErrAmbiguous) || !strings.Contains(err.Error(), "ext4 and btrfs") || !strings.Contains(err.Error(), "wipefs") {
		t.Errorf("Sniff() = %v, %v; want ErrAmbiguous that names ext4, btrfs and wipefs", c, err)
	}
}

func TestAFaultOfTheDeviceIsAnErrorAndNotAnAnswer(t *testing.T) {
	broken := errors.New("medium error")
	s, _ := read(t, "testdata/good-fat32.txt")
	for n := range 2 {
		t.Run(fmt.Sprintf("read %d fails", n+1), func(t *testing.T) {
			if c, err := Sniff(&faulty{s, n, broken}, s.size); !errors.Is(err, broken) {
				t.Errorf("Sniff() = %v, %v; want %v", c, err, broken)
			}
		})
	}
	s, _ = read(t, "testdata/table-mbr-logical.txt")
	for n := range 3 {
		t.Run(fmt.Sprintf("read %d of the table fails", n+1), func(t *testing.T) {
			if p, err := Partitions(&faulty{s, n, broken}, s.size, 512); !errors.Is(err, broken) {
				t.Errorf("Partitions() = %v, %v; want %v", p, err, broken)
			}
		})
	}
}

// faulty is a device on which one read fails.
type faulty struct {
	io.ReaderAt
	left int
	err  error
}

func (f *faulty) ReadAt(p []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestADeviceThatIsTooShortHoldsNothing(t *testing.T) {
	for _, file := range samples(t, "good-") {
		s, _ := read(t, file)
		for _, size := range []int64{-1, 0, 1, 511, 512} {
			s.size = size
			if c, err := Sniff(s, size); err != nil && !errors.Is(err, ErrAmbiguous) {
				t.Errorf("%s cut to %d bytes: Sniff() = %v, %v; want no error", file, size, c, err)
			}
		}
	}
	if _, err := Partitions(strings.NewReader(""), 0, 512); !errors.Is(err, ErrNoTable) {
		t.Errorf("Partitions() of an empty disk = %v, want %v", err, ErrNoTable)
	}
}

func TestDamagedTablesAreRefused(t *testing.T) {
	cases := []struct {
		name, file string
		damage     func(b []byte)
		says       string
	}{
		{"both checksums are wrong", "table-gpt", func(b []byte) { b[512+20]++; b[len(b)-512+20]++ }, "first: checksum of the header is wrong; backup: checksum"},
		{"an entry was changed", "table-gpt-first-damaged", func(b []byte) { b[len(b)-512-32*512+60]++ }, "backup: checksum of the entries is wrong"},
		{"a header without a table", "table-gpt", func(b []byte) { clear(b[512:1024]); clear(b[len(b)-512:]) }, "first: no header; backup: no header"},
		{"a chain that bites its tail", "table-mbr-logical", func(b []byte) {
			first := 2 * mib // the extended partition
			copy(b[first+mbrEntries+mbrEntry+8:], []byte{0, 0, 0, 0})
		}, "a chain that bites its tail"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, _ := read(t, "testdata/"+c.file+".txt")
			b := make([]byte, s.size)
			if _, err := s.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			c.damage(b)
			d, err := load(strings.NewReader(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			d.reads = 0
			parts, err := Partitions(d, d.size, 512)
			if !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Partitions() = %v, %v; want ErrTable that says %q", parts, err, c.says)
			}
			if d.reads > maxTableReads {
				t.Errorf("Partitions() took %d reads, want at most %d", d.reads, maxTableReads)
			}
		})
	}
	if _, err := Partitions(strings.NewReader(""), 0, 513); err == nil || !strings.Contains(err.Error(), "513 bytes") {
		t.Errorf("Partitions() with sectors of 513 bytes = %v, want a refusal", err)
	}
}

func FuzzSniff(f *testing.F) {
	for _, file := range append(samples(f, "good-"), samples(f, "bad-")...) {
		s, _ := read(f, file)
		f.Add(s.pack())
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		s := unpack(packed)
		c, err := Sniff(s, s.size)
		if err != nil && c != (Content{}) {
			t.Errorf("Sniff() = %v together with %v", c, err)
		}
		if s.reads > maxSniffReads || s.bytes > maxSniffBytes {
			t.Errorf("Sniff() took %d reads of %d bytes, want at most %d of %d", s.reads, s.bytes, maxSniffReads, maxSniffBytes)
		}
		if strings.ContainsRune(c.Label+c.UUID, 0) {
			t.Errorf("Sniff() = %q: a NUL byte", c)
		}
	})
}

func FuzzPartitions(f *testing.F) {
	for _, file := range samples(f, "table-") {
		s, _ := read(f, file)
		f.Add(s.pack(), uint16(512))
	}
	f.Fuzz(func(t *testing.T, packed []byte, sector uint16) {
		s := unpack(packed)
		parts, err := Partitions(s, s.size, int(sector))
		if err != nil && parts != nil {
			t.Errorf("Partitions() = %v together with %v", parts, err)
		}
		if s.reads > maxTableReads || s.bytes > maxTableBytes {
			t.Errorf("Partitions() took %d reads of %d bytes, want at most %d of %d", s.reads, s.bytes, maxTableReads, maxTableBytes)
		}
		for _, p := range parts {
			if p.Number < 1 || p.Start < 0 || p.Size <= 0 || p.Start > s.size-p.Size || strings.ContainsRune(p.Name, 0) {
				t.Errorf("Partitions() = %+v on a disk of %d bytes", p, s.size)
			}
		}
	})
}
