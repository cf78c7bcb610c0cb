package boot

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// Limits of a command line. The kernel's own is 2 KiB on amd64 and arm64.
const (
	maxCmdline = 16 << 10
	maxParam   = 4 << 10
	maxWait    = time.Hour
)

// A Param is one parameter of the kernel command line that the init honours.
type Param struct {
	Name  string // as typed, without "="
	Value string // what may follow "=", for people; empty where the bare word is the usual form
	Doc   string // one sentence
	set   func(c *Config, value string, hasValue bool) error
}

// Params returns the parameters in the order of the reference, which is made from them.
func Params() []Param { return append([]Param(nil), params...) }

// ParseCmdline reads a kernel command line over the defaults c. Words that are not the init's are left alone, except below
// "veneer.", where an unknown one is a mistake: a misspelt policy must not be a policy that was never set. All mistakes are
// reported at once, in the order of the line, each with the number of its word. Words after "--" belong to the next init.
//
// Quoting follows the kernel's next_arg (lib/cmdline.c): double quotes protect spaces, around the word or around the value.
func ParseCmdline(c Config, line string) (Config, error) {
	if len(line) > maxCmdline {
		return c, fmt.Errorf("command line of %d bytes is longer than %d", len(line), maxCmdline)
	}
	words, err := split(line)
	if err != nil {
		return c, err
	}
	var errs []error
	seen := map[string]string{}
	for i, w := range words {
		if w == "--" {
			break
		}
		name, value, has := cutWord(w)
		p := lookup(name)
		if p == nil {
			if strings.HasPrefix(name, "veneer.") {
				errs = append(errs, fmt.Errorf("word %d, %q: no such parameter; see 'veneer help parameters'", i+1, clip(w)))
			}
			continue
		}
		if former, twice := seen[name]; twice && strings.HasPrefix(name, "veneer.") && former != value {
			errs = append(errs, fmt.Errorf("word %d, %q: contradicts %q before it; give it once", i+1, clip(w), clip(former)))
			continue
		}
		seen[name] = value
		if err := p.set(&c, value, has); err != nil {
			errs = append(errs, fmt.Errorf("word %d, %q: %w", i+1, clip(w), err))
		}
	}
	return c, errors.Join(errs...)
}

func lookup(name string) *Param {
	for i := range params {
		if params[i].Name == name {
			return &params[i]
		}
	}
	return nil
}

