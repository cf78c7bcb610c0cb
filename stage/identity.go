package stage

import (
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
	for _, d := range done {
		line := d.Name + " = " + string(d.Mode)
		if d.What != "" {
			line += ": " + d.What
		}
		r.Detailf("%s", line)
		if d.Err != nil {
			r.Degrade("the identity is less than was asked for", d.Err.Error())
		}
		r.Record.Identity = append(r.Record.Identity, Identity{Name: d.Name, Mode: string(d.Mode), What: d.What})
	}
	return err
}
