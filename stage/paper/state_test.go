package paper

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/rule"
	"veneer/overlay/state"
	"veneer/stage"
)

// kept is a recorder on whose state's device lies what device says, and whose state does what the functions say.
type kept struct {
	*recorder
	device   stage.Device
	missing  bool
	requests func(stage.Asked) stage.RequestsDone
	data     error
	keyAway  bool

	opened  stage.UnlockSpec
	bounded bool // the look for the state's device had a deadline
	did     []string
}

type keptDir struct {
	stage.StateDir
	k *kept
}

func (k *kept) Device(ctx context.Context, ref boot.DeviceRef) (stage.Device, error) {
	if k.keyAway && ref.Value == "KEYS" {
		if _, bounded := ctx.Deadline(); !bounded {
			return stage.Device{}, errors.New("it would be waited for for ever")
		}
		return stage.Device{}, stage.ErrNoDevice
	}
	return k.recorder.Device(ctx, ref)
}

func (k *kept) StateDevice(ctx context.Context, ref boot.DeviceRef) (stage.Device, error) {
	_, k.bounded = ctx.Deadline()
	if k.missing {
		return stage.Device{}, stage.ErrNoDevice
	}
	return k.device, nil
}

func (k *kept) CreatePartition(_ context.Context, _ string, spec stage.PartitionSpec) (stage.Device, error) {
	k.did = append(k.did, "create "+spec.Name)
	return stage.Device{Path: "/dev/made", Empty: true}, nil
}

func (k *kept) EncryptNew(ctx context.Context, root, device string, how stage.UnlockSpec) (string, func() error, error) {
	k.did = append(k.did, "encrypt "+device)
	return k.recorder.EncryptNew(ctx, root, device, how)
}

func (k *kept) Unlock(ctx context.Context, root, device string, how stage.UnlockSpec) (string, func() error, error) {
	k.opened = how
	k.did = append(k.did, "unlock "+device)
	return k.recorder.Unlock(ctx, root, device, how)
}

func (k *kept) StateFile(ctx context.Context, root, dir string, spec stage.FileSpec) (string, func() error, func() error, error) {
	k.did = append(k.did, "file in "+dir)
	return k.recorder.StateFile(ctx, root, dir, spec)
}

func (k *kept) Destroy(_ context.Context, order string) error {
	if slices.ContainsFunc(k.mounted, func(dir string) bool { return strings.HasPrefix(dir, stage.StateMount) }) {
		return errors.New("the state is mounted")
	}
	k.did = append(k.did, "destroy "+order)
	k.device = stage.Device{Path: k.device.Path, Empty: true}
	return nil
}

func (k *kept) OpenState(at string, owner stage.Owner) (stage.StateDir, error) {
	d, err := k.recorder.OpenState(at, owner)
	return keptDir{d, k}, err
}

func (d keptDir) Requests(ctx context.Context, asked stage.Asked) (stage.RequestsDone, error) {
	if d.k.requests == nil {
		return d.StateDir.Requests(ctx, asked)
	}
	return d.k.requests(asked), nil
}

func (d keptDir) Data(ctx context.Context, spec stage.DataSpec) error {
	if d.k.data != nil {
		err := d.k.data
		d.k.data = nil
		return err
	}
	return d.StateDir.Data(ctx, spec)
}

// keeping boots a manifest with a state at PARTLABEL=state, and /var kept.
func keeping(t *testing.T, k *kept, s images.State, cmdline string) (stage.Record, error) {
	t.Helper()
	if s.Place == "" {
		s.Place = "PARTLABEL=state"
	}
	k.recorder = newRecorder(t, manifest(t, func(m *images.Manifest) {
		m.State, m.Rules = s, []rule.Rule{{Path: "/var", Action: rule.Persist, Form: rule.Bind}}
	}))
	r := &stage.Runner{OnFail: boot.Reboot}
	_, err := stage.Boot(context.Background(), r, k, env(t, cmdline))
	if uerr := r.Unwind(); uerr != nil || len(k.mounted) != 0 {
		t.Errorf("Unwind() = %v, and %v is mounted", uerr, k.mounted)
	}
	return r.Record, err
}

func TestAStateIsDestroyedWhenItIsDownAndMadeAnew(t *testing.T) {
	k := &kept{device: stage.Device{Path: "/dev/s", FileSystem: stage.LUKS}}
	asked := 0
	k.requests = func(a stage.Asked) stage.RequestsDone {
		if asked++; a.Secure != state.SecureDestroy {
			t.Errorf("a secure reset comes to %q, want %q", a.Secure, state.SecureDestroy)
		}
		if asked == 1 {
			return stage.RequestsDone{Destroy: "it"}
		}
		return stage.RequestsDone{Requests: []stage.Request{{ID: "7", Kind: "reset", Outcome: state.Destroyed}}}
	}
	rec, err := keeping(t, k, images.State{Create: true, Unlock: images.UnlockTPM2, KeyFile: "LABEL=KEYS:/k"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(k.did, ", "); got != "unlock /dev/s, destroy it, encrypt /dev/s" {
		t.Errorf("it did: %s", got)
	}
	if len(rec.Requests) != 1 || rec.Requests[0].Outcome != state.Destroyed || rec.State.Secure != state.SecureDestroy {
		t.Errorf("requests %+v, state %+v", rec.Requests, rec.State)
	}
	if k.opened.KeyFile != "k" && k.opened.KeyFile != "/k" {
		t.Errorf("the second key is %+v", k.opened)
	}
}

func TestNoKeyIsDestroyedWhileTheDeviceOfTheNextOneIsAway(t *testing.T) {
	for _, missing := range []string{"fail", "wait"} {
		k := &kept{device: stage.Device{Path: "/dev/s", FileSystem: stage.LUKS}, keyAway: true}
		k.requests = func(a stage.Asked) stage.RequestsDone {
			if a.Secure == state.SecureDestroy {
				return stage.RequestsDone{Destroy: "it"}
			}
			r := state.Request{Kind: state.Reset, Scope: state.ScopeAll, Secure: true}
			return stage.RequestsDone{Undone: []string{r.CheckSecure(a.Secure).Error()}}
		}
		rec, err := keeping(t, k, images.State{Create: true, Unlock: images.UnlockTPM2, KeyFile: "LABEL=KEYS:/k", Missing: missing}, "")
		if err != nil || strings.Join(k.did, ", ") != "unlock /dev/s" {
			t.Errorf("%s: Boot() = %v, it did %q; want nothing destroyed", missing, err, k.did)
		}
		if len(rec.Degraded) != 1 || !strings.Contains(rec.Degraded[0].Why, "attach it and ask again") {
			t.Errorf("%s: degraded %+v, want the refusal", missing, rec.Degraded)
		}
	}
}

// With missing = "wait" neither the state's device nor that of its key file is given up.
func TestABootThatIsToWaitWaitsForTheStateAndForItsKey(t *testing.T) {
	for missing, waits := range map[string]bool{"wait": true, "fail": false, "ephemeral": false} {
		k := &kept{device: stage.Device{Path: "/dev/s", FileSystem: stage.LUKS}}
		if _, err := keeping(t, k, images.State{Unlock: images.UnlockKeyFile, KeyFile: "LABEL=KEYS:/k", Missing: missing}, "veneer.wait=7"); err != nil {
			t.Fatal(err)
		}
		if k.bounded == waits || (k.opened.Wait == 7*time.Second) == waits || waits && k.opened.Wait < 24*time.Hour {
			t.Errorf("%s: a deadline for the state is %v, the key is waited for %s", missing, k.bounded, k.opened.Wait)
		}
		if k.opened.KeyDevice.Value != "KEYS" || k.opened.Kind != stage.UnlockKeyFile {
			t.Errorf("%s: unlock %+v", missing, k.opened)
		}
	}
}

func TestAStateWhoseMarkWasWrittenAnewIsSaid(t *testing.T) {
	k := &kept{device: stage.Device{Path: "/dev/s", FileSystem: "ext4"}}
	k.requests = func(stage.Asked) stage.RequestsDone { return stage.RequestsDone{Lost: "format is missing"} }
	rec, err := keeping(t, k, images.State{}, "")
	if err != nil || len(rec.Degraded) != 1 || rec.Degraded[0].Why != "format is missing" {
		t.Errorf("Boot() = %v, degraded %+v", err, rec.Degraded)
	}
}

func TestOnlyAStateThatCanBeMadeAnewIsDestroyed(t *testing.T) {
	for name, c := range map[string]struct {
		policy  images.State
		cmdline string
		device  stage.Device
		want    state.Secure
	}{
		"made by the boot":            {images.State{Create: true, Unlock: "tpm2"}, "", stage.Device{Path: "/dev/s", FileSystem: stage.LUKS}, state.SecureDestroy},
		"made by hand":                {images.State{Unlock: "tpm2"}, "", stage.Device{Path: "/dev/s", FileSystem: stage.LUKS}, state.SecureRefuse},
		"made by hand, and a word":    {images.State{Unlock: "tpm2"}, "veneer.missing-upper=create", stage.Device{Path: "/dev/s", FileSystem: stage.LUKS}, state.SecureDestroy},
		"found by what it holds":      {images.State{Create: true, Unlock: "tpm2", Place: "LABEL=S"}, "", stage.Device{Path: "/dev/s", FileSystem: stage.LUKS}, state.SecureRefuse},
		"with a key for one boot":     {images.State{Create: true, Unlock: "random"}, "", stage.Device{Path: "/dev/s", FileSystem: stage.LUKS}, state.SecureDelete},
		"in the clear":                {images.State{Create: true}, "", stage.Device{Path: "/dev/s", FileSystem: "ext4"}, state.SecureDelete},
		"encrypted by this very boot": {images.State{Create: true, Unlock: "tpm2"}, "", stage.Device{Path: "/dev/s", Empty: true}, state.SecureDestroy},
	} {
		t.Run(name, func(t *testing.T) {
			rec, err := keeping(t, &kept{device: c.device}, c.policy, c.cmdline)
			if err != nil || rec.State.Secure != c.want {
				t.Errorf("secure is %q, %v; want %q", rec.State.Secure, err, c.want)
			}
		})
	}
}

func TestAFileHoldsTheStateWhereNoUpperCanBe(t *testing.T) {
	for _, kind := range []string{"vfat", "exfat", "ntfs"} {
		k := &kept{device: stage.Device{Path: "/dev/s", FileSystem: kind}}
		rec, err := keeping(t, k, images.State{Place: "LABEL=STICK:/keep"}, "")
		if err != nil || !slices.Equal(k.did, []string{"file in /run/initramfs/veneer/state-files/keep"}) || rec.State.FileSystem != "ext4" {
			t.Errorf("%s: %v, it did %q, state %+v", kind, err, k.did, rec.State)
		}
	}
}

func TestRulesThatFailAreDoneWithoutTheStateWhereThatIsThePolicy(t *testing.T) {
	full := errors.New("no room for /var")
	k := &kept{device: stage.Device{Path: "/dev/s", FileSystem: "ext4"}, data: full}
	rec, err := keeping(t, k, images.State{Missing: "ephemeral"}, "")
	if err != nil || rec.State.Kind != stage.StateEphemeral || !strings.Contains(rec.State.Why, full.Error()) || len(rec.Degraded) != 1 || len(rec.Rules) != 1 {
		t.Errorf("Boot() = %v, state %+v, degraded %+v, rules %+v; want it in memory, and said once", err, rec.State, rec.Degraded, rec.Rules)
	}
	k = &kept{device: stage.Device{Path: "/dev/s", FileSystem: "ext4"}, data: full}
	if _, err := keeping(t, k, images.State{}, ""); !errors.Is(err, full) {
		t.Errorf("Boot() = %v, want the failure", err)
	}
}

func TestAPartitionIsMadeUnlessTheBootIsToWait(t *testing.T) {
	k := &kept{missing: true}
	if _, err := keeping(t, k, images.State{Create: true}, ""); err != nil || !slices.Equal(k.did, []string{"create state"}) {
		t.Errorf("Boot() = %v, it did %q", err, k.did)
	}
	k = &kept{missing: true}
	if _, err := keeping(t, k, images.State{Create: true, Missing: "wait"}, ""); !errors.Is(err, stage.ErrNoDevice) || len(k.did) > 0 {
		t.Errorf("Boot() = %v, it did %q; want that it waits", err, k.did)
	}
}
