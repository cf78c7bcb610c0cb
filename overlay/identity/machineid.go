package identity

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"veneer/images/sha2"
)

// Where machine-ids lie.
const (
	etcMachineID  = "etc/machine-id"
	dbusMachineID = "var/lib/dbus/machine-id"

	storedMachineID = "machine-id"
	firstBootMark   = "first-boot" // the first boot was begun and, as far as the state knows, not completed
)

// ID is a machine-id as machine-id(5) has it: 32 lower-case hexadecimal digits, not all of them zero.
type ID string

// ParseID reads the content of a machine-id file. As systemd does, it takes upper case for lower, and a missing end of line.
func ParseID(text []byte) (ID, error) {
	s := strings.TrimSuffix(string(text), "\n")
	if len(s) == 36 { // the form of a UUID, which systemd takes on its command line
		if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return "", fmt.Errorf("%q is no machine-id", clip(s))
		}
		s = strings.ReplaceAll(s, "-", "")
	}
	s = strings.ToLower(s)
	if len(s) != 32 || strings.Trim(s, "0123456789abcdef") != "" || strings.Trim(s, "0") == "" {
		return "", fmt.Errorf("%q is no machine-id: want 32 hexadecimal digits, not all zero", clip(s))
	}
	return ID(s), nil
}

// newID makes an ID of 16 or more bytes, with the marks of a random UUID (version 4), which some programs look for.
func newID(b []byte) ID {
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return ID(hex.EncodeToString(b[:16]))
}

// ErrNoPlatform is the error of a machine-id that should be derived from an ID which the platform does not have. The machine has
// another instead: a kept one where there is a state, else one for this boot.
var ErrNoPlatform = errors.New("the platform has no ID of its own to derive one from")

// derivedFor says what a derived ID is for, so that nobody who sees it learns the platform's own, and no other program that
// derives from the same has the same.
const derivedFor = "veneer machine-id\x00"

// DeriveID makes the ID of a platform, see Platform.
func DeriveID(platform string) ID {
	sum := sha2.Sum256([]byte(derivedFor + platform))
	return newID(sum[:])
}

// idFile is what a machine-id file says.
type idFile struct {
	id    ID   // "" unless it holds one
	fresh bool // missing, or the word that systemd takes for a first boot: the two that make ConditionFirstBoot= true
}

func (d *dir) idFile(rel string) idFile {
	text, err := d.read(rel, 256)
	if err != nil {
		return idFile{fresh: errors.Is(err, fs.ErrNotExist)}
	}
	id, err := ParseID(text)
	if err != nil {
		return idFile{fresh: usual(text) == "uninitialized"}
	}
	return idFile{id: id}
}

// idFacts are what the choice of a machine-id depends on.
type idFacts struct {
	mode     Mode
	cmdline  string // of systemd.machine_id=
	etc      idFile // of the merged root
	base     ID     // of the images
	kept     bool   // a rule keeps /etc/machine-id
	stored   ID
	begun    bool // the first boot is not known to have been completed
	platform string
	state    bool
}

// idChoice says which ID this boot has.
type idChoice struct {
	id        ID   // "": a new random one
	left      bool // nothing is to be done
	first     bool // systemd is to find a first boot, with this ID
	keep      bool // in the state
	underived bool // it should have been derived, and is not
	why       string
}

// choose picks the ID of this boot:
//
//	                     persist            derived             per-boot
//	systemd.machine_id=  that               that                that
//	kept /etc has one    that               -                   -
//	the state has one    that               -                   -
//	platform has one     -                  made of it          -
//	else                 random             random, kept        random
//
// A boot is the first one, where the base leaves that open, as long as the state knows of none that was completed. On a machine
// without a state each boot is, as it has always been with systemd and a volatile root.
func (f idFacts) choose() idChoice {
	if f.mode == Inherit {
		return idChoice{id: f.etc.id, left: true, why: "as the base has it"}
	}
	if f.cmdline == "firmware" { // systemd 258
		return idChoice{left: true, why: "left to systemd.machine_id=firmware"}
	}
	c := idChoice{keep: f.state && f.mode != PerBoot}
	asked, err := ParseID([]byte(f.cmdline))
	switch {
	case err == nil:
		c.id, c.why = asked, "from systemd.machine_id="
	case f.mode == PerBoot:
		c.why = "new for this boot"
	case f.mode == Derived && f.platform != "":
		c.id, c.why = DeriveID(f.platform), "derived from the platform's"
	case f.mode == Persist && f.kept && f.etc.id != "" && f.etc.id != f.base:
		c.id, c.why = f.etc.id, "from the kept /etc"
	case f.stored != "":
		c.id, c.why = f.stored, "kept"
	default:
		c.why = "new"
	}
	c.underived = f.mode == Derived && f.platform == "" && err != nil
	c.first = f.etc.fresh && (f.mode == PerBoot || !f.state || f.stored == "" || f.begun)
	return c
}

