package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"veneer/overlay"
	"veneer/overlay/mount"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

// stateDir is a stage.StateDir on disk. What every boot does, it does here: one look tells that there is no more to do. Everything
// else is the keeper's, which is only run then.
type stateDir struct {
	*state.Dir
	m      *Machine
	at     string // where it is mounted
	owner  stage.Owner
	keeper *keeper // nil until there is work for it
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
	return &stateDir{Dir: d, m: m, at: at, owner: owner}, nil
}

// Close implements stage.StateDir.
func (s *stateDir) Close() error {
	err := s.Dir.Close()
	if s.keeper != nil {
		err = errors.Join(err, s.keeper.stop())
		s.keeper = nil
	}
	return err
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
	done := stage.RequestsDone{Attempts: attempts}
	if err != nil {
		return done, err
	}
	orders := s.Asks(state.FromCommandLine, asked.Reset.Word) || asked.Firmware || s.Asks(state.FromFirmware, "")
	if s.Idle() && !orders && (asked.Tries == 0 || attempts <= asked.Tries) {
		return done, nil
	}
	a, err := s.call(ctx, stage.Call{Op: stage.OpRequests, Asked: asked})
	a.Requests.Attempts = attempts
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

// SiteRules implements stage.StateDir.
func (s *stateDir) SiteRules() ([]rule.Rule, error) { return s.Dir.SiteRules() }

// ResetRequested implements stage.Machine. Whether the request is meant for this system the keeper finds out.
func (m *Machine) ResetRequested() bool {
	const efi, vars = "/sys/firmware/efi", "/sys/firmware/efi/efivars"
	if _, err := os.Stat(efi); err != nil {
		return false
	}
	// Another may have been first, and a firmware without variables has none that asks.
	_ = m.Apply(mount.Mount{Type: "efivarfs", Source: "efivarfs", Target: vars, Flags: mount.NoSuid | mount.NoDev | mount.NoExec})
	_, err := os.Stat(vars + "/FactoryResetRequest-8cf2644b-4b0b-428f-9387-6d876050dc67")
	return err == nil
}

// call has the keeper do something.
func (s *stateDir) call(ctx context.Context, c stage.Call) (stage.Answer, error) {
	if s.keeper == nil {
		k, err := startKeeper(s.owner.Keeper)
		if err != nil {
			return stage.Answer{}, err
		}
		s.keeper = k
	}
	c.Dir, c.Owner = s.at, s.owner
	a, err := s.keeper.call(ctx, c)
	if err != nil {
		return a, err
	}
	for _, line := range a.Lines {
		s.m.Detail("keeper: %s", line)
	}
	return a, a.Err()
}

// keeper is the program of the tools layer that works in the state, see package keeper.
type keeper struct {
	process *os.Process
	to      *os.File
	from    *os.File
}

func startKeeper(program string) (*keeper, error) {
	if program == "" {
		return nil, errors.New("work is to be done in the state, and the images bring no tools layer to do it with: build with tools = true")
	}
	theirIn, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirIn.Close()
	from, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, to.Close())
	}
	defer theirOut.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, errors.Join(err, to.Close(), from.Close())
	}
	defer null.Close()
	p, err := os.StartProcess(program, []string{path.Base(program), "keep"}, &os.ProcAttr{Dir: "/", Env: []string{"PATH=", "GOGC=off", "GOMEMLIMIT=64MiB"},
		Files: []*os.File{theirIn, theirOut, null}})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keeper of the state: %w", err), to.Close(), from.Close())
	}
	return &keeper{p, to, from}, nil
}

// call sends a call and waits for its answer. A keeper that does not answer before ctx ends is killed: what it was at is finished
// at the next boot.
func (k *keeper) call(ctx context.Context, c stage.Call) (a stage.Answer, err error) {
	stop := context.AfterFunc(ctx, func() { _ = k.process.Kill() })
	defer stop()
	if err = stage.WriteCall(k.to, &c); err == nil {
		a, err = stage.ReadAnswer(k.from)
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("keeper of the state: %w", err)
	}
	return a, err
}

// keeperPatience is how long a keeper may take to end after it was hung up on.
const keeperPatience = 5 * time.Second

func (k *keeper) stop() error {
	err := errors.Join(k.to.Close(), k.from.Close())
	late := time.AfterFunc(keeperPatience, func() { _ = k.process.Kill() })
	defer late.Stop()
	state, werr := k.process.Wait()
	if werr != nil {
		return errors.Join(err, werr)
	}
	if !state.Success() {
		return errors.Join(err, fmt.Errorf("keeper of the state: %s", state))
	}
	return err
}
