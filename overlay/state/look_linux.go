package state

import (
	"bytes"
	"path"
)

// Idle reports whether CarryOut has nothing to do: no request is on file, no operation was interrupted, and the ballast is there.
// Of what lies aside it reads the records, and asks no more of them than whether they are done.
func (d *Dir) Idle() bool {
	if names, err := d.names(requestsDir, maxRequests); err != nil || len(names) > 0 {
		return false
	}
	names, err := d.names(asideDir, maxRequests)
	if err != nil {
		return false
	}
	for _, n := range names {
		text, err := d.read(path.Join(asideDir, n, "aside.json"), 8*maxSmall)
		if err != nil || !bytes.Contains(text, []byte("\n  \"phase\": \""+phaseDone+"\",\n")) {
			return false
		}
	}
	return d.hasBallast()
}

// HasSiteRules reports whether the site made rules.
func (d *Dir) HasSiteRules() bool {
	_, there, err := d.lstat(siteRulesFile)
	return err != nil || there
}

// Has reports whether something is kept at rel, and lacks nothing that the base would have given it.
func (d *Dir) Has(rel string) bool {
	if _, there, err := d.lstat(rel); err != nil || !there {
		return false
	}
	_, there, err := d.lstat(reseedFile)
	return err == nil && !there
}
