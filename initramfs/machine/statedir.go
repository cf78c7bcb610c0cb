package machine

import (
	"context"
	"errors"
	"os"

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
	lost  string // why its mark had to be written anew
}

// OpenState implements stage.Machine.
func (m *Machine) OpenState(at string, owner stage.Owner) (stage.StateDir, error) {
	d, lost, err := stage.OpenDir(at, owner)
	if err != nil {
		return nil, err
	}
	m.program = owner.Keeper
	return &stateDir{Dir: d, m: m, at: at, owner: owner, lost: lost}, nil
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
func (s *stateDir) Requests(ctx context.Context, asked stage.Asked) (stage.RequestsDone, error) {
	attempts, err := s.Attempt(s.owner.Boot)
	done := stage.RequestsDone{Attempts: attempts, Lost: s.lost}
	if err != nil {
		return done, err
	}
	orders := s.Asks(state.FromCommandLine, asked.Reset.Word) || asked.Firmware || s.Asks(state.FromFirmware, "")
	if s.Idle() && !orders && (asked.Tries == 0 || attempts <= asked.Tries) {
		return done, nil
	}
	a, err := s.call(ctx, stage.Call{Op: stage.OpRequests, Asked: asked})
	a.Requests.Attempts, a.Requests.Lost = attempts, s.lost
	return a.Requests, err
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

// Rules implements stage.StateDir.
func (s *stateDir) Rules(ctx context.Context, base []rule.Rule, paths []string) ([]rule.Effective, string, error) {
	if !s.HasSiteRules() {
		return rule.Ordered(base), "", nil
	}
	a, err := s.call(ctx, stage.Call{Op: stage.OpRules, Rules: base, Paths: paths})
	return a.Rules, a.Refused, err
}

// ResetRequested implements stage.Machine. Whether the request is meant for this system the keeper finds out.
func (m *Machine) ResetRequested() bool {
	if !m.mountVariables() {
		return false
	}
	_, err := os.Stat(efiVars + "/FactoryResetRequest-8cf2644b-4b0b-428f-9387-6d876050dc67")
	return err == nil
}

func (s *stateDir) call(ctx context.Context, c stage.Call) (stage.Answer, error) {
	c.Dir, c.Owner = s.at, s.owner
	return s.m.call(ctx, c)
}
