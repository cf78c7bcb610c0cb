package changes

import (
	"cmp"
	"strings"

	"veneer/overlay/rule"
)

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
//	reboot       yes              no                by the globs     by the globs  yes
//	upgrade      as the new base  (as the reboot)   by base-change   yes           by base-change
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
	v := Survival{Reboot: a.reboot(s), Reset: lost("no: it is moved away, and can be had back with `veneer undo` until the boot is blessed")}
	if !there {
		v.Reset.How = "it comes back"
	}
	if !v.Reboot.Kept {
		v.Upgrade, v.Reset = lost("as a reboot"), lost("as a reboot")
		return v
	}
	v.Upgrade = a.upgrade(s)
	return v
}

// reboot is what the globs of the rule say of the path.
func (a *Answer) reboot(s *Source) Fate {
	yes, no, back := "yes", "no", ""
	if a.Kind == "" {
		yes, back = "yes: it stays deleted", "it comes back"
	}
	said, name := s.Rule.Said, strings.TrimPrefix(a.Path[len(strings.TrimSuffix(s.Mount, "/")):], "/")
	switch {
	case said == nil && (s.Rule.Action == "persist" || s.Rule.Action == "merge"):
		return kept(yes + ", unless allow or deny of the rule say otherwise: the manifest, which has them, cannot be read")
	case said == nil || name == "" || len(said.Allow)+len(said.Deny) == 0:
		return kept(yes)
	}
	denied := !rule.Rule{Deny: said.Deny}.Survives(name)
	switch {
	case said.Survives(name) && len(said.Allow) > 0:
		return kept(yes + ": the rule allows it")
	case said.Survives(name):
		return kept(yes + ": the rule does not deny it")
	}
	why := "the rule does not allow it"
	if denied {
		why = "the rule denies it"
	}
	if a.Kind == Directory {
		why += ", but what is in it and survives"
	}
	return lost(cmp.Or(back, no) + ": " + why)
}

// upgrade is what the policy of the upper makes of the path on another base.
func (a *Answer) upgrade(s *Source) Fate {
	policy := rule.BaseChange("")
	switch {
	case s.Bind:
		return kept("yes: data is not touched by a new base")
	case s.Rule.Said != nil:
		policy = s.Rule.Said.OnBaseChange()
	case s.Rule.Action == "merge":
		return a.verdict()
	}
	switch policy {
	case rule.MergeChange:
		return a.verdict()
	case rule.Keep:
		return kept("yes: what was written stays over what the next base has (keep)")
	case rule.Quarantine:
		return lost("no: the upper is moved aside, and stays there until `veneer undo` (quarantine)")
	case rule.Reset:
		return lost("no: the upper is moved aside, and can be had back with `veneer undo` until a bless (reset)")
	}
	return kept("yes, unless base-change of the upper says otherwise: the manifest, which has it, cannot be read")
}

// verdict is what the merge would say.
func (a *Answer) verdict() Fate {
	const conflict = " too, it is a conflict: this one stays, and the base's is put beside it as NAME.new"
	switch a.Differs.Type {
	case Added:
		return kept("yes (kept-local); if the next base adds one" + conflict)
	case Deleted:
		return kept("it stays deleted (deleted-local)")
	case Same:
		return lost("no: it equals the base, and follows the next one (pruned)")
	case Metadata:
		return kept("yes: the metadata is kept, with the content of the next base (merged)")
	}
	return kept("yes (kept-local); if the next base changes it" + conflict)
}
