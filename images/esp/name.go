package esp

import (
	"fmt"
	"strconv"
	"strings"
)

// Name is the file name of a boot entry, with the count of systemd's Automatic Boot Assessment (systemd-boot(7), "Boot Counting"):
//
//	STEM.efi        good, or not counted
//	STEM+3.efi      three tries are left, none was made
//	STEM+1-2.efi    one is left, two were made
//	STEM+0-3.efi    bad: menus start it only where there is nothing else
type Name struct {
	Stem       string
	Suffix     string // with its dot
	Counted    bool
	Left, Done int
}

// maxTries is more than anybody counts to; systemd takes no larger number in any version.
const maxTries = 1 << 20

// ParseName takes a name apart. What is no count belongs to the stem.
func ParseName(file string) Name {
	n := Name{Stem: file}
	if dot := strings.LastIndexByte(file, '.'); dot > 0 {
		n.Stem, n.Suffix = file[:dot], file[dot:]
	}
	plus := strings.LastIndexByte(n.Stem, '+')
	if plus <= 0 {
		return n
	}
	left, done, two := strings.Cut(n.Stem[plus+1:], "-")
	l, lok := tries(left)
	d, dok := 0, !two
	if two {
		d, dok = tries(done)
	}
	if lok && dok {
		n.Stem, n.Counted, n.Left, n.Done = n.Stem[:plus], true, l, d
	}
	return n
}

func tries(s string) (int, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	v, err := strconv.Atoi(s)
	return v, err == nil && v <= maxTries
}

func (n Name) String() string {
	switch {
	case !n.Counted:
		return n.Stem + n.Suffix
	case n.Done == 0:
		return fmt.Sprintf("%s+%d%s", n.Stem, n.Left, n.Suffix)
	}
	return fmt.Sprintf("%s+%d-%d%s", n.Stem, n.Left, n.Done, n.Suffix)
}

// Good is the name without a count.
func (n Name) Good() Name { return Name{Stem: n.Stem, Suffix: n.Suffix} }

// Bad reports that no try is left.
func (n Name) Bad() bool { return n.Counted && n.Left == 0 }
