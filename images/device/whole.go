package device

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// checkWhole reports that an image is damaged at its beginning, or that its own tables say it is longer than it is: a download that broke
// off. UEFI 2.10, 5.3.2, has the header of a GPT, ECMA-119, 8.4, the size of an ISO 9660 file system.
func checkWhole(path string, head []byte, size int64) error {
	le := binary.LittleEndian
	for _, sector := range []int64{512, 4096} {
		if int64(len(head)) < 2*sector || string(head[sector:sector+int64(len(gptMagic))]) != gptMagic {
			continue
		}
		header := head[sector : 2*sector]
		n := le.Uint32(header[12:])
		if n < 92 || int64(n) > sector {
			return fmt.Errorf("%s: the header of its partition table cannot have %d bytes: copy it again, or build it again", path, n)
		}
		bare := append([]byte{}, header[:n]...)
		clear(bare[16:20])
		if crc32.ChecksumIEEE(bare) != le.Uint32(header[16:]) {
			return fmt.Errorf("%s: the checksum of its partition table is wrong: copy it again, or build it again", path)
		}
		if last := max(le.Uint64(header[32:]), le.Uint64(header[48:])); last >= uint64(size/sector) {
			return cutOff(path, size, "partition table", last, uint64(sector))
		}
	}
	const volume = 32768
	if len(head) >= volume+2048 && string(head[volume:volume+6]) == "\x01CD001" {
		blocks, block := uint64(le.Uint32(head[volume+80:])), uint64(le.Uint16(head[volume+128:]))
		if blocks*block > uint64(size) {
			return cutOff(path, size, "ISO 9660 file system", blocks-1, block)
		}
	}
	return nil
}

func cutOff(path string, size int64, what string, last, block uint64) error {
	return fmt.Errorf("%s ends after %d bytes, and its %s reaches to block %d of %d bytes: it is a part of an image; copy it again", path, size, what, last, block)
}
