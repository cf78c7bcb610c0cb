package build

import (
	"archive/tar"
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// ignorable are the records that say nothing about a file that an image could keep, or that the reader has dealt with.
var ignorable = map[string]bool{"path": true, "linkpath": true, "size": true, "uid": true, "gid": true, "uname": true, "gname": true,
	"mtime": true, "atime": true, "ctime": true, "comment": true, "hdrcharset": true, "LIBARCHIVE.creationtime": true,
	"SCHILY.dev": true, "SCHILY.ino": true, "SCHILY.nlink": true, "SCHILY.realsize": true, "SCHILY.filetype": true,
	"SCHILY.devmajor": true, "SCHILY.devminor": true}

// readRecords takes the extended attributes from the PAX records.
func (s *tarScan) readRecords(e *Entry, h *tar.Header) {
	values := map[string][]byte{}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			values[name] = []byte(value)
			continue
		}
		if name, ok := strings.CutPrefix(key, "LIBARCHIVE.xattr."); ok {
			s.readLibarchive(e, values, name, value)
			continue
		}
		switch {
		case key == "SCHILY.acl.access" || key == "SCHILY.acl.default":
			s.tree.found.add(LossACL, e.Path, key)
		case !ignorable[key] && !strings.HasPrefix(key, "GNU.sparse."):
			s.tree.found.add(LossPAX, e.Path, key)
		}
	}
	for name, value := range values {
		e.Xattrs = append(e.Xattrs, Xattr{name, value})
	}
	slices.SortFunc(e.Xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
}

// readLibarchive reads bsdtar's own spelling of an attribute, which stands beside the other one.
func (s *tarScan) readLibarchive(e *Entry, values map[string][]byte, name, value string) {
	plain, err := url.PathUnescape(name)
	if err == nil {
		var raw []byte
		if raw, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "=")); err == nil {
			if _, ok := values[plain]; !ok {
				values[plain] = raw
			}
			return
		}
	}
	s.tree.found.refuse(e.Path, fmt.Sprintf("extended attribute %q is damaged: %v", name, err), "make the archive anew")
}
