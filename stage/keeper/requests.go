package keeper

import (
	"context"
	"os"

	"veneer/initramfs/machine/firmware"
	"veneer/overlay/state"
	"veneer/stage"
)

// Requests carries out what was filed, and what the command line and the firmware ask for beside that, each order once. Of the
// firmware only what the booted system itself has asked for counts.
func (s *Keeper) Requests(ctx context.Context, asked stage.Asked) (stage.RequestsDone, error) {
	b := state.Boot{Orders: s.orders(asked.Deployment), Tries: asked.Tries}
	if r := asked.Reset; r.Word != "" {
		b.CommandLine = state.Order{Word: r.Word, Request: state.Request{Kind: state.Reset, Scope: r.Scope, Keep: r.Keep, Secure: r.Secure, Why: "veneer.reset=" + r.Word}}
	}
	if asked.Firmware {
		b.Firmware = s.firmwareOrder()
	}
	outcomes, err := s.Begin(ctx, b)
	var done stage.RequestsDone
	for _, o := range outcomes {
		r := stage.Request{ID: o.Request.ID, Kind: string(o.Request.Kind), Outcome: o.Outcome}
		if o.Err != nil {
			r.Error = o.Err.Error()
			done.Undone = append(done.Undone, r.Kind+": "+r.Error)
		}
		done.Requests = append(done.Requests, r)
	}
	if err == nil && b.Firmware.Word != "" {
		if cerr := firmware.ClearReset("/sys"); cerr != nil { // carried out all the same, and known by its word
			s.say("FactoryResetRequest: %v", cerr)
		}
	}
	return done, err
}

// firmwareOrder is what the firmware asks for, if that is addressed to this system.
func (s *Keeper) firmwareOrder() state.Order {
	r, ok, err := firmware.ResetRequested("/sys")
	if err != nil || !ok {
		s.say("FactoryResetRequest: %v", err)
		return state.Order{}
	}
	for _, name := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if text, err := os.ReadFile(stage.BaseDir + name); err == nil {
			if !r.For(text, s.owner.Boot) {
				s.say("FactoryResetRequest is for another system, %s", r.Word())
				return state.Order{}
			}
			return state.Order{Word: r.Word(), Request: state.Request{Kind: state.Reset, Scope: state.ScopeAll, Why: "FactoryResetRequest of the firmware"}}
		}
	}
	s.say("FactoryResetRequest: the base has no os-release, so that nobody knows whether it is meant")
	return state.Order{}
}
