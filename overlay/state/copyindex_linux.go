package state

// The index of a snapshot: which inode in use each of its files was copied from, so that the next one need not copy it again.

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/overlay/entry"
)

// fileKey is what has to be the same in a file that did not change.
type fileKey struct {
	ino          uint64
	size         int64
	mtime, ctime time.Duration // since 1970
}

func (c *snapshotCopy) key(st *unix.Statx_t) fileKey {
	return fileKey{st.Ino, int64(st.Size), time.Duration(st.Mtime.Sec)*time.Second + time.Duration(st.Mtime.Nsec),
		time.Duration(st.Ctime.Sec)*time.Second + time.Duration(st.Ctime.Nsec)}
}

// unchanged reports whether the newest snapshot has this very file. That it has several names makes no difference: one that comes or
// goes changes its time of change.
func (c *snapshotCopy) unchanged(rel string, st *unix.Statx_t) bool {
	former, ok := c.former[rel]
	return ok && former == c.key(st) && st.Attributes&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) == 0
}

// maxIndex bounds the lines of an index that are read back: beyond it files are copied again.
const maxIndex = 4 << 20

func readIndex(d *Dir, s Snapshot) map[string]fileKey {
	fd, err := d.openat(path.Join(snapshotPath(s.Name), indexFile), unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), indexFile)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	return parseIndex(f)
}

// parseIndex reads lines of four numbers and a path; it ends at the first that is none.
func parseIndex(r io.Reader) map[string]fileKey {
	index := map[string]fileKey{}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), 32<<10)
	for lines.Scan() && len(index) < maxIndex {
		words := strings.SplitN(lines.Text(), " ", 5)
		if len(words) != 5 {
			break
		}
		ino, err0 := strconv.ParseUint(words[0], 10, 64)
		size, err1 := strconv.ParseInt(words[1], 10, 64)
		mtime, err2 := strconv.ParseInt(words[2], 10, 64)
		ctime, err3 := strconv.ParseInt(words[3], 10, 64)
		rel, ok := entry.Unquote(words[4])
		if errors.Join(err0, err1, err2, err3) != nil || !ok {
			break
		}
		index[rel] = fileKey{ino, size, time.Duration(mtime), time.Duration(ctime)}
	}
	return index
}
