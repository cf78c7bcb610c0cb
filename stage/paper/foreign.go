package paper

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing/fstest"

	"veneer/boot"
	"veneer/boot/dialect/persistence"
	"veneer/stage"
)

var _ stage.Scout = (*Machine)(nil)

// NextDevice implements stage.Scout: the first device is the medium, the next carries what is kept.
func (p *Machine) NextDevice(_ context.Context, seen map[string]bool) (stage.Device, error) {
	// Where the line names the device of the medium, nobody asks here.
	const medium, kept = "/dev/MEDIUM", "/dev/KEPT"
	switch {
	case p.Foreign == nil:
	case !seen[medium] && !p.looked && (p.Foreign.Device.Kind == "" || p.ISO != ""):
		p.looked = true
		p.Say(fmt.Sprintf("look at each device for up to %s, removable ones first, for a medium of %s", p.Wait, p.Foreign.Dialect))
		return stage.Device{Path: medium, FileSystem: "iso9660"}, nil
	case !seen[kept] && p.Foreign.Kept.Asked && len(p.Foreign.Kept.Labels) > 0:
		labels := strings.Join(p.Foreign.Kept.Labels, " or ")
		p.Say("look at each device for what is labelled " + labels)
		return stage.Device{Path: kept, FileSystem: "ext4", Label: p.Foreign.Kept.Labels[0]}, nil
	}
	return stage.Device{}, stage.ErrNoDevice
}

// mediumFiles are the files of an example of a medium of others, as their dialect lays it out.
func mediumFiles(f boot.Foreign) fs.FS {
	image := &fstest.MapFile{Data: append([]byte("hsqs"), make([]byte, 4092)...)}
	files := fstest.MapFS{}
	put := func(names ...string) {
		for _, n := range names {
			files[path.Join(f.Dir, n)] = image
		}
	}
	switch f.Dialect {
	case boot.Dracut, boot.COS:
		if put("squashfs.img"); f.Image != "" {
			put(f.Image)
		}
	case boot.LiveBoot:
		put("filesystem.squashfs")
		if f.List != "" {
			files[path.Join(f.Dir, f.List+".module")] = &fstest.MapFile{Data: []byte("filesystem.squashfs\n")}
		}
	case boot.Casper:
		if put("filesystem.squashfs"); f.Image != "" {
			parts := strings.Split(strings.TrimSuffix(f.Image, ".squashfs"), ".")
			for n := range parts {
				put(strings.Join(parts[:n+1], ".") + ".squashfs")
			}
		}
	case boot.Archiso:
		put("x86_64/airootfs.sfs")
	}
	if f.Marker != "" {
		files[f.Marker] = &fstest.MapFile{}
	}
	return files
}

// isoFiles is a device with an ISO on it.
func isoFiles(name string) fs.FS {
	return fstest.MapFS{strings.TrimPrefix(name, "/"): {}}
}

// keptFiles is what an example of a persistence of live-boot's says.
func keptFiles() fs.FS {
	return fstest.MapFS{persistence.Name: {Data: []byte("/ union\n")}}
}
