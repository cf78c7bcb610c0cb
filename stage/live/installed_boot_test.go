package live_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"veneer/boot/dialect"
	"veneer/overlay/mount"
	"veneer/stage"
	"veneer/stage/live"
	"veneer/stage/paper"
)

// rooted boots the line on paper as the live variant does, and returns what was mounted.
func rooted(t *testing.T, line string, unsigned bool) (*stage.Runner, []string, error) {
	t.Helper()
	settings, err := stage.Configure("veneer.store=LABEL=VENEER", line, dialect.Strings)
	if err != nil {
		return nil, nil, err
	}
	r := &stage.Runner{}
	r.Record.Cmdline = line
	m := &paperMachine{Machine: paper.Machine{Serial: "1", Say: func(string) {}}}
	env := stage.Env{Settings: settings, Paper: unsigned, RAM: 1 << 30, Variant: live.Variant{System: m}}
	_, err = stage.Boot(context.Background(), r, m, env)
	var done []string
	for _, op := range m.Ops {
		done = append(done, op.String())
	}
	return r, done, err
}

type paperMachine struct {
	paper.Machine
	mount.Recorder
}

func (p *paperMachine) Apply(op mount.Op) error { return p.Recorder.Apply(op) }

func TestTheRootOfAnInstalledSystemIsTheBase(t *testing.T) {
	for name, c := range map[string]struct {
		line string
		want []string
		why  string
	}{
		"native":      {"veneer.root=UUID=5f0a ro", []string{"mount -t ext4 -o ro,noatime /dev/STORE /run/initramfs/veneer/store", "mount --bind /run/initramfs/veneer/store /run/initramfs/veneer/base"}, "veneer.root="},
		"a directory": {"veneer.root=UUID=5f0a:/@rootfs", []string{"mount --bind /run/initramfs/veneer/store/@rootfs /run/initramfs/veneer/base"}, "veneer.root="},
		"a subvolume": {"root=UUID=5f0a rootflags=subvol=@rootfs overlayroot=tmpfs ro", []string{"mount --bind /run/initramfs/veneer/store/@rootfs /run/initramfs/veneer/base"}, "overlayroot=tmpfs"},
	} {
		t.Run(name, func(t *testing.T) {
			r, done, err := rooted(t, c.line, true)
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(done, "\n")
			for _, want := range append(c.want, "mount -t overlay -o lowerdir=/run/initramfs/veneer/base,upperdir=") {
				if !strings.Contains(all, want) {
					t.Errorf("nothing does %q:\n%s", want, all)
				}
			}
			if strings.Contains(all, "ro,lowerdir") {
				t.Errorf("ro of the boot entry makes the merged root read-only:\n%s", all)
			}
			d := r.Record.Deployment
			if d.Serial != stage.Installed || !strings.Contains(d.Why, c.why) || r.Record.Verified.Images || r.Record.Verified.Manifest {
				t.Errorf("deployment %+v, verified %+v", d, r.Record.Verified)
			}
			if len(r.Record.Degraded) != 1 || r.Record.Degraded[0].What != "not verified" || !strings.Contains(r.Record.Banner(), "signed it") {
				t.Errorf("degraded: %+v, banner:\n%s", r.Record.Degraded, r.Record.Banner())
			}
		})
	}
}

func TestAnInstalledRootThatCannotBeProtectedIsNotBooted(t *testing.T) {
	for name, c := range map[string]struct{ line, step, want string }{
		"without allow-unsigned":    {"veneer.root=UUID=5f0a", stage.StepFindMedium, "allow-unsigned"},
		"a switched-off overlay":    {"veneer.root=UUID=5f0a overlayroot=disabled", stage.StepFindMedium, "the distribution's own entry"},
		"an encrypted upper":        {"root=UUID=5f0a overlayroot=crypt:dev=/dev/sda3", "", "encrypted upper"},
		"an unknown option":         {"root=UUID=5f0a overlayroot=tmpfs:swap=2", "", "want 1 or 0"},
		"a device without its name": {"root=UUID=5f0a overlayroot=device:timeout=3", "", "want dev=DEVICE"},
		"no root":                   {"overlayroot=tmpfs", "", "root="},
		"the root as its own upper": {"root=UUID=5f0a overlayroot=device:dev=UUID=5F0A", stage.StepFindMedium, "the root itself"},
		"a state in the root":       {"veneer.root=UUID=5f0a veneer.state=store", stage.StepFindMedium, "its own root"},
	} {
		t.Run(name, func(t *testing.T) {
			_, done, err := rooted(t, c.line, name == "a state in the root")
			var step *stage.StepError
			// Without a step it is the command line itself that is refused.
			if errors.As(err, &step) != (c.step != "") || step != nil && step.Step != c.step || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Boot() = %v, want a refusal at %q with %q", err, c.step, c.want)
			}
			if len(done) > 0 {
				t.Errorf("and this was done: %q", done)
			}
		})
	}
}
