package changes

// Survival says in plain words what becomes of a path.
type Survival struct {
	Reboot  string `json:"reboot"`
	Upgrade string `json:"upgrade"` // another base
	Reset   string `json:"reset"`
}

// survival follows from who supplies the path and by which rule.
//
//	             image            volatile upper    merge upper      data          kept root upper
//	reboot       yes              no                yes              yes           yes
//	upgrade      as the new base  (as the reboot)   by the verdict   yes           yes, over the new base
//	reset        yes              (as the reboot)   no               no            no
func (a *Answer) survival(s *Source) Survival {
	written := a.Differs != nil
	switch {
	case a.Kind == "" && !written:
		return Survival{}
	case !written && a.Layer != nil && a.Layer.Role != RoleUpper && a.Layer.Role != RoleData:
		return Survival{"yes: it is in an image", "as the next images have it", "yes: nothing was written here"}
	case s.Rule.Volatile:
		what := "no: the upper is volatile"
		if s.Rule.Why != "" {
			what = "no: the state is ephemeral (" + s.Rule.Why + ")"
		}
		if a.Kind == "" {
			what = "it comes back: the upper that hides it is volatile"
		}
		return Survival{what, "as a reboot", "as a reboot"}
	}
	v := Survival{Reboot: "yes", Reset: "no: it is moved away, and can be had back with `veneer undo` until the boot is blessed"}
	if s.Rule.Action == "persist" || s.Rule.Action == "merge" {
		v.Reboot = "yes, unless the rule's allow and deny say otherwise"
	}
	if a.Kind == "" {
		v.Reboot, v.Reset = "yes: it stays deleted", "it comes back"
	}
	switch {
	case s.Bind:
		v.Upgrade = "yes: data is not touched by a new base"
	case s.Rule.Action == "merge":
		v.Upgrade = a.verdict()
	default:
		v.Upgrade = "yes, over what the next base has, by the base-change policy of its upper"
	}
	return v
}

// verdict is what the three-way merge would say.
func (a *Answer) verdict() string {
	switch a.Differs.Type {
	case Added:
		return "yes (kept-local); if the next base adds it too and otherwise, a conflict: this one stays, the other is put beside it as NAME.new"
	case Deleted:
		return "it stays deleted (deleted-local)"
	case Same:
		return "no: it equals the base, and follows the next one (pruned)"
	case Metadata:
		return "yes: the metadata is kept, with the content of the next base (merged)"
	}
	return "yes (kept-local); if the next base changes it too, a conflict: this one stays, the other is put beside it as NAME.new"
}
