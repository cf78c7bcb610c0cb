package build

import (
	"errors"
	"fmt"
	"slices"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/rule"
)

// hasState reports whether anything outlives a boot.
func (c *Config) hasState() bool { return c.statePolicy().Declared() }

// statePolicy is the policy as the manifest has it.
func (c *Config) statePolicy() images.State {
	s := images.State(c.State)
	if boot.Missing(s.Missing) == boot.MissingCreate {
		s.Missing, s.Create = string(boot.MissingFail), true
	}
	if !s.Declared() { // nothing else means anything
		return images.State{}
	}
	return s
}

func (c *Config) checkState(bad func(key, format string, args ...any)) {
	if !c.hasState() {
		d := defaultConfig().State
		d.Place = c.State.Place
		if !sameState(c.State, d) {
			bad("state.place", "missing: nothing is kept, so that nothing else about the state means anything; say \"store\" or a device")
		}
	} else {
		eachError(images.State(c.State).Check(), func(err error) {
			var field *rule.FieldError
			if errors.As(err, &field) {
				bad(field.Field, "%w", field.Err)
			}
		})
		c.checkStateMaking(bad)
	}
	if r, err := c.etcRule(); err != nil {
		bad("etc.policy", "%w", err)
	} else if r != nil {
		eachError(r.Check(), func(err error) {
			var field *rule.FieldError
			if errors.As(err, &field) {
				bad("etc."+field.Field, "%w", field.Err)
			}
		})
	}
	own := make([]rule.Rule, len(c.Rules))
	for i, r := range c.Rules {
		own[i] = r.Rule
		if r.Path == "/etc" && c.Etc.Policy != "" {
			bad(fmt.Sprintf("rules[%d].path", i), "/etc has a policy already: etc.policy")
		}
	}
	eachError(rule.CheckSet(own, c.hasState()), func(err error) {
		var one *rule.RuleError
		if !errors.As(err, &one) {
			bad("rules", "%w", err)
			return
		}
		eachError(one.Err, func(err error) {
			key, text := fmt.Sprintf("rules[%d]", one.Index), err
			var field *rule.FieldError
			if errors.As(err, &field) {
				key, text = key+"."+field.Field, field.Err
			}
			bad(key, "%w", text)
		})
	})
}

// checkStateMaking refuses what is said of the making of a state where nothing can ever be made, or not that way.
func (c *Config) checkStateMaking(bad func(key, format string, args ...any)) {
	place, err := boot.ParsePlace(c.State.Place)
	if err != nil {
		return // said already
	}
	create := c.statePolicy().Create
	key := "state.create"
	if !c.State.Create {
		key = "state.missing"
	}
	by := place.On.Device.Kind
	switch {
	case place.Kind == boot.StateInStore:
		if create {
			bad(key, "the state is a directory of the store, which every boot makes by itself: leave it out, or name a partition: state.place = \"PARTLABEL=state\"")
		}
		if c.State.FileSystem != defaultConfig().State.FileSystem {
			bad("state.filesystem", "the state lies in the file system of the store: leave it out, or name a partition: state.place = \"PARTLABEL=state\"")
		}
	case create && (by == boot.ByLabel || by == boot.ByUUID):
		bad(key, "nothing that is empty has a %s, so that a boot would find nothing to make a state on: name it by PARTLABEL=, or leave it out", by)
	case create && by == boot.ByPartLabel && c.State.Grow && c.State.Size != "":
		bad("state.size", "state.grow makes the partition larger at its first boot already: leave out one of them (the room in disk.img is boot.free)")
	}
}

func sameState(a, b StateConfig) bool {
	paths := slices.Equal(a.RulePaths, b.RulePaths)
	a.RulePaths, b.RulePaths = nil, nil
	return paths && fmt.Sprint(a) == fmt.Sprint(b)
}

// etcRule is the rule for /etc that the short form stands for; nil where there is none to be made.
func (c *Config) etcRule() (*rule.Rule, error) {
	e := c.Etc
	policy := e.Policy
	if policy == "" {
		if slices.ContainsFunc(c.Rules, func(r RuleConfig) bool { return r.Path == "/etc" }) {
			return nil, nil
		}
		if policy = EtcTransient; c.hasState() {
			policy = EtcMerge
		}
	}
	r := rule.Rule{Path: "/etc", Action: rule.Merge, Allow: e.Allow, Deny: e.Deny, Entries: e.Entries, Site: e.Site}
	switch policy {
	case EtcMerge:
	case EtcKeep:
		r.BaseChange = rule.Keep
	case EtcAllowList:
		if len(e.Allow) == 0 {
			return nil, errors.New("allow-list needs etc.allow: the files that are kept")
		}
	case EtcTransient:
		if len(e.Allow)+len(e.Deny)+len(e.Entries) > 0 {
			return nil, errors.New("transient keeps nothing, and allow, deny and entries say what is kept")
		}
		if c.Root.Upper == string(boot.UpperTmpfs) && len(e.Site) == 0 {
			return nil, nil // as the whole root is
		}
		r.Action = rule.Ephemeral
	default:
		return nil, fmt.Errorf("%q is none of merge, keep, allow-list, transient", e.Policy)
	}
	if policy != EtcAllowList && policy != EtcTransient && len(e.Allow) > 0 {
		return nil, fmt.Errorf("etc.allow is for the policy allow-list; %q keeps everything", policy)
	}
	if policy != EtcTransient && !c.hasState() {
		return nil, fmt.Errorf("%q needs a place to keep things: declare state.place", policy)
	}
	return &r, nil
}

// eachError calls do for each error that was joined.
func eachError(err error, do func(error)) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			eachError(e, do)
		}
		return
	}
	do(err)
}
