package machine

import (
	"context"
	"errors"
	"fmt"

	"veneer/overlay"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

// stateDir is a stage.StateDir on disk. What every boot does, it does here: one look tells that there is no more to do. Everything
// else is the keeper's, which is only run then.
type stateDir struct {
	*state.Dir
	m     *Machine
	at    string // where it is mounted
	owner stage.Owner
}

// OpenState implements stage.Machine. A state that is new is taken over; one of another product is left alone.
func (m *Machine) OpenState(at string, owner stage.Owner) (stage.StateDir, error) {
	d, err := state.Open(at)
	if err != nil {
		return nil, err
	}
	who := state.Owner{Product: owner.Product}
	origin, why, err := d.Origin(who)
	switch {
	case err == nil && origin == state.Foreign:
		err = fmt.Errorf("the state is another's: %s: %w", why, stage.ErrForeign)
	case err == nil && origin == state.Fresh:
		err = d.Adopt(who)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	m.program = owner.Keeper
	return &stateDir{Dir: d, m: m, at: at, owner: owner}, nil
}

// Close implements stage.StateDir.
func (s *stateDir) Close() error {
	return errors.Join(s.Dir.Close(), s.m.stopKeeper())
}

// StateName implements stage.Machine. A path that is too long for a name never passed the build.
func (m *Machine) StateName(p string) string {
	name, err := state.Escape(p)
	if err != nil {
		return "-"
	}
	return name
}

// Look implements stage.Machine.
func (m *Machine) Look(lowers []string, name string) (overlay.Found, error) {
	return overlay.Look(lowers, name)
}

// Requests implements stage.StateDir.
func (s *stateDir) Requests(ctx context.Context, asked stage.Asked) ([]stage.Request, []string, error) {
	attempts, err := s.Attempt(s.owner.Boot)
	if err != nil {
		return nil, nil, err
	}
	if s.Idle() && !asked.Firmware && (asked.Tries == 0 || attempts <= asked.Tries) {
		return nil, nil, nil
	}
	a, err := s.call(ctx, stage.Call{Op: stage.OpRequests, Asked: asked})
	return a.Requests, a.Undone, err
}

// Upper implements stage.StateDir.
func (s *stateDir) Upper(ctx context.Context, spec stage.UpperSpec) (stage.UpperDone, error) {
	if _, verdict, err := s.Against(spec.Dir, spec.Stamp()); err == nil && verdict == state.Same && len(spec.Rule.Allow)+len(spec.Rule.Deny) == 0 {
		return stage.UpperDone{}, nil
	}
	a, err := s.call(ctx, stage.Call{Op: stage.OpUpper, Upper: spec})
	return a.Upper, err
}

// Data implements stage.StateDir.
func (s *stateDir) Data(ctx context.Context, spec stage.DataSpec) error {
	if len(spec.Rule.Allow)+len(spec.Rule.Deny) == 0 && s.Has(spec.Name) {
		return nil
	}
	_, err := s.call(ctx, stage.Call{Op: stage.OpData, Data: spec})
	return err
}

// SiteRules implements stage.StateDir.
func (s *stateDir) SiteRules() ([]rule.Rule, error) { return s.Dir.SiteRules() }

// ResetRequested implements stage.Machine.
func (m *Machine) ResetRequested() bool { return false }

func (s *stateDir) call(ctx context.Context, c stage.Call) (stage.Answer, error) {
	c.Dir, c.Owner = s.at, s.owner
	return s.m.call(ctx, c)
}
