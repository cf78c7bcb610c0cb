package live

import (
	"slices"
	"strings"
)

// leftOut stands before a line of /etc/fstab that does not hold under an overlay.
const leftOut = "#veneer: "

// protectFstab returns an fstab(5) without the line of / (about a disk that is not the root now: a check or a remount with its
// options would fail) and, unless swap is wanted, without swap; and the places where others are mounted from that are kept. What
// was left out by an earlier boot and is wanted now comes back.
func protectFstab(text string, swap bool) (edited string, others []string) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		plain := strings.TrimPrefix(line, leftOut)
		f := strings.Fields(plain)
		switch {
		case len(f) < 3 || f[0][0] == '#':
			b.WriteString(line)
			continue
		case f[1] == "/", f[2] == "swap" && !swap:
			b.WriteString(leftOut + plain)
			continue
		}
		b.WriteString(plain)
		options := []string{}
		if len(f) > 3 {
			options = strings.Split(f[3], ",")
		}
		if f[2] != "swap" && onDisk(f[0]) && !slices.Contains(options, "ro") && !slices.Contains(options, "noauto") {
			others = append(others, f[1])
		}
	}
	return b.String(), others
}

// onDisk reports whether the first field of a line names something that outlives a boot: a device, or a share of a server.
func onDisk(spec string) bool {
	for _, p := range []string{"/dev/", "UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID=", "//"} {
		if strings.HasPrefix(spec, p) {
			return true
		}
	}
	return strings.Contains(spec, ":/")
}
