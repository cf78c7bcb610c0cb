package build

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Loss names what an image may lack that its source had. A loss that is not allowed by name fails the build.
type Loss string

// The losses.
const (
	LossACL         Loss = "acl"
	LossXattrs      Loss = "xattrs"
	LossSockets     Loss = "sockets"
	LossTimes       Loss = "times"
	LossSubsecond   Loss = "subsecond-times"
	LossRootTime    Loss = "root-time"
	LossOverlay     Loss = "overlay-marks"
	LossMounts      Loss = "mounts"
	LossDirectories Loss = "implied-directories"
	LossPAX         Loss = "pax-records"
	LossFlags       Loss = "flags"
	LossInit        Loss = "no-init" // of the base and all layers together
)

// loss says what becomes of a file whose loss is allowed, and what can be done about it.
type loss struct {
	kept   string
	remedy string
	usual  bool // allowed unless allow.strict is set: nearly every tree has it, and no program is known to mind
}

var losses = map[Loss]loss{
	LossACL: {kept: "POSIX ACLs are left out",
		remedy: `remove them with setfacl -b, or use filesystem.type = "erofs", which keeps those of a directory, and of an archive made with tar --xattrs`},
	LossXattrs: {kept: "these attributes are left out", remedy: "remove them with setfattr -x"},
	LossSockets: {kept: "sockets are left out: the program that listens makes its own",
		remedy: "remove them"},
	LossTimes:     {kept: "the times are set to the nearest that can be told", remedy: "set them with touch"},
	LossSubsecond: {kept: "times are kept in whole seconds", remedy: "set them with touch", usual: true},
	LossRootTime: {kept: "the root directory has the newest time of the tree", usual: true,
		remedy: "squashfs-tools 4.6 keeps it"},
	LossOverlay: {kept: "overlayfs will act on them: they hide what lies in the images below",
		remedy: "they are what an overlay's upper directory or a container layer holds; build from the merged tree instead"},
	LossMounts: {kept: "what is mounted there is taken along", remedy: "unmount it"},
	LossDirectories: {kept: "they are made with mode 0755, owner 0:0", usual: true,
		remedy: "make the archive with entries for its directories"},
	LossPAX: {kept: "these records are ignored", remedy: "make the archive without them"},
	LossFlags: {kept: "the flags are left out: whoever may write the file may change it",
		remedy: "take them off with chattr -ia"},
	LossInit: {kept: "no machine boots it unless init=PATH names a program there",
		remedy: "install one into it (Debian: apt-get install systemd-sysv)"},
}

// usualLosses are those that are allowed unless allow.strict is set.
func usualLosses() []Loss {
	var usual []Loss
	for _, name := range slices.Sorted(maps.Keys(losses)) {
		if losses[name].usual {
			usual = append(usual, name)
		}
	}
	return usual
}

func lossNames() []string {
	var names []string
	for name := range losses {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

// shown is how many paths of one kind are named in a report; the others are counted.
const shown = 8

// LossReport tells of a loss that was allowed.
type LossReport struct {
	Loss  Loss     `json:"loss"`
	Kept  string   `json:"kept"` // what became of the files
	Count int      `json:"count"`
	First []string `json:"first"` // paths, with what was found
}

// findings collects what is wrong with a tree, in bounded memory.
type findings struct {
	order []finding
	kinds map[finding]*found
}

// finding is one kind of trouble. Without a loss it cannot be allowed.
type finding struct {
	loss   Loss
	remedy string
}

type found struct {
	count int
	first []string
}

// add notes a loss at a path. what may be empty.
func (f *findings) add(l Loss, path, what string) { f.note(finding{loss: l}, path, what) }

// refuse notes what no image can hold.
func (f *findings) refuse(path, what, remedy string) { f.note(finding{remedy: remedy}, path, what) }

func (f *findings) note(kind finding, path, what string) {
	if f.kinds == nil {
		f.kinds = map[finding]*found{}
	}
	k := f.kinds[kind]
	if k == nil {
		k = &found{}
		f.kinds[kind] = k
		f.order = append(f.order, kind)
	}
	k.count++
	if len(k.first) < shown {
		text := quotePath(path)
		if what != "" {
			text += ": " + what
		}
		k.first = append(k.first, text)
	}
}

// judge splits the findings into those that are allowed and an error that lists all others.
func (f *findings) judge(source string, allowed []Loss) ([]LossReport, error) {
	var reports []LossReport
	var errs []error
	for _, kind := range f.order {
		k := f.kinds[kind]
		if kind.loss != "" && slices.Contains(allowed, kind.loss) {
			reports = append(reports, LossReport{kind.loss, losses[kind.loss].kept, k.count, k.first})
			continue
		}
		lines := slices.Clone(k.first)
		if more := k.count - len(lines); more > 0 {
			lines = append(lines, fmt.Sprintf("and %d more", more))
		}
		remedy := kind.remedy
		if kind.loss != "" {
			remedy = fmt.Sprintf("%s; or accept that %s: add %q to allow.losses", losses[kind.loss].remedy, losses[kind.loss].kept, kind.loss)
		}
		errs = append(errs, fmt.Errorf("  %s\n    -> %s", strings.Join(lines, "\n  "), remedy))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%s cannot be kept as it is:\n%w", source, err)
	}
	return reports, nil
}

// quotePath makes a path fit for one line of text.
func quotePath(path string) string {
	if q := fmt.Sprintf("%q", path); q != `"`+path+`"` || path == "" {
		return q
	}
	return path
}
