package build

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// defaultLevel is mksquashfs's own default for zstd. It is given all the same: a default may change.
const defaultLevel = 15

// squashfsLimits are those of the format, and of mksquashfs reading an archive.
var squashfsLimits = formatLimits{tool: "mksquashfs", longestName: 255, noRootTime: true}

// squashfsArgs is the command line of mksquashfs. It reads an archive whatever the source is: so a directory and an archive of
// it become the same image, and order, times and names are under our control.
func squashfsArgs(program, out string, fs FileSystem, t *Tree) []string {
	root, level := t.Root, fs.Level
	if level == 0 {
		level = defaultLevel
	}
	args := []string{program, "-", out, "-tar", "-noappend", "-no-exports", "-no-progress", "-quiet",
		"-comp", "zstd", "-Xcompression-level", strconv.Itoa(level), "-b", strconv.Itoa(fs.squashfsBlock(t.Bytes)),
		"-root-mode", "0" + strconv.FormatUint(uint64(root.Mode&0o7777), 8),
		// What it may read ahead. The default, a quarter of all memory, would make the progress worthless.
		"-mem", "512M",
	}
	if t.Bytes <= fewBytes {
		args = append(args, "-no-fragments")
	}
	return args
}

// fewBytes is the content up to which an image has no fragments, blocks that several files share. They would hardly make it smaller,
// and the kernel reads their table, and makes a cache of three blocks for them, for each file system that it mounts.
const fewBytes = 16 << 10

// squashfsBlock is the block size for so many bytes of content: the configured one, or a smaller one that holds all of it just as
// well. The kernel clears five blocks of memory for each file system that it mounts, which is most of what a small layer costs.
func (fs FileSystem) squashfsBlock(content int64) int {
	size := fs.blockSize
	for size > fs.leastBlock && int64(size/2) >= content {
		size /= 2
	}
	return size
}

// leastBlock is the smallest block that every kernel of an architecture mounts: squashfs wants no less than a page, and those of
// arm64 have up to 64 KiB.
func leastBlock(arch string) int {
	if arch == "amd64" {
		return 4 << 10
	}
	return 64 << 10
}

// makeSquashfs writes a squashfs image of t to the file out. The image's own time is that of the newest file, so that it is
// a function of the tree; the root directory has that time too, because mksquashfs 4.5.1 gives it the time of day, or that of
// SOURCE_DATE_EPOCH if that is earlier.
func makeSquashfs(ctx context.Context, program, out string, fs FileSystem, t *Tree, epoch time.Time, progress *Progress) error {
	if now := time.Now(); epoch.After(now) {
		// mksquashfs would give the root directory the time of day.
		return fmt.Errorf("%s has a file of %s, which is yet to come: correct it with touch, or set SOURCE_DATE_EPOCH, to which later times are set", t.Source, epoch.UTC().Format(time.RFC3339))
	}
	argv := squashfsArgs(program, out, fs, t)
	return command{
		argv: argv,
		env:  []string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(epoch.Unix(), 10)},
		// mksquashfs 4.5.1 gives the root directory of an archive the owner that it runs as.
		as: true, uid: t.Root.UID, gid: t.Root.GID,
		quiet: true,
		feed: func(ctx context.Context, w io.Writer) error {
			widen(w)
			s := tarStream{w: w, epoch: epoch, done: progress.Add}
			return s.writeTree(ctx, t)
		},
	}.run(ctx)
}

// widen makes room for more in a pipe, which spares context switches. Where that is refused the usual size will do.
func widen(w io.Writer) {
	if c, ok := w.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 1<<20) })
		}
	}
}
