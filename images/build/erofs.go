package build

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
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
// back: for that, and for an archive, the tree is made in the directory scratch first, which takes root.
func makeErofs(ctx context.Context, program, out, scratch string, fs FileSystem, t *Tree, epoch time.Time, progress *Progress) error {
	dir := t.Source
	if _, plain := t.content.(dirSource); !plain || t.later(epoch) {
		if os.Geteuid() != 0 {
			return fmt.Errorf("EROFS of %s: its files have to be unpacked with their owners and times first: run as root, or use filesystem.type = \"squashfs\"", t.Source)
		}
		dir = scratch
		if err := t.unpack(ctx, dir, epoch, progress.Add); err != nil {
			return err
		}
	}
	// mkfs.erofs warns on standard output, and goes on; with -d1 only errors are left.
	if err := (command{argv: erofsArgs(program, out, fs, dir), quiet: true, ignore: erofsChatter}).run(ctx); err != nil {
		return err
	}
	return setErofsTime(out, epoch)
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

// setErofsTime puts the time of the newest file in the place of the time of day, which mkfs.erofs writes unless it may give
// every file one and the same time.
func setErofsTime(path string, epoch time.Time) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b := make([]byte, erofsBlock)
	_, err = f.ReadAt(b, 0)
	if err == nil {
		err = patchErofsTime(b, epoch)
	}
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("set the time of %s: %w", path, err)
	}
	return nil
}

// patchErofsTime changes the first block of an image.
func patchErofsTime(b []byte, epoch time.Time) error {
	le := binary.LittleEndian
	summed := le.Uint32(b[erofsFeatures:])&erofsHasSum != 0
	if summed && erofsSum(b) != le.Uint32(b[erofsChecksum:]) {
		return errors.New("the checksum of its superblock does not match")
	}
	le.PutUint64(b[erofsBuildTime:], uint64(epoch.Unix()))
	le.PutUint32(b[erofsBuildTime+8:], 0)
	if summed {
		le.PutUint32(b[erofsChecksum:], erofsSum(b))
	}
	return nil
}

// erofsSum is the checksum of the first block: CRC-32C from the superblock to its end, not inverted, with itself as zero.
func erofsSum(b []byte) uint32 {
	c := append([]byte(nil), b[erofsOffset:erofsBlock]...)
	clear(c[erofsChecksum-erofsOffset:][:4])
	return ^crc32.Checksum(c, crc32.MakeTable(crc32.Castagnoli))
}
