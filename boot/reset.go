package boot

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Scopes of a reset, beside an absolute path in the merged root.
const (
	ScopeAll   = "all"   // everything that was ever written
	ScopeEtc   = "etc"   // what was written to /etc
	ScopeData  = "data"  // what persist rules kept
	ScopeUpper = "upper" // every upper: what was written over the base
)

// Reset is what a command line asks to be wiped before this boot. The zero value asks for nothing.
type Reset struct {
	Word   string // the order as it was given, by which it is known again at the next boot
	Scope  string
	Keep   []string // identity, network, snapshots or absolute paths
	Secure bool
	Off    bool // systemd.factory_reset=0: what the firmware asks for does not count either
}

// maxKeep bounds what a command line can keep.
const maxKeep = 64

// ParseReset reads SCOPE[,keep=WHAT]...[,secure][,token=TOKEN]. All mistakes are reported at once.
func ParseReset(s string) (Reset, error) {
	words := strings.Split(s, ",")
	r := Reset{Word: s, Scope: words[0]}
	var errs []error
	switch r.Scope {
	case ScopeAll, ScopeEtc, ScopeData, ScopeUpper:
	default:
		errs = append(errs, cleanPath("scope", r.Scope, "all, etc, data, upper"))
	}
	for _, w := range words[1:] {
		name, value, has := strings.Cut(w, "=")
		switch {
		case name == "keep" && has:
			switch value {
			case "identity", "network", "snapshots":
			default:
				errs = append(errs, cleanPath("keep", value, "identity, network, snapshots"))
			}
			r.Keep = append(r.Keep, value)
		case w == "secure":
			r.Secure = true
		case name == "token" && value != "":
		default:
			errs = append(errs, fmt.Errorf("%q: want keep=, secure or token=", clip(w)))
		}
	}
	if len(r.Keep) > maxKeep {
		errs = append(errs, fmt.Errorf("more than %d things to keep", maxKeep))
	}
	if err := errors.Join(errs...); err != nil {
		return Reset{}, err
	}
	return r, nil
}

func cleanPath(what, p, words string) error {
	if path.IsAbs(p) && path.Clean(p) == p && strings.IndexByte(p, 0) < 0 {
		return nil
	}
	return fmt.Errorf("%s %q: want %s or a clean absolute path", what, clip(p), words)
}

// aliasReset reads a word of others that asks for a reset. What veneer.reset= says comes first, wherever it stands.
func (c *Config) aliasReset(name, scope, value string, has bool) error {
	on, err := parseBool(value, has)
	switch {
	case err != nil:
		return err
	case !on:
		c.Reset.Off = c.Reset.Off || scope == ScopeAll
	case c.Reset.Scope == "":
		c.Reset.Scope, c.Reset.Word = scope, name
	}
	return nil
}
