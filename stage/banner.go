package stage

import "strings"

// Where logins show a banner: pam_motd(8) and agetty(8).
const (
	MotdPath  = "/run/motd.d/veneer"
	IssuePath = "/run/issue.d/veneer.issue"
)

// bannerWidth is how long a line of a banner may be: consoles have 80 columns, and some write in the last of them.
const bannerWidth = 79

// maxBannerCauses is how many things a banner names; `veneer status` names them all.
const maxBannerCauses = 5

// Banner is what a login has to say of a boot that is less than was asked for: what, why, and what to do. It is "" for a boot
// as it should be. The text is ASCII, and holds nothing that a terminal or agetty would take for more than text.
func (r *Record) Banner() string {
	lost := r.State.Kind == StateEphemeral
	if !lost && len(r.Degraded) == 0 {
		return ""
	}
	var b strings.Builder
	line := func(s string) { wrap(&b, s) }
	if lost {
		line("*** NOTHING IS KEPT: what is written now is gone after the next boot ***")
		why := "the state is ephemeral"
		if r.State.Reference != "" {
			why = "the state " + r.State.Reference + " is not used"
		}
		if r.State.Why != "" {
			why += ": " + r.State.Why
		}
		line("Why: " + why)
		line("To do: attach or repair the state, then reboot. Nothing that was kept before has been touched.")
	}
	if len(r.Degraded) > 0 {
		line("*** This system runs degraded ***")
	}
	for i, d := range r.Degraded {
		if i == maxBannerCauses {
			line("  and more")
			break
		}
		line("- " + d.What + ": " + d.Why)
	}
	line("More: veneer status")
	return b.String()
}

// wrap writes a line, broken at spaces and indented where it goes on.
func wrap(b *strings.Builder, s string) {
	s = ascii(s)
	for indent := ""; ; indent = "  " {
		room := bannerWidth - len(indent)
		if len(s) <= room {
			b.WriteString(indent + s + "\n")
			return
		}
		cut := strings.LastIndexByte(s[:room+1], ' ')
		if cut <= 0 {
			cut = room
		}
		b.WriteString(indent + s[:cut] + "\n")
		s = strings.TrimLeft(s[cut:], " ")
	}
}

// ascii replaces what is not printed as itself everywhere. A backslash is the beginning of an order to agetty.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r < ' ' || r > '~' || r == '\\':
			return '?'
		}
		return r
	}, s)
}
