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

// pageOverhead is what a tmpfs needs beside the pages themselves: nodes of its page tree, one word for each page.
const pageOverhead = 256

// Budget is what copying images to memory comes to. All in bytes.
type Budget struct {
	Images    int64 // the sum of their sizes, from the signed manifest
	Upper     int64 // what the writable layer in memory may grow to; 0 where there is none
	Available int64 // what the kernel can give without swapping: MemAvailable of /proc/meminfo
}

// Room is how much of it is left for the writable layer. Where the least does not fit, the error says what is missing; nothing may
// have been copied by then.
func (b Budget) Room() (int64, error) {
	images := b.Images + b.Images/pageOverhead
	need := images + Floor + min(b.Upper, LeastUpper)
	if need > b.Available {
		return 0, fmt.Errorf("%w: images of %s, %s for the upper and %s to work with come to %s of memory, and %s are available; give the machine more memory",
			ErrNoRoom, MiB(b.Images), MiB(min(b.Upper, LeastUpper)), MiB(Floor), MiB(need), MiB(b.Available))
	}
	return min(b.Upper, b.Available-images-Floor), nil
}

// MiB prints bytes for people.
func MiB(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }
