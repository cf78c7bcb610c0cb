package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"veneer/boot"
	"veneer/stage"
	"veneer/stage/watch"
)

// Live is what the report asks the running system, because the init could not know it.
type Live struct {
	Blessed  *bool        `json:"blessed"`       // this boot was found good; null: nobody can say
	Room     *Space       `json:"state-space"`   // in the state, now; null: there is none, or it cannot be asked
	Levels   []watch.Seen `json:"levels"`        // how full what can fill up is, by the watermarks
	ReadOnly []string     `json:"now-read-only"` // paths that the watch made read-only
}

// maxBlessing bounds the size of the mark of a blessed boot, in bytes.
const maxBlessing = 64 << 10

// live asks the system. What cannot be asked is left out.
func live(root string, rec *stage.Record) Live {
	l := Live{Levels: []watch.Seen{}, ReadOnly: []string{}}
	seen, _ := watch.ReadState(root)
	l.ReadOnly = append(l.ReadOnly, seen.ReadOnly...)
	policy := watch.PolicyOf(rec.Watermarks)
	for _, p := range watch.Places(rec) {
		room, err := p.Look(root)
		if err != nil {
			continue
		}
		percent, of := room.Percent()
		l.Levels = append(l.Levels, watch.Seen{Place: p, Level: policy.Next(watch.Good, percent), Percent: percent, Of: of})
	}
	if rec.State.Kind != stage.StatePersistent || rec.State.Mount == "" {
		return l
	}
	if space, err := spaceOf(filepath.Join(root, rec.State.Mount)); err == nil {
		l.Room = &space
	}
	id, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/random/boot_id"))
	if err != nil {
		return l
	}
	var mark struct {
		Boot string `json:"boot"`
	}
	blessed := false
	text, err := readBounded(filepath.Join(root, rec.State.Mount, "blessed"), maxBlessing)
	if err == nil && json.Unmarshal(text, &mark) == nil {
		blessed = mark.Boot != "" && mark.Boot == strings.TrimSpace(string(id))
	}
	l.Blessed = &blessed
	return l
}

// state is where this machine keeps what survives, in words.
func (r *Report) state() string {
	s := r.Record.State
	switch s.Kind {
	case stage.StatePersistent:
		where := plain(s.Device)
		if s.Reference != "" {
			where = plain(s.Reference) + " is " + where
		}
		return fmt.Sprintf("persistent; %s (%s), directory %s", where, plain(s.FileSystem), plain(filepath.Join("/", s.Dir))) + r.use()
	case stage.StateEphemeral:
		return "EPHEMERAL, NOTHING IS KEPT: " + plain(s.Reference) + " is not used: " + plain(s.Why)
	}
	if s.Why != "" {
		return "none: " + plain(s.Why)
	}
	return "none: nothing is kept"
}

// use is how full the state is now, and what the watermarks say.
func (r *Report) use() string {
	if r.Live.Room == nil {
		return "; use unknown"
	}
	return "; " + r.Live.Room.use() + r.level(watch.Data)
}

// level is loud about a place that fills up.
func (r *Report) level(what string) string {
	for _, s := range r.Live.Levels {
		if s.What == what && s.Level != watch.Good {
			return fmt.Sprintf(", %s: %d%% of its %s (veneer du)", strings.ToUpper(string(s.Level)), s.Percent, s.Of)
		}
	}
	return ""
}

// watermarks is the policy, and what it did.
func (r *Report) watermarks() string {
	p := watch.PolicyOf(r.Record.Watermarks)
	s := fmt.Sprintf("warning at %d%%, critical at %d%%", p.Warning, p.Critical)
	if p.ReadOnly {
		s += ": then what is kept becomes read-only"
	}
	if len(r.Live.ReadOnly) > 0 {
		s += "; READ-ONLY NOW: " + plain(strings.Join(r.Live.ReadOnly, " "))
	}
	return s
}

// boots says whether this boot was found good, and what else happens.
func (r *Report) boots() string {
	b := r.Record.Boots
	blessed := "not known"
	if r.Live.Blessed != nil {
		blessed = "no"
		if *r.Live.Blessed {
			blessed = "yes"
		}
	}
	switch {
	case blessed == "yes" || b.Attempts == 0:
		return blessed
	case b.Tries == 0:
		return fmt.Sprintf("%s; boot %d since the last bless", blessed, b.Attempts)
	}
	return fmt.Sprintf("%s; boot %d of %d before the last good snapshot comes back (veneer bless)", blessed, b.Attempts, b.Tries)
}

// ruleCount sums the rules up in a line.
func (r *Report) ruleCount() string {
	var all []string
	for _, rule := range r.Rules {
		all = append(all, plain(rule.Path)+" "+plain(rule.Action))
	}
	return strings.Join(all, ", ")
}

// RulesText writes the rules in force for people.
func (r *Report) RulesText() string {
	if len(r.Rules) == 0 {
		return "no rules: every path belongs to the root\n"
	}
	return table(func(row func(cells ...string)) {
		for _, rule := range r.Rules {
			form := rule.Form
			switch {
			case rule.Upper == string(boot.UpperPersistent) && r.lost():
				form += " (" + inMemory + ")"
			case rule.Upper != "":
				form += " (" + rule.Upper + ")"
			}
			row(rule.Path, rule.Action, form, rule.Source, rule.Origin)
		}
	})
}

// changesOfBase tells of each merge how many paths had which verdict.
func (r *Report) changesOfBase() string {
	var b strings.Builder
	for _, m := range r.Merges {
		fmt.Fprintf(&b, "\nAnother base under %s (%s -> %s): %s\n", plain(m.Path), short(m.From), short(m.To), verdicts(m))
	}
	return b.String()
}

func short(id string) string { return plain(id[:min(shortID, len(id))]) }

// verdicts are the numbers that are not nought.
func verdicts(m stage.Merge) string {
	var all []string
	for _, v := range []struct {
		n    int
		name string
	}{{m.KeptLocal, "kept-local"}, {m.TookNew, "took-new"}, {m.Pruned, "pruned"}, {m.DeletedLocal, "deleted-local"}, {m.Merged, "merged"}, {m.Conflict, "CONFLICT"}, {m.TypeClash, "TYPE-CLASH"}} {
		if v.n > 0 {
			all = append(all, fmt.Sprintf("%d %s", v.n, v.name))
		}
	}
	if len(all) == 0 {
		return "nothing to do"
	}
	return strings.Join(all, ", ")
}

// done tells what became of requests, and what makes this machine itself.
func (r *Report) done() string {
	var b strings.Builder
	if len(r.Requests) > 0 {
		b.WriteString("\nRequests that this boot met:\n" + table(func(row func(cells ...string)) {
			for _, q := range r.Requests {
				row(q.ID, q.Kind, q.Outcome, q.Error)
			}
		}))
	}
	if len(r.Identity) > 0 {
		b.WriteString("\nIdentity:\n" + table(func(row func(cells ...string)) {
			for _, i := range r.Identity {
				row(i.Name, i.Mode, i.What)
			}
		}))
	}
	return b.String()
}

// inMemory is what a persistent upper is whose state was lost.
const inMemory = "in memory"

// lost reports whether nothing survives this boot, although it should.
func (r *Report) lost() bool { return r.Record.State.Kind == stage.StateEphemeral }

// kept reports whether something survives this boot.
func (r *Report) kept() bool { return r.Record.State.Kind == stage.StatePersistent }
