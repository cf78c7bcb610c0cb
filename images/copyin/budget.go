package copyin

import (
	"errors"
	"fmt"
)

// ErrNoRoom means that the images do not fit.
var ErrNoRoom = errors.New("the images do not fit")

// Floor is the memory that stays free for the programs of the machine, whatever is copied.
const Floor = 96 << 20

// LeastUpper is the least that a writable layer in memory is of use with.
const LeastUpper = 32 << 20

// Beside the images themselves memory goes, as a share of them, into the nodes of the page tree of a tmpfs, one word for each page,
// and, while an image is verified, into its hashes and its hash tree.
const (
	pageShare = 256
	hashShare = 64
)

// Budget is what copying images to memory comes to. All in bytes.
type Budget struct {
	Images    int64 // the sum of their sizes, from the signed manifest
	Upper     int64 // what the writable layer in memory may grow to; 0 where there is none
	Least     int64 // what it is to have at the least; 0: LeastUpper
	Available int64 // what the kernel can give without swapping: MemAvailable of /proc/meminfo
}

// Need is what there must be: the images and what they take beside themselves, the least upper, the floor.
func (b Budget) Need() int64 { return b.images() + Floor + b.least() }

func (b Budget) images() int64 { return b.Images + b.Images/pageShare + b.Images/hashShare }

func (b Budget) least() int64 {
	least := b.Least
	if least == 0 {
		least = LeastUpper
	}
	return min(b.Upper, least)
}

// Room is how much of it is left for the writable layer. Where the least does not fit, the error says what is missing; nothing may
// have been copied by then.
func (b Budget) Room() (int64, error) {
	if need := b.Need(); need > b.Available {
		return 0, fmt.Errorf("%w: images of %s, %s for the upper and %s to work with come to %s of memory, and %s are available; give the machine more memory",
			ErrNoRoom, MiB(b.Images), MiB(b.least()), MiB(Floor), MiB(need), MiB(b.Available))
	}
	return min(b.Upper, b.Available-b.images()-Floor), nil
}

// MiB prints bytes for people.
func MiB(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }
