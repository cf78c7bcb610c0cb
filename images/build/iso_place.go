package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// iso is a directory in an ISO 9660 file system. xorriso(1) tells where files lie in it, so that nothing has to be mounted and nothing
// is copied.
type iso struct {
	f     *os.File
	files map[string][]isoExtent // of the whole ISO, by path without a slash before it
	sizes map[string]int64
	dir   string
}

// isoExtent is a piece of a file, in bytes. A file of 4 GiB or more has several.
type isoExtent struct{ at, size int64 }

const isoBlock = 2048

var isoReport = regexp.MustCompile(`^File data lba: *(\d+) , *(\d+) , *(\d+) , *(\d+) , '/(.*)'$`)

// openISO reads the directories of an ISO.
func openISO(ctx context.Context, file string) (*iso, error) {
	xorriso, err := findTool("xorriso")
	if err != nil {
		return nil, err
	}
	f, size, err := openRegular(file)
	if err != nil {
		return nil, err
	}
	const most = 16 << 20 // of a listing
	out, said := &tail{limit: most}, &tail{limit: maxMessages}
	// -indev stdio: keeps a name from being taken for a drive.
	cmd := exec.CommandContext(ctx, xorriso, "-no_rc", "-report_about", "WARNING", "-indev", "stdio:"+file, "-find", "/", "-type", "f", "-exec", "report_lba", "--")
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{"LC_ALL=C", "TZ=UTC"}, out, said
	if err := cmd.Run(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: xorriso: %w%s", file, err, said), f.Close())
	}
	i := &iso{f: f, files: map[string][]isoExtent{}, sizes: map[string]int64{}}
	if err = i.parse(out.buf.String(), size); err == nil && out.buf.Len() == most {
		err = fmt.Errorf("xorriso says more than %d bytes about it", most)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), f.Close())
	}
	return i, nil
}

// parse reads a list of "File data lba: SECTION , START , BLOCKS , SIZE , 'PATH'", the size that of the whole file.
func (i *iso) parse(list string, isoSize int64) error {
	for line := range strings.Lines(list) {
		m := isoReport.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		var n [4]int64
		for k := range n {
			var err error
			if n[k], err = strconv.ParseInt(m[k+1], 10, 64); err != nil || k < 3 && n[k] > 1<<32 {
				return fmt.Errorf("xorriso says of %q that it lies at %q", m[5], m[0])
			}
		}
		name, size := m[5], n[3]
		if n[0] != int64(len(i.files[name])) || n[0] > 0 && size != i.sizes[name] {
			return fmt.Errorf("xorriso says of %q what makes no sense: %q", name, m[0])
		}
		left := size // in this section and those behind it; the last block is not full
		for _, x := range i.files[name] {
			left -= x.size
		}
		x := isoExtent{n[1] * isoBlock, min(n[2]*isoBlock, left)}
		if x.at+x.size > isoSize {
			return fmt.Errorf("%q lies behind the end: it was cut off; copy it again", name)
		}
		i.files[name], i.sizes[name] = append(i.files[name], x), size
	}
	return nil
}

func (i *iso) at(name string) string { return i.f.Name() + ": /" + path.Join(i.dir, name) }

// Stat tells kind and size of a file.
func (i *iso) Stat(name string) (fs.FileInfo, error) {
	f, err := i.Open(name)
	if err != nil {
		return nil, err
	}
	return f.Stat()
}

// Open returns a directory that can be listed, or a file that can be read at any offset.
func (i *iso) Open(name string) (fs.File, error) {
	full := path.Join(i.dir, name)
	f := &isoFile{innerFile: innerFile{name: full, size: i.sizes[full]}, i: i, extents: i.files[full]}
	f.content = f
	if f.extents != nil {
		return f, nil
	}
	for other := range i.files {
		if full == "." || strings.HasPrefix(other, full+"/") {
			f.mode = fs.ModeDir
			return f, nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: i.at(name), Err: fs.ErrNotExist}
}

// isoFile is an open file or directory.
type isoFile struct {
	innerFile
	i       *iso
	extents []isoExtent
}

func (f *isoFile) ReadAt(b []byte, offset int64) (n int, err error) {
	for _, x := range f.extents {
		if offset >= x.size {
			offset -= x.size
			continue
		}
		part := b[n:min(int64(len(b)), int64(n)+x.size-offset)]
		if _, err := f.i.f.ReadAt(part, x.at+offset); err != nil {
			return n, &fs.PathError{Op: "read", Path: f.i.f.Name() + ": /" + f.name, Err: err}
		}
		n, offset = n+len(part), 0
		if n == len(b) {
			return n, nil
		}
	}
	return n, io.EOF
}

// ReadDir lists the directory at once.
func (f *isoFile) ReadDir(most int) ([]fs.DirEntry, error) {
	dirs := map[string]bool{}
	for name := range f.i.files {
		if rest, below := strings.CutPrefix(name, f.name+"/"); below {
			first, _, deeper := strings.Cut(rest, "/")
			dirs[first] = deeper
		}
	}
	var list []fs.DirEntry
	for name, dir := range dirs {
		e := &innerFile{name: path.Join(f.name, name)}
		if dir {
			e.mode = fs.ModeDir
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	if most > 0 {
		list = list[:min(len(list), most)]
	}
	return list, nil
}

// isISO reports whether a file is an ISO 9660 file system, by its first volume descriptor (ECMA-119).
func isISO(r io.ReaderAt) bool {
	var b [6]byte
	_, err := r.ReadAt(b[:], 16*isoBlock)
	return err == nil && bytes.Equal(b[1:], []byte("CD001"))
}
