package merge

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"veneer/overlay/entry"
)

// The base's side of a conflict is a copy beside the local one: NAME.new. It bears a mark, so that a later merge, and `veneer
// etc`, know whose it is, and whether somebody has edited it since; then it is nobody's but his.

// sideAttr is the mark: the digest of what was copied, a space, and the name that it is a side of. It belongs to no side of a
// comparison.
const sideAttr = "trusted.veneer.side"

// Limits of what is laid beside: a directory that is larger stays in the base, where it can be looked at.
const (
	maxSideEntries = 1000
	maxSideBytes   = 16 << 20
	maxSides       = 9
	longestName    = 255
)

// sideName is the i-th name for a side, from 1 on. One that does not fit is cut, and told apart by a digest.
func sideName(name string, i int) string {
	suffix := ".new"
	if i > 1 {
		suffix += strconv.Itoa(i)
	}
	if len(name)+len(suffix) <= longestName {
		return name + suffix
	}
	sum := sha256.Sum256([]byte(name))
	suffix = "~" + hex.EncodeToString(sum[:4]) + suffix
	return name[:longestName-len(suffix)] + suffix
}

// sideOf is a side that lies in a directory.
type sideOf struct {
	name   string
	digest string // of the base's side that was copied
	edited bool
}

// sides finds the sides of a directory of the upper, by the name that they are sides of.
func sides(fd int, names []string) (map[string][]sideOf, error) {
	var found map[string][]sideOf
	for _, name := range names {
		if !looksLikeSide(name) {
			continue
		}
		n, err := look(fd, name)
		if err != nil {
			return nil, err
		}
		s, of, ok := sideMark(n)
		if !ok {
			continue
		}
		digest, fits, err := sideDigest(&view{dirs: []int{fd}}, name)
		if err != nil {
			return nil, err
		}
		s.edited = !fits || digest != s.digest
		if found == nil {
			found = map[string][]sideOf{}
		}
		found[of] = append(found[of], s)
	}
	return found, nil
}

func looksLikeSide(name string) bool {
	return strings.HasSuffix(strings.TrimRight(name, "23456789"), ".new")
}

// sideMark reads the mark of a side. A side that was moved to another name is none any more.
func sideMark(n *node) (s sideOf, of string, ok bool) {
	if n == nil {
		return s, "", false
	}
	for _, x := range n.attrs {
		if x.Name != sideAttr {
			continue
		}
		s.name = n.name
		s.digest, of, ok = strings.Cut(string(x.Value), " ")
		for i := 1; ok && i <= maxSides; i++ {
			if sideName(of, i) == n.name {
				return s, of, true
			}
		}
	}
	return s, "", false
}

// errTooMuch ends a walk over what is too large to be laid beside.
var errTooMuch = errors.New("too much")

// sideDigest stands for all that shows at a name of v. What is too large does not fit.
func sideDigest(v *view, name string) (digest string, fits bool, err error) {
	h := sha256.New()
	entries, bytes := 0, int64(0)
	_, err = v.walk(name, "", 0, func(n *node, path string) (bool, error) {
		entries++
		bytes += n.Size
		if entries > maxSideEntries || bytes > maxSideBytes {
			return false, errTooMuch
		}
		e, err := n.entryAt(path)
		if err == nil {
			h.Write(appendLine(nil, &e))
		}
		return true, err
	})
	if errors.Is(err, errTooMuch) || errors.Is(err, entry.ErrTooDeep) {
		return "", false, nil
	}
	return hex.EncodeToString(h.Sum(nil)), true, err
}
