package build

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"veneer/images"
)

// fileSystem checks the store in an ext4 image that lies alone, or in a build output, whose keys then count as they do for
// the output itself.
func (v *verifier) fileSystem(ctx context.Context, file string) error {
	if _, err := os.Lstat(filepath.Join(filepath.Dir(file), initramfsFile)); err != nil && v.spec.Keys == nil {
		return fmt.Errorf("%s: %w", file, errNoKeys)
	}
	in, err := openExt4(ctx, file, 0)
	if err != nil {
		return err
	}
	defer in.f.Close()
	if err := in.enterStore(); err != nil {
		return err
	}
	v.trust(filepath.Dir(file))
	v.fsck(ctx, file, filepath.Base(file)+" as ext4")
	return v.deployments(ctx, in)
}

// enterStore goes to the directory of the store.
func (e *ext4) enterStore() (err error) {
	for _, e.dir = range []string{storeDir, "."} {
		if _, err = e.Stat(path.Dir(images.DeploymentPath("1"))); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("%s is an ext4 file system without a store: there is no directory /%s/%s in it", at(e.f.Name(), e.start), storeDir, path.Dir(images.DeploymentPath("1")))
}

// at names a file system in a file as the e2fsprogs find it.
func at(file string, start int64) string {
	if start == 0 {
		return file
	}
	return fmt.Sprintf("%s?offset=%d", file, start)
}

// ext4 is a directory in an ext2, ext3 or ext4 image. debugfs(8) tells where files lie in the image, after it has checked its
// checksums, so that nothing has to be mounted and nothing is copied.
type ext4 struct {
	ctx     context.Context
	debugfs string
	f       *os.File
	start   int64 // of the file system in the file
	block   int64 // bytes
	dir     string
}

// openExt4 reads the superblock, of which only the size of a block counts here.
func openExt4(ctx context.Context, file string, start int64) (*ext4, error) {
	debugfs, err := findTool("debugfs")
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	const superblock, logBlockSize = 1024, 24 // Documentation/filesystems/ext4/super.rst
	var b [4]byte
	_, err = f.ReadAt(b[:], start+superblock+logBlockSize)
	log := binary.LittleEndian.Uint32(b[:])
	if err == nil && log > 6 {
		err = fmt.Errorf("blocks of 2^%d bytes", 10+int64(log))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: ext4 superblock: %w", file, err), f.Close())
	}
	return &ext4{ctx: ctx, debugfs: debugfs, f: f, start: start, block: 1024 << log}, nil
}

func (e *ext4) at(name string) string { return e.f.Name() + ": /" + path.Join(e.dir, name) }

// ask has debugfs carry out a request with the path of name.
func (e *ext4) ask(request, name string) (string, error) {
	fail := func(err error) (string, error) { return "", &fs.PathError{Op: "read", Path: e.at(name), Err: err} }
	full := "/" + path.Join(e.dir, name)
	if strings.Trim(full, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+-") != "" {
		return fail(errors.New("no name in a store")) // nor one that debugfs would take as it is
	}
	const most = 16 << 20 // of a listing
	out, said := &tail{limit: most}, &tail{limit: maxMessages}
	cmd := exec.CommandContext(e.ctx, e.debugfs, "-R", request+" "+full, at(e.f.Name(), e.start))
	cmd.Env = []string{"LC_ALL=C", "DEBUGFS_PAGER=cat"}
	cmd.Stdout, cmd.Stderr = out, said
	if err := cmd.Run(); err != nil {
		return fail(err)
	}
	// debugfs succeeds whatever happens; the first of its messages is its version.
	_, message, _ := strings.Cut(said.buf.String(), "\n")
	switch {
	case strings.Contains(message, "File not found by ext2_lookup"):
		return fail(fs.ErrNotExist)
	case strings.TrimSpace(message) != "":
		return fail(errors.New(strings.Join(strings.Fields(message), " ")))
	case out.buf.Len() == most:
		return fail(fmt.Errorf("debugfs says more than %d bytes about it", most))
	}
	return out.buf.String(), nil
}

var (
	statType = regexp.MustCompile(`^Inode: \d+ +Type: (\w+) `)
	statSize = regexp.MustCompile(`(?m)^User: .* Size: (\d+)$`)
	extent   = regexp.MustCompile(`\((\d+)(?:-(\d+))?(\[u\])?\):(\d+)`)
)

// Stat tells kind and size of a file, and Open lists a directory.
func (e *ext4) Stat(name string) (fs.FileInfo, error) {
	f, err := e.Open(name)
	if err != nil {
		return nil, err
	}
	return f.Stat()
}

// Open returns a directory that can be listed, or a file that can be read at any offset.
func (e *ext4) Open(name string) (fs.File, error) {
	text, err := e.ask("stat", name)
	if err != nil {
		return nil, err
	}
	f := &ext4File{innerFile: innerFile{name: name}, e: e}
	f.content = f
	kind, size := statType.FindStringSubmatch(text), statSize.FindStringSubmatch(text)
	if kind == nil || size == nil {
		return nil, &fs.PathError{Op: "read", Path: e.at(name), Err: errors.New("debugfs says nothing about it that veneer understands")}
	}
	switch kind[1] {
	case "regular":
	case "directory":
		f.mode = fs.ModeDir
		return f, nil
	default:
		f.mode = fs.ModeIrregular
		return f, nil
	}
	if f.size, err = strconv.ParseInt(size[1], 10, 64); err != nil {
		return nil, &fs.PathError{Op: "read", Path: e.at(name), Err: err}
	}
	if f.extents, err = parseExtents(text); err != nil {
		return nil, &fs.PathError{Op: "read", Path: e.at(name), Err: err}
	}
	return f, nil
}

// ext4Extent is a run of blocks of a file that lie one behind the other in the image.
type ext4Extent struct{ first, last, at int64 }

// parseExtents reads the last list of debugfs's stat: (0-511):34816-35327, (512):36000. Blocks of the file's own map have a name
// in the place of a number, and those that were allocated and never written a mark.
func parseExtents(text string) ([]ext4Extent, error) {
	i := max(strings.LastIndex(text, "\nEXTENTS:\n"), strings.LastIndex(text, "\nBLOCKS:\n"))
	if i < 0 {
		return nil, errors.New("debugfs does not say where it lies")
	}
	var list []ext4Extent
	for _, m := range extent.FindAllStringSubmatch(text[i:], -1) {
		if m[3] != "" {
			continue // reads as zeros
		}
		first, err := strconv.ParseInt(m[1], 10, 64)
		last, lerr := first, error(nil)
		if m[2] != "" {
			last, lerr = strconv.ParseInt(m[2], 10, 64)
		}
		at, aerr := strconv.ParseInt(m[4], 10, 64)
		const most = 1 << 48 // blocks of any ext4
		if err := errors.Join(err, lerr, aerr); err != nil || first > last || last > most || at > most {
			return nil, fmt.Errorf("debugfs says that it lies at %q", m[0])
		}
		if n := len(list); n > 0 && list[n-1].last >= first {
			return nil, fmt.Errorf("debugfs says twice where block %d lies", first)
		}
		list = append(list, ext4Extent{first, last, at})
	}
	return list, nil
}

// ext4File is an open file or directory.
type ext4File struct {
	innerFile
	e       *ext4
	extents []ext4Extent // in order
}

// ReadAt reads from the image, and zeros where the file has a hole.
func (f *ext4File) ReadAt(b []byte, offset int64) (n int, err error) {
	for n < len(b) {
		if offset >= f.size {
			return n, io.EOF
		}
		block, within := offset/f.e.block, offset%f.e.block
		i, _ := slices.BinarySearchFunc(f.extents, block, func(x ext4Extent, block int64) int {
			return int(min(1, max(-1, x.last-block)))
		})
		part := b[n:min(int64(len(b)), int64(n)+f.size-offset)]
		if i < len(f.extents) && f.extents[i].first <= block {
			x := f.extents[i]
			part = part[:min(int64(len(part)), (x.last+1)*f.e.block-offset)]
			if _, err := f.e.f.ReadAt(part, f.e.start+(x.at+block-x.first)*f.e.block+within); err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return n, &fs.PathError{Op: "read", Path: f.e.at(f.name), Err: err}
			}
		} else {
			if i < len(f.extents) {
				part = part[:min(int64(len(part)), f.extents[i].first*f.e.block-offset)]
			}
			clear(part)
		}
		n += len(part)
		offset += int64(len(part))
	}
	return n, nil
}

// ReadDir lists the directory at once.
func (f *ext4File) ReadDir(most int) ([]fs.DirEntry, error) {
	text, err := f.e.ask("ls -p", f.name)
	if err != nil {
		return nil, err
	}
	var list []fs.DirEntry
	for line := range strings.Lines(text) {
		// /INODE/MODE/UID/GID/NAME/SIZE/, and what is spelt otherwise is no name in a store.
		field := strings.Split(strings.TrimSuffix(line, "\n"), "/")
		if len(field) != 8 || field[5] == "." || field[5] == ".." || most > 0 && len(list) == most {
			continue
		}
		entry := &innerFile{name: field[5], mode: fs.ModeIrregular}
		switch mode, _ := strconv.ParseUint(field[2], 8, 32); mode &^ 0o7777 {
		case 0o040000:
			entry.mode = fs.ModeDir
		case 0o100000:
			entry.mode = 0
		}
		list = append(list, entry)
	}
	return list, nil
}
