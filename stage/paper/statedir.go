package paper

import (
	"context"
	"fmt"
	"path"
	"strings"

	"veneer/overlay"
	"veneer/overlay/rule"
	"veneer/stage"
)

// OpenState implements stage.Machine: nothing was asked for, and every upper fits.
func (p *Machine) OpenState(string, stage.Owner) (stage.StateDir, error) {
	return (*paperState)(p), nil
}

// ResetRequested implements stage.Machine.
func (p *Machine) ResetRequested() bool { return false }

// Look implements stage.Machine: the base has a directory, and nothing else is known.
func (p *Machine) Look(lowers []string, name string) (overlay.Found, error) {
	found := overlay.Found{Type: overlay.Directory}
	for _, l := range lowers {
		if l == stage.BaseDir {
			found.At = []string{path.Join(l, name)}
		}
	}
	return found, nil
}

// StateName implements stage.Machine.
func (p *Machine) StateName(name string) string {
	return strings.ReplaceAll(strings.Trim(name, "/"), "/", "-")
}

// paperState is the state of a machine on paper.
type paperState Machine

func (p *paperState) Requests(_ context.Context, asked stage.Asked) (stage.RequestsDone, error) {
	p.Say("carry out what lies in requests/, and count this boot")
	if asked.Firmware {
		p.Say("reset, as the firmware asks")
	}
	if asked.Reset.Word != "" {
		p.Say("reset " + asked.Reset.Word + ", as the command line asks, unless it asked the last boot the same")
	}
	return stage.RequestsDone{}, nil
}

func (p *paperState) Upper(_ context.Context, spec stage.UpperSpec) (stage.UpperDone, error) {
	p.Say(fmt.Sprintf("the upper of %s is %s; if its stamp names another base: %s", spec.Path, path.Join(stage.StateMount, spec.Dir), spec.Rule.OnBaseChange()))
	if len(spec.Rule.Allow)+len(spec.Rule.Deny) > 0 {
		p.Say("drop from it what the rule does not let survive")
	}
	return stage.UpperDone{}, nil
}

func (p *paperState) Data(_ context.Context, spec stage.DataSpec) error {
	p.Say(fmt.Sprintf("test -e %[1]s || cp -a %[2]s %[1]s", path.Join(stage.StateMount, spec.Name), spec.From))
	return nil
}

func (p *paperState) Rules(_ context.Context, base []rule.Rule, _ []string) ([]rule.Effective, string, error) {
	p.Say("read the rules of the site, and hold them against what the base allows")
	return rule.Ordered(base), "", nil
}

func (p *paperState) Close() error { return nil }
