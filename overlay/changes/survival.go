package changes

// Survival says what becomes of what one sees: of a path that was deleted, whether it stays so.
type Survival struct {
	Reboot  Fate `json:"reboot"`
	Upgrade Fate `json:"upgrade"` // another base
	Reset   Fate `json:"reset"`
}

// Fate is an answer for programs, and in plain words.
type Fate struct {
	Kept bool   `json:"kept"`
	How  string `json:"how"`
}

func kept(how string) Fate { return Fate{true, how} }
func lost(how string) Fate { return Fate{false, how} }

// survival follows from who supplies the path and by which rule.
//
//	             image            volatile upper    merge upper      data          kept root upper
//	reboot       yes              no                yes              yes           yes
//	upgrade      as the new base  (as the reboot)   by the verdict   yes           yes, over the new base
//	reset        yes              (as the reboot)   no               no            no
func (a *Answer) survival(s *Source) Survival {
	written, there := a.Differs != nil, a.Kind != ""
	switch {
	case !there && !written:
		return Survival{}
	case !written && a.Layer.Role != RoleUpper && a.Layer.Role != RoleData:
		return Survival{kept("yes: it is in an image"), lost("as the next images have it"), kept("yes: nothing was written here")}
	case s.Rule.Volatile:
		f := lost("no: the upper is volatile")
		switch {
		case !there:
			f.How = "it comes back: the upper that hides it is volatile"
		case s.Rule.Why != "":
			f.How = "no: the state is ephemeral (" + Plain(s.Rule.Why) + ")"
		}
		return Survival{f, lost("as a reboot"), lost("as a reboot")}
	}
	v := Survival{Reboot: kept("yes"), Reset: lost("no: it is moved away, and can be had back with `veneer undo` until the boot is blessed")}
	if s.Rule.Action == "persist" || s.Rule.Action == "merge" {
		v.Reboot.How = "yes, unless the rule's allow and deny say otherwise"
	}
	if !there {
		v.Reboot.How, v.Reset.How = "yes: it stays deleted", "it comes back"
	}
	switch {
	case s.Bind:
		v.Upgrade = kept("yes: data is not touched by a new base")
	case s.Rule.Action == "merge":
		v.Upgrade = a.verdict()
	default:
		v.Upgrade = kept("yes, over what the next base has, by the base-change policy of its upper")
	}
	return v
}

// verdict is what the three-way merge would say.
func (a *Answer) verdict() Fate {
	const conflict = "a conflict: this one stays, the other is put beside it as NAME.new"
	switch a.Differs.Type {
	case Added:
		return kept("yes (kept-local); if the next base adds it too, and otherwise, " + conflict)
	case Deleted:
		return kept("it stays deleted (deleted-local)")
	case Same:
		return lost("no: it equals the base, and follows the next one (pruned)")
	case Metadata:
		return kept("yes: the metadata is kept, with the content of the next base (merged)")
	}
	return kept("yes (kept-local); if the next base changes it too, " + conflict)
}
