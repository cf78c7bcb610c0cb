package stage

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"veneer/images"
	"veneer/overlay/identity"
)

// identified is a machine on which the presets end as they are told to.
type identified struct {
	Machine
	done []identity.Done
}

func (m identified) Identity(string, string, []identity.Setting, identity.Env) ([]identity.Done, error) {
	return m.done, nil
}

// What of an identity fails is told once, with what to do, and the boot goes on; that a state is missing was told before.
func TestAnIdentityThatIsLessIsToldOnce(t *testing.T) {
	preset := func(name string, err error) identity.Done {
		return identity.Done{Setting: identity.Setting{Name: name, Mode: identity.Persist}, Err: err}
	}
	full := []identity.Done{preset("random-seed", fmt.Errorf("random-seed: %w", syscall.ENOSPC)), preset("machine-id", fmt.Errorf("machine-id: %w", syscall.ENOSPC)), preset("clock", nil)}
	lost := []identity.Done{preset("machine-id", fmt.Errorf("machine-id: %w", identity.ErrNoState)), preset("ssh-host-keys", fmt.Errorf("ssh-host-keys: %w", identity.ErrNoState))}
	for _, c := range []struct {
		name, state string
		done        []identity.Done
		want        []string // in the one thing that is degraded; none: nothing is
	}{
		{"a full state", StatePersistent, full, []string{"random-seed: ", "; machine-id: ", "make room: veneer du"}},
		{"a state that is missing", StateEphemeral, lost, nil},
		{"no state, and presets that persist", StateNone, lost, []string{"machine-id: nothing is kept", "; ssh-host-keys: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &Runner{}
			r.Record.State.Kind = c.state
			if err := setIdentity(r, identified{done: c.done}, RootDir, "", images.Manifest{}); err != nil {
				t.Fatal(err)
			}
			if len(r.Record.Identity) != len(c.done) {
				t.Errorf("%d presets are recorded, want %d", len(r.Record.Identity), len(c.done))
			}
			if (len(r.Record.Degraded) == 1) != (c.want != nil) || len(r.Record.Degraded) > 1 {
				t.Fatalf("degraded: %q", r.Record.Degraded)
			}
			for _, w := range c.want {
				if why := r.Record.Degraded[0].Why; !strings.Contains(why, w) {
					t.Errorf("why: %q, want %q in it", why, w)
				}
			}
		})
	}
}
