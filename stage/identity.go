package stage

import (
	"time"

	"veneer/images"
	"veneer/overlay/identity"
)

// IdentityDir is the directory of the state in which a machine's identity is kept.
const IdentityDir = "identity"

// setIdentity gives the merged root what makes this machine itself. What of it fails is told and recorded, and no reason not to
// boot: the machine has an identity all the same, for this boot. state is the directory of the state, or "" where nothing is kept;
// asked is the machine-id of the command line.
func setIdentity(r *Runner, m Machine, root, state, asked string, man images.Manifest, kept identity.Kept) error {
	env := identity.Env{Name: man.Name, Built: time.Unix(man.Built, 0), Asked: asked, Kept: kept}
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
