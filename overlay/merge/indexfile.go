package merge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Index is an index on disk. A look-up reads a few blocks of it, whatever its size.
type Index struct {
	r          io.ReaderAt
	from, to   int64 // the lines of paths
	count      int64
	file       *os.File
	searchStep int64
}

// maxIndex bounds the size of an index: ten million paths.
const maxIndex = 2 << 30

// OpenIndex opens an index file.
func OpenIndex(name string) (*Index, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrIndex
	}
	var x *Index
	if err == nil {
		x, err = NewIndex(f, info.Size())
	}
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", name, errors.Join(err, f.Close()))
	}
	x.file = f
	return x, nil
}

// NewIndex takes an index of size bytes. That it is whole is checked at its ends; a line, when it is looked at.
func NewIndex(r io.ReaderAt, size int64) (*Index, error) {
	if size < int64(len(firstLine)) || size > maxIndex {
		return nil, fmt.Errorf("%w: %d bytes", ErrIndex, size)
	}
	x := &Index{r: r, from: int64(len(firstLine)), searchStep: 512}
	head, err := x.read(0, x.from)
	if err != nil {
		return nil, err
	}
	tail, err := x.read(max(x.from, size-40), size)
	if err != nil {
		return nil, err
	}
	// The last line begins behind a line, or behind the first one.
	i := bytes.LastIndexByte(tail[:max(len(tail)-1, 0)], '\n') + 1
	x.to = size - int64(len(tail)-i)
	text, ok := bytes.CutPrefix(tail[i:], []byte(lastLine))
	if ok && string(head) == firstLine {
		x.count, err = strconv.ParseInt(string(bytes.TrimSuffix(text, []byte("\n"))), 10, 64)
		if err == nil && x.count >= 0 && lastLine+strconv.FormatInt(x.count, 10)+"\n" == string(tail[i:]) {
			return x, nil
		}
	}
	return nil, fmt.Errorf("%w: it has no beginning or no end", ErrIndex)
}

// Close closes the file.
func (x *Index) Close() error {
	if x.file == nil {
		return nil
	}
	return x.file.Close()
}

// Lookup finds a path.
func (x *Index) Lookup(path string) (e Entry, ok bool, err error) {
	for lo, hi := x.from, x.to; lo < hi; {
		at, line, err := x.lineAt(lo, lo+(hi-lo)/2, hi)
		if err != nil {
			return Entry{}, false, err
		}
		e, err := parseLine(line)
		if err != nil {
			return Entry{}, false, err
		}
		switch c := comparePaths(path, e.Path); {
		case c == 0:
			return e, true, nil
		case c < 0:
			hi = at
		default:
			lo = at + int64(len(line))
		}
	}
	return Entry{}, false, nil
}

// lineAt returns the line around the byte at, which lies in lines that fill lo to hi.
func (x *Index) lineAt(lo, at, hi int64) (begin int64, line []byte, err error) {
	for step := x.searchStep; ; step *= 4 {
		from, to := max(lo, at-step), min(hi, at+step)
		b, err := x.read(from, to)
		if err != nil {
			return 0, nil, err
		}
		i := bytes.LastIndexByte(b[:at-from], '\n') + 1
		end := bytes.IndexByte(b[at-from:], '\n')
		if (i > 0 || from == lo) && end >= 0 {
			return from + int64(i), b[i : at-from+int64(end)+1], nil
		}
		if from == lo && to == hi || step > maxLine {
			return 0, nil, fmt.Errorf("%w: a line without an end", ErrIndex)
		}
	}
}

func (x *Index) read(from, to int64) ([]byte, error) {
	b := make([]byte, to-from)
	if n, err := x.r.ReadAt(b, from); n < len(b) {
		return nil, fmt.Errorf("read index: %w", err)
	}
	return b, nil
}

// Each calls do for every entry in order, and checks the whole index on the way.
func (x *Index) Each(do func(Entry) error) error {
	last, n := "", int64(0)
	for at := x.from; at < x.to; n++ {
		_, line, err := x.lineAt(at, at, x.to)
		if err != nil {
			return err
		}
		e, err := parseLine(line)
		if err != nil {
			return err
		}
		if n > 0 && comparePaths(last, e.Path) >= 0 {
			return fmt.Errorf("%w: %q stands behind %q", ErrIndex, e.Path, last)
		}
		if err := do(e); err != nil {
			return err
		}
		last, at = e.Path, at+int64(len(line))
	}
	if n != x.count {
		return fmt.Errorf("%w: %d paths, %d announced", ErrIndex, n, x.count)
	}
	return nil
}
