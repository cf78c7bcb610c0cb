package probe

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "make the samples in testdata anew with the real tools")

// rowSize is the grain in which a sample keeps what is not zero.
const rowSize = 64

// sample is a device of which only some rows are not zero. It counts what is read of it.
type sample struct {
	size  int64
	rows  map[int64][]byte // offset / rowSize -> rowSize bytes
	reads int
	bytes int64
	seen  map[int64]bool // rows that were read, where not nil
}

func (s *sample) ReadAt(p []byte, off int64) (int, error) {
	s.reads++
	n := int64(len(p))
	s.bytes += n
	if off < 0 || off > s.size {
		return 0, io.EOF
	}
	var err error
	if n > s.size-off {
		n, err = s.size-off, io.EOF
	}
	clear(p[:n])
	for at := off / rowSize; at*rowSize < off+n; at++ {
		if s.seen != nil {
			s.seen[at] = true
		}
		if row := s.rows[at]; row != nil {
			from := max(off, at*rowSize)
			copy(p[from-off:n], row[from-at*rowSize:])
		}
	}
	return int(n), err
}

// load reads a whole image into a sample.
func load(r io.Reader) (*sample, error) {
	s := &sample{rows: map[int64][]byte{}, seen: map[int64]bool{}}
	in := bufio.NewReaderSize(r, 1<<20)
	for at := int64(0); ; at++ {
		row := make([]byte, rowSize)
		n, err := io.ReadFull(in, row)
		s.size += int64(n)
		if n > 0 && !zero(row) {
			s.rows[at] = row
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return s, nil
		} else if err != nil {
			return nil, err
		}
	}
}

// trim forgets the rows that were never read, and those between headers that would only be bulk.
func (s *sample) trim(bulk func(off int64) bool) {
	for at := range s.rows {
		if !s.seen[at] || bulk != nil && bulk(at*rowSize) {
			delete(s.rows, at)
		}
	}
}

func (s *sample) sorted() []int64 {
	var all []int64
	for at := range s.rows {
		all = append(all, at)
	}
	for i := range all { // insertion sort: samples are small
		for j := i; j > 0 && all[j] < all[j-1]; j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
	return all
}

// pack is the binary form of a sample, in which a fuzzer can change every byte: the size, then rows with their numbers.
func (s *sample) pack() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(s.size))
	for _, at := range s.sorted() {
		b = binary.LittleEndian.AppendUint32(b, uint32(at))
		b = append(b, s.rows[at]...)
	}
	return b
}

// unpack is forgiving: any bytes are a sample.
func unpack(b []byte) *sample {
	s := &sample{rows: map[int64][]byte{}}
	if len(b) >= 8 {
		s.size = int64(binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	for len(b) > 4 {
		row := make([]byte, rowSize)
		n := copy(row, b[4:])
		s.rows[int64(binary.LittleEndian.Uint32(b))] = row
		b = b[4+n:]
	}
	return s
}

// write keeps a sample with what is expected of it.
func (s *sample) write(t *testing.T, name, want string) {
	t.Helper()
	var b bytes.Buffer
	for _, line := range strings.Split(strings.TrimSpace(want), "\n") {
		fmt.Fprintf(&b, "want %s\n", line)
	}
	fmt.Fprintf(&b, "size %d\n", s.size)
	for _, at := range s.sorted() {
		fmt.Fprintf(&b, "%x %s\n", at*rowSize, hex.EncodeToString(bytes.TrimRight(s.rows[at], "\x00")))
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", name+".txt"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// read is the inverse of write.
func read(t testing.TB, file string) (s *sample, want string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s = &sample{rows: map[int64][]byte{}}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch key {
		case "want":
			want += value + "\n"
		case "size":
			s.size, err = strconv.ParseInt(value, 10, 64)
		default:
			var off int64
			row := make([]byte, rowSize)
			if off, err = strconv.ParseInt(key, 16, 64); err == nil {
				_, err = hex.Decode(row, []byte(value))
			}
			s.rows[off/rowSize] = row
		}
		if err != nil {
			t.Fatalf("%s: %q: %v", file, line, err)
		}
	}
	return s, want
}

// samples lists the files of testdata with a prefix.
func samples(t testing.TB, prefix string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", prefix+"*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("testdata has no %s*.txt; make them with: go test -run Tools -update", prefix)
	}
	return files
}
