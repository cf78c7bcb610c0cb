package state

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"veneer/overlay/entry"
)

// maxName is the longest name of a directory entry (NAME_MAX).
const maxName = 255

// Escape makes one name of an absolute path, as `systemd-escape --path` does: no two paths share one. A path that is not clean is
// refused, since it would have a second spelling.
func Escape(p string) (string, error) {
	if !path.IsAbs(p) || path.Clean(p) != p || strings.IndexByte(p, 0) >= 0 {
		return "", fmt.Errorf("path %q is not a clean absolute path", clip(p))
	}
	if p == "/" {
		return "-", nil
	}
	var b strings.Builder
	for i := 1; i < len(p); i++ {
		switch c := p[i]; {
		case c == '/':
			b.WriteByte('-')
		case i > 1 && c == '.' || c == ':' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			b.WriteByte(c)
		default:
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	if b.Len() > maxName {
		return "", fmt.Errorf("path %q is too long for a name: %d bytes when escaped, %d at most", clip(p), b.Len(), maxName)
	}
	return b.String(), nil
}

const hexDigits = "0123456789abcdef"

// Unescape is the inverse of Escape. It refuses every name that Escape would not have written.
func Unescape(name string) (string, error) {
	if name == "-" {
		return "/", nil
	}
	p := make([]byte, 1, len(name)+1)
	p[0] = '/'
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '-':
			p = append(p, '/')
		case c == '\\' && i+3 < len(name) && name[i+1] == 'x' && unhex(name[i+2]) >= 0 && unhex(name[i+3]) >= 0:
			p = append(p, byte(unhex(name[i+2])<<4|unhex(name[i+3])))
			i += 3
		default:
			p = append(p, c)
		}
	}
	if again, err := Escape(string(p)); err != nil || again != name || len(p) == 1 {
		return "", fmt.Errorf("name %q is not an escaped path", clip(name))
	}
	return string(p), nil
}

func unhex(c byte) int { return strings.IndexByte(hexDigits, c) }

// quote makes text of a path, for JSON and for people: neither holds bytes that are no UTF-8. It is not Escape.
func quote(p string) string { return entry.Quote(p) }

func quoteAll(list []string) string {
	quoted := make([]string, len(list))
	for i, p := range list {
		quoted[i] = quote(p)
	}
	return strings.Join(quoted, ", ")
}

var errQuoted = errors.New("not a path as veneer writes it")

func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
