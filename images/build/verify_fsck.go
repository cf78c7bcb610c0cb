package build

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/bits"
	"os/exec"
	"strconv"
	"strings"
)

// fsck checks what lies around the store in an ext4 image, without changing it: a journal or a bitmap that is damaged leaves all
// files as they are, and yet the machine may not mount it. See e2fsck(8).
func (v *verifier) fsck(ctx context.Context, image, what string) {
	if err := wholeExt4(image); err != nil { // e2fsck only mentions it
		v.add(what, "", err)
		return
	}
	e2fsck, err := findTool("e2fsck")
	if err != nil {
		v.add(what, "", err)
		return
	}
	cmd := exec.CommandContext(ctx, e2fsck, "-fn", image)
	cmd.Env = []string{"LC_ALL=C"}
	if said, rerr := cmd.CombinedOutput(); rerr != nil {
		text := strings.TrimSpace(string(said))
		const most = 2000
		err = fmt.Errorf("the file system of %s is damaged (e2fsck -fn: %w): build again, or copy it again\n%s", image, rerr, text[:min(len(text), most)])
	}
	v.add(what, "the file system around the store is whole (e2fsck)", err)
}

// wholeExt4 compares the size that the superblock of an image gives the file system with the size of the file, which a copy that was cut
// off falls short of. See Documentation/filesystems/ext4/super.rst.
func wholeExt4(image string) error {
	file, offset, _ := strings.Cut(image, "?offset=")
	start, _ := strconv.ParseInt(offset, 10, 64) // as at() wrote it; none is 0
	f, size, err := openRegular(file)
	if err != nil {
		return err
	}
	defer f.Close()
	super := make([]byte, 1024)
	if _, err := f.ReadAt(super, start+1024); err != nil {
		return fmt.Errorf("%s: ext4 superblock: %w", image, err)
	}
	const blocksLow, logBlockSize, incompatible, blocksHigh, with64 = 0x4, 0x18, 0x60, 0x150, 0x80
	field := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(super[at:])) }
	blocks, log := field(blocksLow), field(logBlockSize)
	if field(incompatible)&with64 != 0 {
		blocks |= field(blocksHigh) << 32
	}
	over, want := bits.Mul64(blocks, 1024<<min(log, 6))
	if have := uint64(max(size-start, 0)); over > 0 || want > have {
		return fmt.Errorf("%s was cut off: its file system has %d blocks of %d bytes, and there are %d bytes: copy it again", image, blocks, 1024<<min(log, 6), have)
	}
	return nil
}
