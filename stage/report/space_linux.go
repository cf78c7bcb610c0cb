package report

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

func spaceOf(dir string) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	block := s.Bsize
	if s.Frsize > 0 {
		block = s.Frsize
	}
	return Space{
		Size:      int64(s.Blocks) * int64(block),
		Used:      int64(s.Blocks-s.Bfree) * int64(block),
		Files:     int64(s.Files),
		FilesUsed: int64(s.Files - s.Ffree),
	}, nil
}