// machineID gives the merged root its machine-id. On a first boot /etc/machine-id stays as it is, so that systemd sees one, and
// its ID comes from where systemd looks first then: /var/lib/dbus/machine-id, when it is no link (generate_machine_id in its
// src/shared/machine-id-setup.c; before DMI, which would win in a VM). systemd mounts a file over /etc/machine-id for as long as
// that boot is not complete; so ours is never a mount (systemd-machine-id-commit fails over one).
func (a *applier) machineID(mode Mode) (string, error) {
	facts := idFacts{mode: mode, cmdline: a.env.Asked, etc: a.root.idFile(etcMachineID),
		kept: a.env.Kept.By("/"+etcMachineID) != "", platform: a.env.Platform, state: a.store != nil}
	if text, ok := a.base(etcMachineID, 256); ok {
		facts.base, _ = ParseID(text)
	}
	if a.store != nil {
		facts.stored = a.store.idFile(storedMachineID).id
		facts.begun = a.store.exists(firstBootMark)
	}
	c := facts.choose()
	a.id = c.id
	if c.left {
		return c.why, nil
	}
	if c.id == "" {
		b := make([]byte, 16)
		if _, err := a.env.System.Random(b); err != nil {
			return "", err
		}
		a.id = newID(b)
	}
	a.firstBoot = c.first
	line := []byte(a.id + "\n")
	var errs []error
	if c.underived {
		errs = append(errs, ErrNoPlatform)
	}
	if c.keep {
		// Before it is used: an ID that somebody has seen is never lost. The mark first: with it alone nothing has begun.
		var err error
		if c.first && !facts.begun && a.hasSaver() {
			err = a.store.write(firstBootMark, nil, 0o600)
		}
		if err == nil && facts.stored != a.id {
			err = a.store.write(storedMachineID, line, 0o600)
		}
		errs = append(errs, err)
	} else if mode == Persist {
		errs = append(errs, ErrNoState)
	}
	what := c.why
	switch {
	case c.first:
		what += ", first boot"
		errs = append(errs, a.root.write(dbusMachineID, line, 0o444))
	case facts.etc.id != a.id:
		errs = append(errs, a.root.write(etcMachineID, line, 0o444))
	}
	return what, errors.Join(errs...)
}

// hasSaver reports whether this root will tell, by Save, that its first boot was completed. Without systemd nobody asks.
func (a *applier) hasSaver() bool {
	return a.root.exists("usr/lib/systemd/system/"+SaveUnit) && (a.root.exists("usr/lib/systemd/systemd") || a.root.exists("lib/systemd/systemd"))
}

// dbus makes the ID of D-Bus the machine's, by a link, as dbus's own tmpfiles.d does on Debian and Fedora. On a first boot the
// file there is systemd's source.
func (a *applier) dbus(mode Mode) (string, error) {
	const to = "/" + etcMachineID
	switch {
	case mode == Inherit:
		return "as the base has it", nil
	case !a.root.exists("var/lib/dbus"):
		return "no D-Bus", nil
	case a.firstBoot:
		return "the machine-id", nil
	case a.root.idFile(etcMachineID).id == "":
		return "as the base has it, without a machine-id", nil
	case a.root.link(dbusMachineID) == to || a.root.link(dbusMachineID) == "../../.."+to:
		return "the machine-id", nil
	}
	return "the machine-id", a.root.symlink(dbusMachineID, to)
}
