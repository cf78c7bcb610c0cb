package state

import ()

// Idle reports whether CarryOut has nothing to do: no request is on file, no operation may have been interrupted, and the ballast
// is there. It reads no more than a few names.
func (d *Dir) Idle() bool {
	for _, dir := range []string{requestsDir, asideDir} {
		if names, err := d.names(dir, maxRequests); err != nil || len(names) > 0 {
			return false
		}
	}
	return d.hasBallast()
}

// Has reports whether something is kept at rel, and lacks nothing that the base would have given it.
func (d *Dir) Has(rel string) bool {
	if _, there, err := d.lstat(rel); err != nil || !there {
		return false
	}
	_, there, err := d.lstat(reseedFile)
	return err == nil && !there
}
