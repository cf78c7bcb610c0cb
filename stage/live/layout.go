package live

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"veneer/boot"
	"veneer/images/sha2"
)

// Limits of what is read of a medium: it may be full of anything.
const (
	maxImages = 64       // of one root
	maxList   = 64 << 10 // bytes of a list of images
	maxDir    = 4096     // entries of the directory of the images
	edge      = 4096     // bytes at either end of an image that its ID is made of
)

// errNotTheMedium means that a device holds nothing of the kind that is looked for.
var errNotTheMedium = errors.New("not the medium")

// imagesOf finds the images that make the root on a medium of others, the lowest first, as their dialect lays them out.
//
//	dracut      LiveOS/squashfs.img, or LiveOS/rootfs.img, ext3fs.img as they are
//	live-boot   what live/filesystem.module lists, else live/*.squashfs by name
//	casper      the chain of layerfs-path=, else casper/filesystem.squashfs, else the only *.squashfs
//	archiso     arch/ARCHITECTURE/airootfs.sfs, else .erofs
//	cos         the file that the line names
func imagesOf(files fs.FS, f boot.Foreign, machine string) ([]string, error) {
	switch f.Dialect {
	case boot.Dracut:
		name := f.Image
		if name == "" {
			name = "squashfs.img"
		}
		return first(files, path.Join(f.Dir, name), path.Join(f.Dir, "rootfs.img"), path.Join(f.Dir, "ext3fs.img"))
	case boot.LiveBoot:
		return listed(files, f)
	case boot.Casper:
		return chain(files, f)
	case boot.Archiso:
		dir := path.Join(f.Dir, machine)
		return first(files, path.Join(dir, "airootfs.sfs"), path.Join(dir, "airootfs.erofs"))
	case boot.COS:
		return first(files, path.Join(f.Dir, f.Image))
	}
	return nil, fmt.Errorf("media of %s are not booted by this version", f.Dialect)
}

// first returns the first of the names that is a file.
func first(files fs.FS, names ...string) ([]string, error) {
	for _, name := range names {
		if regular(files, name) {
			return []string{name}, nil
		}
	}
	return nil, fmt.Errorf("%w: it has no %s", errNotTheMedium, strings.Join(names, ", no "))
}

func regular(files fs.FS, name string) bool {
	info, err := fs.Stat(files, name)
	return err == nil && info.Mode().IsRegular()
}

// listed is live-boot's order.
func listed(files fs.FS, f boot.Foreign) ([]string, error) {
	lists := []string{"filesystem.module"}
	if f.List != "" {
		lists = []string{"filesystem." + f.List + ".module", f.List + ".module"}
	}
	for _, list := range lists {
		list = path.Join(f.Dir, list)
		if !regular(files, list) {
			continue
		}
		text, err := readSmall(files, list, maxList)
		if err != nil {
			return nil, err
		}
		var found, missing []string
		for _, name := range strings.Fields(string(text)) {
			if name != path.Base(name) || !regular(files, path.Join(f.Dir, name)) {
				missing = append(missing, fmt.Sprintf("%.80q", name))
				continue
			}
			found = append(found, path.Join(f.Dir, name))
		}
		switch {
		case len(missing) > 0:
			return nil, fmt.Errorf("%s lists %s, not there; copy the medium again", list, strings.Join(missing, ", "))
		case len(found) == 0:
			return nil, fmt.Errorf("%s lists nothing; remove it, and every *.squashfs beside it is taken", list)
		}
		return found, nil
	}
	if f.List != "" {
		return nil, fmt.Errorf("%w: it has no %s", errNotTheMedium, path.Join(f.Dir, lists[1]))
	}
	return squashes(files, f.Dir)
}

// squashes returns every *.squashfs of a directory by name.
func squashes(files fs.FS, dir string) ([]string, error) {
	d, err := files.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: it has no directory %s", errNotTheMedium, dir)
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	list, ok := d.(fs.ReadDirFile)
	if !ok {
		return nil, fmt.Errorf("%w: %s is no directory", errNotTheMedium, dir)
	}
	entries, err := list.ReadDir(maxDir)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if name := path.Join(dir, e.Name()); strings.HasSuffix(name, ".squashfs") && regular(files, name) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: %s has no *.squashfs", errNotTheMedium, dir)
	}
	return found, nil
}

// chain is casper's: a dotted name stands on those before its dots.
func chain(files fs.FS, f boot.Foreign) ([]string, error) {
	if f.Image == "" {
		if one, err := first(files, path.Join(f.Dir, "filesystem.squashfs")); err == nil {
			return one, nil
		}
		all, err := squashes(files, f.Dir)
		if err != nil || len(all) == 1 {
			return all, err
		}
		names := make([]string, len(all))
		for i, a := range all {
			names[i] = path.Base(a)
		}
		return nil, fmt.Errorf("%s has %s, and nothing says which of them make the root; give layerfs-path=, which on this medium is in its own initramfs",
			f.Dir, strings.Join(names, ", "))
	}
	parts := strings.Split(strings.TrimSuffix(f.Image, ".squashfs"), ".")
	var found, missing []string
	for n := range parts {
		name := path.Join(f.Dir, strings.Join(parts[:n+1], ".")+".squashfs")
		if regular(files, name) {
			found = append(found, name)
		} else {
			missing = append(missing, name)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("%w: it has no %s", errNotTheMedium, strings.Join(missing, ", no "))
	case len(missing) > 0:
		return nil, fmt.Errorf("layers of %s are missing: %s; copy the medium again", f.Image, strings.Join(missing, ", "))
	}
	return found, nil
}

func readSmall(files fs.FS, name string, most int64) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s is longer than %d bytes", name, most)
	}
	return text, err
}

// imageFile is what can be told of an image of others without reading all of it.
type imageFile struct {
	fileSystem string
	size       int64
	id         string
}

// inspect tells what an image holds, and gives it an ID that changes when it does: the SHA-256 of its name, its size, and its first
// and last 4 KiB. At the beginning are the superblocks, with the time of the making in squashfs and EROFS and the UUID in EROFS
// and ext4; at the end are squashfs's tables of fragments, IDs and attributes. It is a name, and no proof of anything.
func inspect(files fs.FS, name string) (imageFile, error) {
	fail := func(err error) (imageFile, error) { return imageFile{}, fmt.Errorf("image %s: %w", name, err) }
	if !regular(files, name) {
		return fail(errors.New("is not a regular file"))
	}
	f, err := files.Open(name)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		return fail(errors.New("cannot be read at an offset"))
	}
	n := min(edge, info.Size())
	head, tail := make([]byte, n), make([]byte, n)
	if _, err := at.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return fail(err)
	}
	if _, err := at.ReadAt(tail, info.Size()-n); err != nil && !errors.Is(err, io.EOF) {
		return fail(err)
	}
	kind := fileSystemOf(head)
	if kind == "" {
		return fail(errors.New("is neither squashfs nor EROFS nor ext4"))
	}
	sum := sha2.Sum256([]byte("an image of others\x00"+name+"\x00"), binary.LittleEndian.AppendUint64(nil, uint64(info.Size())), head, tail)
	return imageFile{kind, info.Size(), hex.EncodeToString(sum[:])}, nil
}

// fileSystemOf tells an image by its superblock: fs/squashfs/squashfs_fs.h, fs/erofs/erofs_fs.h, fs/ext4/ext4.h.
func fileSystemOf(head []byte) string {
	has := func(at int, magic string) bool {
		return len(head) >= at+len(magic) && bytes.Equal(head[at:at+len(magic)], []byte(magic))
	}
	switch {
	case has(0, "hsqs"):
		return "squashfs"
	case has(1024, "\xe2\xe1\xf5\xe0"):
		return "erofs"
	case has(1024+56, "\x53\xef"):
		return "ext4" // which mounts ext2 and ext3 too
	}
	return ""
}
