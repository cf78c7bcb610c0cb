package vmtests

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

// write is one entry of a log of writes: to a place of the disk, or a flush.
type write struct {
	to, from int64 // on the disk, in the log; bytes
	size     int64
	flush    bool // what was written before it is on the disk
}

// writeLog is what a guest wrote to a disk, in order, as QEMU's blklogwrites recorded it.
type writeLog struct {
	file   *os.File
	writes []write
}

// The form of dm-log-writes: a superblock in the first sector; then entries of a sector each, and what was written behind them, see
// Documentation/admin-guide/device-mapper/log-writes.rst and drivers/md/dm-log-writes.c.
const (
	logMagic   = 0x6a736677736872
	logFlush   = 1
	logDiscard = 4
)

func openWriteLog(t *testing.T, path string) writeLog {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	l := writeLog{file: f}
	if err := l.read(); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return l
}

func (l *writeLog) read() error {
	var super [28]byte
	if _, err := l.file.ReadAt(super[:], 0); err != nil {
		return err
	}
	if binary.LittleEndian.Uint64(super[:]) != logMagic {
		return errors.New("is no log of writes")
	}
	entries, sector := binary.LittleEndian.Uint64(super[16:]), int64(binary.LittleEndian.Uint32(super[24:]))
	at := sector
	for range entries {
		var e [32]byte
		if _, err := l.file.ReadAt(e[:], at); err != nil {
			return fmt.Errorf("entry %d of %d: %w", len(l.writes), entries, err)
		}
		flags := binary.LittleEndian.Uint64(e[16:])
		w := write{to: int64(binary.LittleEndian.Uint64(e[:])) * sector, from: at + sector, size: int64(binary.LittleEndian.Uint64(e[8:])) * sector, flush: flags&logFlush != 0}
		if at += sector; flags&logDiscard != 0 {
			return fmt.Errorf("entry %d discards, and nobody asked for that", len(l.writes))
		}
		at += w.size
		l.writes = append(l.writes, w)
	}
	return nil
}

// apply does one write to the image.
func (l *writeLog) apply(image *os.File, w write) error {
	if w.size == 0 {
		return nil
	}
	_, err := io.Copy(io.NewOffsetWriter(image, w.to), io.NewSectionReader(l.file, w.from, w.size))
	return err
}

// instant is a state of the disk that a power cut can leave.
type instant struct {
	done int   // so many writes are on the disk, from the first on
	also []int // and these of the writes up to the next flush: a disk may write them in any order
}

// instants are the power cuts to try: each flush, a mess behind it, and evenly spread prefixes; at most about most of them.
func (l *writeLog) instants(most int) (all []instant) {
	random := rand.New(rand.NewPCG(1, 2))
	stride := max(1, len(l.writes)*2/most)
	for i := 0; i <= len(l.writes); i++ {
		flushed := i > 0 && l.writes[i-1].flush
		if flushed || i%stride == 0 || i == len(l.writes) {
			all = append(all, instant{done: i})
		}
		if !flushed {
			continue
		}
		mess := instant{done: i}
		for n := i; n < len(l.writes) && !l.writes[n].flush; n++ {
			if random.IntN(2) == 0 {
				mess.also = append(mess.also, n)
			}
		}
		if len(mess.also) > 0 {
			all = append(all, mess)
		}
	}
	return all
}
