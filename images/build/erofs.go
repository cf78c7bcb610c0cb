package build

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// erofsLimits are those of the format with extended inodes, and of mkfs.erofs 1.5 reading a directory.
// 1.5 looks for files with a name of 255 bytes under the first 254 of them.
var erofsLimits = formatLimits{tool: "mkfs.erofs", longestName: 254, acls: true, wideTimes: true, nanoseconds: true, rootXattrs: true, sockets: true}

// erofsLevel is mkfs.erofs's own default for lz4hc.
const erofsLevel = 9

// erofsArgs is the command line of mkfs.erofs. Its options of -E follow what was measured of updates: data inlined behind
// inodes would move with each inode that is added, and fragments are one stream for the whole image.
func erofsArgs(program, out string, fs FileSystem, dir string) []string {
	level := fs.Level
	if level == 0 {
		level = erofsLevel
	}
	return []string{program, "--quiet", "-d1", "--preserve-mtime", "-U", uuidOf([]byte("a veneer image")), "-Enoinline_data",
		"-z", "lz4hc," + strconv.Itoa(level), "-C", strconv.Itoa(fs.blockSize), out, dir}
}

// makeErofs writes an EROFS image of t to the file out. mkfs.erofs 1.5 reads nothing but directories, and cannot set late times
// back: for that, and for an archive, the tree is made in the directory scratch first. Who is not root does so with fakeroot.
func makeErofs(ctx context.Context, program, out, scratch string, fs FileSystem, t *Tree, epoch time.Time, progress *Progress) error {
	out, oerr := filepath.Abs(out) // the program may run in another directory
	scratch, serr := filepath.Abs(scratch)
	if err := errors.Join(oerr, serr); err != nil {
		return err
	}
	dir := t.Source
	_, plain := t.content.(dirSource)
	unpack := !plain || t.later(epoch)
	if unpack {
		dir = filepath.Join(scratch, "tree")
	}
	// mkfs.erofs warns on standard output, and goes on; with -d1 only errors are left.
	mkfs := command{argv: erofsArgs(program, out, fs, dir), quiet: true, ignore: erofsChatter}
	if unpack {
		var err error
		if mkfs, err = t.unpackFor(ctx, mkfs, dir, scratch, epoch, progress); err != nil {
			return err
		}
	}
	if err := mkfs.run(ctx); err != nil {
		return err
	}
	return settleErofs(out, epoch)
}

// unpackFor makes the tree in dir, which a run of mkfs.erofs is to read. Who is not root needs the directory scratch for
// more than that.
func (t *Tree) unpackFor(ctx context.Context, mkfs command, dir, scratch string, epoch time.Time, progress *Progress) (command, error) {
	var fake *fakery
	if os.Geteuid() != 0 {
		var err error
		if fake, err = newFakery(t, mkfs.argv[0]); err != nil {
			return mkfs, err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return mkfs, err
	}
	if err := t.unpack(ctx, dir, epoch, fake, progress.Add); err != nil {
		return mkfs, err
	}
	if fake == nil {
		return mkfs, nil
	}
	return fake.wrap(mkfs, scratch)
}

// erofsChatter tells messages of mkfs.erofs that mean nothing.
func erofsChatter(line string) bool { return strings.HasPrefix(line, "mkfs.erofs ") }

// later reports whether a file has a time after epoch, which is in whole seconds.
func (t *Tree) later(epoch time.Time) bool {
	found := false
	t.all(func(e *Entry) { found = found || e.Mtime.Unix() > epoch.Unix() })
	return found
}

// The superblock of EROFS, see struct erofs_super_block in fs/erofs/erofs_fs.h.
const (
	erofsBlock     = 4096
	erofsChecksum  = erofsOffset + 4
	erofsFeatures  = erofsOffset + 8
	erofsBuildTime = erofsOffset + 24 // 8 bytes of seconds, 4 of nanoseconds
	erofsHasSum    = 1
)

// settleErofs takes out of an image what is not of its tree: the time of day, which mkfs.erofs writes unless it may give every
// file one and the same time, becomes that of the newest file; and extended attributes get an order.
func settleErofs(path string, epoch time.Time) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err = errors.Join(settle(f, epoch), f.Close()); err != nil {
		return fmt.Errorf("settle %s: %w", path, err)
	}
	return nil
}

func settle(f imageFile, epoch time.Time) error {
	b := make([]byte, erofsBlock)
	if _, err := f.ReadAt(b, 0); err != nil {
		return err
	}
	le := binary.LittleEndian
	summed := le.Uint32(b[erofsFeatures:])&erofsHasSum != 0
	if summed && erofsSum(b) != le.Uint32(b[erofsChecksum:]) {
		return errors.New("the checksum of its superblock does not match")
	}
	if err := sortErofsXattrs(f); err != nil {
		return err
	}
	if _, err := f.ReadAt(b, 0); err != nil { // which has inodes in it, too
		return err
	}
	le.PutUint64(b[erofsBuildTime:], uint64(epoch.Unix()))
	le.PutUint32(b[erofsBuildTime+8:], 0)
	if summed {
		le.PutUint32(b[erofsChecksum:], erofsSum(b))
	}
	_, err := f.WriteAt(b, 0)
	return err
}

// erofsSum is the checksum of the first block: CRC-32C from the superblock to its end, not inverted, with itself as zero.
func erofsSum(b []byte) uint32 {
	c := append([]byte(nil), b[erofsOffset:erofsBlock]...)
	clear(c[erofsChecksum-erofsOffset:][:4])
	return ^crc32.Checksum(c, crc32.MakeTable(crc32.Castagnoli))
}
