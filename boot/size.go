package boot

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is an amount of memory: bytes, or a share of the machine's RAM. The zero Size says nothing.
type Size struct {
	Bytes   int64
	Percent int // 1 to 100; Bytes is 0 then
}

// minSize is the smallest upper that makes sense: below it a boot dies of ENOSPC before anyone can log in.
const minSize = 1 << 20

// ParseSize reads a number of bytes with an optional K, M or G (powers of 1024), or a percentage of RAM.
func ParseSize(s string) (Size, error) {
	if p, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseUint(p, 10, 8)
		if err != nil || n < 1 || n > 100 {
			return Size{}, fmt.Errorf("size %q: want a percentage from 1%% to 100%%", s)
		}
		return Size{Percent: int(n)}, nil
	}
	digits, shift := s, 0
	if len(s) > 0 {
		switch s[len(s)-1] {
		case 'k', 'K':
			shift = 10
		case 'm', 'M':
			shift = 20
		case 'g', 'G':
			shift = 30
		}
		if shift > 0 {
			digits = s[:len(s)-1]
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > 1<<62>>shift {
		return Size{}, fmt.Errorf("size %q: want bytes, or a number with K, M or G, or a percentage of RAM", s)
	}
	if n <<= shift; n < minSize {
		return Size{}, fmt.Errorf("size %q is below the least useful size of 1M", s)
	}
	return Size{Bytes: int64(n)}, nil
}

// String returns the size as ParseSize reads it.
func (s Size) String() string {
	switch {
	case s.Percent > 0:
		return strconv.Itoa(s.Percent) + "%"
	case s.Bytes > 0 && s.Bytes%(1<<30) == 0:
		return strconv.FormatInt(s.Bytes>>30, 10) + "G"
	case s.Bytes > 0 && s.Bytes%(1<<20) == 0:
		return strconv.FormatInt(s.Bytes>>20, 10) + "M"
	case s.Bytes > 0 && s.Bytes%(1<<10) == 0:
		return strconv.FormatInt(s.Bytes>>10, 10) + "K"
	}
	return strconv.FormatInt(s.Bytes, 10)
}

// Of returns the size in bytes on a machine with ram bytes of memory.
func (s Size) Of(ram int64) int64 {
	if s.Percent > 0 {
		return ram / 100 * int64(s.Percent)
	}
	return s.Bytes
}