// split cuts a line into words at white space outside double quotes.
func split(line string) ([]string, error) {
	var words []string
	start, quoted := -1, false
	for i := 0; i <= len(line); i++ {
		end := i == len(line)
		switch {
		case !end && line[i] == '"':
			quoted = !quoted
			if start < 0 {
				start = i
			}
		case end || !quoted && isSpace(line[i]):
			if start >= 0 {
				if i-start > maxParam {
					return nil, fmt.Errorf("word %d of the command line is longer than %d bytes", len(words)+1, maxParam)
				}
				words = append(words, line[start:i])
				start = -1
			}
		case start < 0:
			start = i
		}
	}
	if quoted {
		return nil, errors.New("command line has an opening double quote without its closing one")
	}
	return words, nil
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// cutWord separates name and value, without the quotes around the word or around the value.
func cutWord(w string) (name, value string, has bool) {
	if len(w) > 1 && w[0] == '"' {
		w = strings.TrimSuffix(w[1:], `"`)
	}
	name, value, has = strings.Cut(w, "=")
	if len(value) > 0 && value[0] == '"' {
		value = strings.TrimSuffix(value[1:], `"`)
	}
	return name, value, has
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}

func parseBool(value string, has bool) (bool, error) {
	if !has {
		return true, nil
	}
	switch value {
	case "1", "yes", "on", "true":
		return true, nil
	case "0", "no", "off", "false":
		return false, nil
	}
	return false, fmt.Errorf("want 1 or 0, yes or no, not %q", value)
}

// parseSeconds reads whole seconds, or a duration with its unit (500ms, 2m).
func parseSeconds(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil {
		n, nerr := strconv.ParseUint(value, 10, 32)
		if nerr != nil {
			return 0, fmt.Errorf("want seconds or a duration like 500ms, not %q", value)
		}
		d = time.Duration(n) * time.Second
	}
	if d < 0 || d > maxWait {
		return 0, fmt.Errorf("%s lies outside 0 to %s", d, maxWait)
	}
	return d, nil
}

// ParseStoreRef reads DEVICE or DEVICE:/DIR, cut at the last ":/".
func ParseStoreRef(s string) (StoreRef, error) {
	dev, dir := s, "veneer"
	if i := strings.LastIndex(s, ":/"); i >= 0 {
		dev, dir = s[:i], s[i+2:]
		if path.Clean("/"+dir) != "/"+dir || dir == "" && s[i+1:] != "/" {
			return StoreRef{}, fmt.Errorf("store directory %q is not a clean absolute path", "/"+dir)
		}
		if strings.ContainsRune(dir, 0) {
			return StoreRef{}, fmt.Errorf("store directory %q holds a NUL byte", dir)
		}
		if dir == "" {
			dir = "."
		}
	}
	ref, err := ParseDeviceRef(dev)
	return StoreRef{ref, dir}, err
}

// ParseRoot reads DEVICE or DEVICE:/DIR as ParseStoreRef does, but without a DIR the root is that of the device.
func ParseRoot(s string) (StoreRef, error) {
	if !strings.Contains(s, ":/") {
		s += ":/"
	}
	return ParseStoreRef(s)
}

// A Word is one word of a command line.
type Word struct {
	Name, Value string // without quotes
	Has         bool   // there is a "="
}

// Words splits a kernel command line up to "--" as ParseCmdline does.
func Words(line string) ([]Word, error) {
	all, err := split(line)
	words := make([]Word, 0, len(all))
	for _, w := range all {
		if w == "--" {
			break
		}
		name, value, has := cutWord(w)
		words = append(words, Word{name, value, has})
	}
	return words, err
}

// ParseUpper reads tmpfs or persistent, and behind a colon size=SIZE.
func ParseUpper(s string) (Upper, error) {
	kind, opts, has := strings.Cut(s, ":")
	u := Upper{Kind: UpperKind(kind)}
	if u.Kind != UpperTmpfs && u.Kind != UpperPersistent {
		return Upper{}, fmt.Errorf("upper %q is unknown; want tmpfs or persistent, and perhaps :size=SIZE (where things are kept is said by veneer.state=)", clip(s))
	}
	if has {
		value, ok := strings.CutPrefix(opts, "size=")
		if !ok {
			return Upper{}, fmt.Errorf("upper option %q is unknown; want size=SIZE", clip(opts))
		}
		size, err := ParseSize(value)
		if err != nil {
			return Upper{}, err
		}
		u.Size = size
	}
	return u, nil
}

// ParsePlace reads none, store, or DEVICE[:/DIR] as ParseStoreRef does.
func ParsePlace(s string) (Place, error) {
	switch kind := PlaceKind(s); kind {
	case NoState, StateInStore:
		return Place{Kind: kind}, nil
	}
	on, err := ParseStoreRef(s)
	if err != nil {
		return Place{}, fmt.Errorf("want none, store, or a device: %w", err)
	}
	return Place{StateOnDevice, on}, nil
}

// ParseMissing reads a policy for a missing state.
func ParseMissing(s string) (Missing, error) {
	switch p := Missing(s); p {
	case MissingWait, MissingFail, MissingEphemeral, MissingCreate:
		return p, nil
	}
	return "", fmt.Errorf("policy %q is unknown; want wait, fail, ephemeral or create", clip(s))
}

// ParseOnFail reads a policy for a failing step.
func ParseOnFail(s string) (OnFail, error) {
	switch p := OnFail(s); p {
	case Poweroff, Reboot, Halt, Shell, Ephemeral:
		return p, nil
	case Fallback:
		return "", fmt.Errorf("policy %q is not supported by this version; want poweroff, reboot, halt, shell or ephemeral", s)
	}
	return "", fmt.Errorf("policy %q is unknown; want poweroff, reboot, halt, shell or ephemeral", s)
}
