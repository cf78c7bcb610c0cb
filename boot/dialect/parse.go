package dialect

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"veneer/boot"
)

// maxCmdline is the most that boot.ParseCmdline reads too.
const maxCmdline = 16 << 10

// said is a word for people.
func said(w boot.Word) string {
	if w.Has {
		return clip(w.Name + "=" + w.Value)
	}
	return clip(w.Name)
}

// Alias is a word of another dialect, and what it came to.
type Alias struct {
	Word  string
	Means string
}

// String is the alias as record and status show it.
func (a Alias) String() string { return a.Word + " -> " + a.Means }

// Parse reads what a kernel command line says in others' dialects over the defaults c. What our own parameters on the same line say
// is boot.ParseCmdline's to read, over what Parse returns. All mistakes are reported at once, in the order of the line, each with the
// number of its word. Quoting and "--" are those of boot.ParseCmdline.
func Parse(c boot.Config, line string) (boot.Config, []Alias, error) {
	if len(line) > maxCmdline {
		return c, nil, fmt.Errorf("command line of %d bytes is longer than %d", len(line), maxCmdline)
	}
	words, err := boot.Words(line)
	if err != nil {
		return c, nil, err
	}
	p := newReading(c)
	for _, w := range words {
		p.sign(w.Name, w.Value)
	}
	var errs []error
	for i, w := range words {
		row := lookup(w.Name)
		if row == nil || !p.speaks(row.Needs) {
			continue
		}
		before := slices.Clone(p.native)
		err := row.refusal()
		if err == nil && row.set != nil {
			err = row.set(p, w.Value, w.Has)
		}
		switch {
		case errors.Is(err, errOther):
			continue // root=UUID=... is everybody's
		case err != nil:
			errs = append(errs, fmt.Errorf("word %d, %q: %w", i+1, said(w), err))
			continue
		}
		p.aliases = append(p.aliases, Alias{said(w), row.means(added(before, p.native))})
	}
	if err := p.finish(); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		if p.config, err = boot.ParseCmdline(p.config, strings.Join(p.native, " ")); err != nil {
			errs = append(errs, fmt.Errorf("what it means in our own parameters, %s: %w", strings.Join(p.native, " "), err))
		}
	}
	return p.config, p.aliases, errors.Join(errs...)
}

// added is what after has that before had not.
func added(before, after []string) []string {
	return slices.DeleteFunc(slices.Clone(after), func(w string) bool { return slices.Contains(before, w) })
}

// errOther is returned by a row for a value that it leaves to others.
var errOther = errors.New("left to others")

// reading is a command line that is being read.
type reading struct {
	config  boot.Config
	signs   map[boot.Dialect]bool // whose own sign is on the line
	root    boot.DeviceRef        // root=
	foreign boot.Foreign
	iso     iso

	keepNothing bool // nopersistence

	native  []string // what was said, in our own parameters
	aliases []Alias
}

// iso is an image of a disc as a file on another device, in parts.
type iso struct{ device, path string }

func newReading(c boot.Config) *reading {
	return &reading{config: c, signs: map[boot.Dialect]bool{}}
}

// sign notes whose dialect the line speaks.
func (p *reading) sign(name, value string) {
	switch {
	case name == "root" && strings.HasPrefix(value, "live:"), name == "rd.live.image":
		p.signs[boot.Dracut] = true
	case name == "boot" && value == "live":
		p.signs[boot.LiveBoot] = true
	case name == "boot" && value == "casper", name == "layerfs-path":
		p.signs[boot.Casper] = true
	case strings.HasPrefix(name, "archiso"):
		p.signs[boot.Archiso] = true
	case name == "cos-img/filename":
		p.signs[boot.COS] = true
	case name == "overlayroot" && value != "disabled" && value != "", name == "overlaytmpfs":
		p.signs[overlayroot] = true
	case name == "from", name == "perch", name == "perchdir", name == "changes":
		p.signs[slax] = true
	}
}

// speaks reports whether one of these dialects is spoken; none at all is always.
func (p *reading) speaks(needs []boot.Dialect) bool {
	return len(needs) == 0 || slices.ContainsFunc(needs, func(d boot.Dialect) bool { return p.signs[d] })
}

// say says something in our own parameters.
func (p *reading) say(name, value string) error {
	word := name
	if value != "" {
		word += "=" + value
	}
	if strings.ContainsRune(word, '"') {
		return fmt.Errorf("%q holds a double quote, which our own parameters cannot say", clip(value))
	}
	if strings.ContainsFunc(word, func(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' }) {
		word = `"` + word + `"`
	}
	for i, said := range p.native {
		switch {
		case strings.HasPrefix(said, word):
			return nil
		case strings.HasPrefix(word, said): // a size, for the kind that was said
			p.native[i] = word
			return nil
		}
	}
	p.native = append(p.native, word)
	return nil
}

// finish puts together what several words say.
func (p *reading) finish() error {
	var spoken []string
	for _, d := range []boot.Dialect{boot.Dracut, boot.LiveBoot, boot.Casper, boot.Archiso, boot.COS, overlayroot} {
		if p.signs[d] {
			spoken = append(spoken, string(d))
			p.foreign.Dialect = d
		}
	}
	if p.iso.path != "" {
		at := p.iso.path
		if p.iso.device != "" {
			at = p.iso.device + ":" + at
		}
		if err := p.say("veneer.medium", at); err != nil {
			return err
		}
	}
	if len(spoken) > 1 {
		return fmt.Errorf("the line speaks of the media of %s at once; give those of one", strings.Join(spoken, " and of "))
	}
	if len(spoken) == 0 || slices.ContainsFunc(p.native, func(w string) bool { return strings.HasPrefix(w, "veneer.url=") }) {
		return nil
	}
	f := &p.foreign
	switch f.Dialect {
	case boot.Dracut:
		if f.Device.Kind == "" {
			f.Device = p.root
		}
		if f.Device.Kind == "" {
			return errors.New("rd.live.image: nothing says where the medium is; give root=live:LABEL=NAME")
		}
	case overlayroot:
		if p.root.Kind == "" {
			return errors.New("overlayroot=: nothing says where the root is; give root=UUID=ID")
		}
		return p.say("veneer.root", p.root.String())
	}
	if f.Dir == "" {
		f.Dir = map[boot.Dialect]string{boot.Dracut: "LiveOS", boot.LiveBoot: "live", boot.Casper: "casper", boot.Archiso: "arch", boot.COS: "cOS"}[f.Dialect]
	}
	if !f.Kept.Asked || p.keepNothing {
		f.Kept = boot.Kept{}
	} else if f.Kept.Device.Kind == "" && len(f.Kept.Labels) == 0 {
		f.Kept.Labels = map[boot.Dialect][]string{boot.LiveBoot: {"persistence"}, boot.Casper: {"writable", "casper-rw"}}[f.Dialect]
	}
	p.config.Foreign = f
	return nil
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}

// Strings is Parse for whoever only shows the aliases.
func Strings(c boot.Config, line string) (boot.Config, []string, error) {
	c, aliases, err := Parse(c, line)
	said := make([]string, len(aliases))
	for i, a := range aliases {
		said[i] = a.String()
	}
	return c, said, err
}
