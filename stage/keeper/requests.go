package keeper

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"veneer/initramfs/machine/firmware"
	"veneer/overlay/state"
	"veneer/stage"
)

// Requests carries out what was filed, and what the command line and the firmware ask for beside that, each order once. Of the
// firmware only what the booted system itself has asked for counts.
func (s *Keeper) Requests(ctx context.Context, asked stage.Asked) (stage.RequestsDone, error) {
	b := state.Boot{Orders: s.orders(asked.Deployment), Tries: asked.Tries}
	var done stage.RequestsDone
	if b.Secure = asked.Secure; b.Secure != state.SecureDelete {
		b.Remake = func() error { return s.disks.CanRemake(s.fileSystem()) }
		out, new, err := s.inherit(b.Now)
		if err != nil {
			return done, err
		}
		if new {
			done.Requests = append(done.Requests, stage.Request{ID: out.Request.ID, Kind: string(out.Request.Kind), Outcome: out.Outcome})
		}
	}
	if r := asked.Reset; r.Word != "" {
		b.CommandLine = state.Order{Word: r.Word, Request: state.Request{Kind: state.Reset, Scope: r.Scope, Keep: r.Keep, Secure: r.Secure, Why: "veneer.reset=" + r.Word}}
	}
	if asked.Firmware {
		b.Firmware = s.firmwareOrder()
	}
	outcomes, err := s.Begin(ctx, b)
	destroy := errors.Is(err, state.ErrDestroy)
	for _, o := range outcomes {
		if errors.Is(o.Err, state.ErrDestroy) {
			done.Destroy = s.disks.Order(s.Leave(o.Request, s.owner.Boot))
			o.Err = nil
		}
		r := stage.Request{ID: o.Request.ID, Kind: string(o.Request.Kind), Outcome: o.Outcome}
		if o.Err != nil {
			r.Error = o.Err.Error()
			done.Undone = append(done.Undone, r.Kind+": "+r.Error)
		}
		done.Requests = append(done.Requests, r)
	}
	if destroy {
		err = nil
	}
	if err == nil && b.Firmware.Word != "" {
		if cerr := firmware.ClearReset("/sys"); cerr != nil { // carried out all the same, and known by its word
			s.say("FactoryResetRequest: %v", cerr)
		}
	}
	return done, err
}

// inherit tells a state that was made anew what became of the one before it.
func (s *Keeper) inherit(now time.Time) (state.Outcome, bool, error) {
	text, err := s.disks.Told()
	if err != nil || text == "" {
		return state.Outcome{}, false, err
	}
	return s.Inherit(text, now)
}

// fileSystem is the one that the state lies on, as mkfs calls it.
func (s *Keeper) fileSystem() string {
	var st unix.Statfs_t
	if unix.Statfs(s.at, &st) != nil {
		return ""
	}
	switch int64(st.Type) {
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	}
	return "ext4"
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
