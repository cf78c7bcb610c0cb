package entry

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Names lists a directory, sorted.
func Names(dir int) ([]string, error) {
	var all []string
	err := eachChunk(dir, func(names []string) (bool, error) {
		all = append(all, names...)
		return true, nil
	})
	slices.Sort(all)
	return all, err
}

// eachChunk reads a directory from its beginning and calls do with some names at a time, as long as it returns true.
func eachChunk(dir int, do func(names []string) (bool, error)) error {
	if _, err := unix.Seek(dir, 0, unix.SEEK_SET); err != nil {
		return fail("rewind", "", err)
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.ReadDirent(dir, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fail("list", "", err)
		}
		if n <= 0 {
			return nil
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		if more, err := do(names); err != nil || !more {
			return err
		}
	}
}

// Walk calls do for each entry below a directory, a directory before what is in it, in the order of names; path is relative
// to where the walk began. Where do returns false for a directory, it is not entered. What another file system has mounted
// over a directory is shown and never entered.
func Walk(dir int, do func(dir int, name, path string, st Stat) (enter bool, err error)) error {
	return walk(dir, "", 0, do)
}

func walk(dir int, prefix string, depth int, do func(int, string, string, Stat) (bool, error)) error {
	if depth > MaxDepth {
		return fail("walk", prefix, ErrTooDeep)
	}
	names, err := Names(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		st, err := At(dir, name)
		if err != nil {
			return err
		}
		enter, err := do(dir, name, prefix+name, st)
		if err != nil {
			return err
		}
		if !enter || !st.Dir() || st.Mounted {
			continue
		}
		sub, err := OpenDir(dir, name)
		if err != nil {
			return err
		}
		err = walk(sub, prefix+name+"/", depth+1, do)
		unix.Close(sub)
		if err != nil {
			return err
		}
	}
	return nil
}

// Quote makes a path printable, and a line of one column: what is not UTF-8, a control character, a space or a backslash
// becomes \xNN. Unquote is its inverse.
func Quote(path string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i, r := range path {
		width := len(string(r))
		switch {
		case r == 0xfffd && !strings.HasPrefix(path[i:], "\ufffd"):
			width = 1
			fallthrough
		case r <= ' ' || r == '\\' || r >= 0x7f && r < 0xa1 || r == 0x2028 || r == 0x2029:
			for _, c := range []byte(path[i : i+width]) {
				b.WriteString(`\x`)
				b.WriteByte(hex[c>>4])
				b.WriteByte(hex[c&15])
			}
		default:
			b.WriteString(path[i : i+width])
		}
	}
	return b.String()
}

// Plain is a path as people see it: itself where it can be printed, or else quoted as Go and many a shell ($'...') would. Programs get
// Quote, or JSON.
func Plain(path string) string {
	for _, c := range path {
		if !strconv.IsPrint(c) || c == 0xfffd {
			return strconv.Quote(path)
		}
	}
	return path
}

// Unquote takes what Quote returned, and nothing else.
func Unquote(s string) (path string, ok bool) {
	if !strings.Contains(s, `\`) {
		return s, Quote(s) == s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		if len(s)-i < 4 || s[i+1] != 'x' {
			return "", false
		}
		b = append(b, digit(s[i+2])<<4|digit(s[i+3]))
		i += 3
	}
	return string(b), Quote(string(b)) == s
}

func digit(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}
