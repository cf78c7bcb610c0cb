package stage

import (
	"errors"
	"strings"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/identity"
	"veneer/overlay/rule"
)

// IdentityDir is the directory of the state in which a machine's identity is kept.
const IdentityDir = "identity"

// setIdentity gives the merged root what makes this machine itself. What of it fails is told and recorded, and no reason not to
// boot: the machine has an identity all the same, for this boot. asked is the machine-id of the command line.
func setIdentity(r *Runner, m Machine, root, asked string, man images.Manifest) error {
	env := identity.Env{Name: man.Name, Built: time.Unix(man.Built, 0), Asked: asked}
	state := ""
	if r.Record.State.Kind == StatePersistent {
		state = StateMount
		env.Kept.Root = r.Record.Upper.Kind == string(boot.UpperPersistent)
		for _, s := range r.Record.Rules {
			env.Kept.Rules = append(env.Kept.Rules, rule.Rule{Path: s.Path, Action: rule.Action(s.Action)})
		}
	}
	for _, img := range r.Record.Images {
		env.Images = append(env.Images, img.Mount)
	}
	done, err := m.Identity(root, state, identity.Complete(man.Identity, state != ""), env)
	why := ""
	for _, d := range done {
		line := d.Name + " = " + string(d.Mode)
		if d.What != "" {
			line += ": " + d.What
		}
		r.Detailf("%s", line)
		// That nothing is kept because the state is missing, everybody was told.
		if d.Err != nil && !(r.Record.State.Kind == StateEphemeral && errors.Is(d.Err, identity.ErrNoState)) {
			why += "; " + d.Err.Error()
		}
		r.Record.Identity = append(r.Record.Identity, Identity{Name: d.Name, Mode: string(d.Mode), What: d.What})
	}
	if why != "" {
		if strings.Contains(why, noSpace) {
			why += "; make room: veneer du, veneer cleanup"
		}
		r.Degrade("the identity is less than was asked for", why[2:])
	}
	return err
}

// noSpace is what the kernel says of a full disk.
const noSpace = "no space left"
