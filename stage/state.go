package stage

// Before: the images are mounted, and nothing is writable.
// After: the state, if there is to be one, is mounted and opened at StateDir, what it was asked to do is done, and every upper that
// is kept fits the base that is about to be booted.

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay"
	"veneer/overlay/mount"
	"veneer/overlay/rule"
	"veneer/overlay/state"
)

// StateMount is where the directory of the state is mounted, see StoreDir for why there.
const (
	StateMount  = MountsDir + "/state"
	stateDevice = MountsDir + "/state-device" // the whole file system, where it is not the store's
	stateFiles  = MountsDir + "/state-files"  // what holds the file of a state, where it is a device of its own
	maskDir     = MountsDir + "/masks"
	ProgramsDir = MountsDir + "/tools"    // what programs of the base see as /: the base, and the machine's /dev, /proc, /sys and /run in it
	KeyDir      = MountsDir + "/key"      // what holds a key file, for as long as it is read
	indexDir    = "/usr/lib/veneer/index" // in the tools layer: what the base has in each merged directory
)

// stateLabel names what is made for a state: the partition and the file system.
const stateLabel = "VENEER-STATE"

// errUnfit marks a place that no state can be kept in.
var errUnfit = errors.New("nothing can be kept there")

// policy is what command line and manifest together say of what is writable.
type policy struct {
	upper   boot.Upper
	place   boot.Place
	missing boot.Missing
	images.State
	rootChange rule.BaseChange
	rules      []rule.Rule
}

// policyOf joins the command line with the manifest. The command line names other places and kinds; what is kept, and how, stays
// the manifest's word.
func policyOf(cfg boot.Config, man images.Manifest) (policy, error) {
	p := policy{State: man.State, place: cfg.State, missing: cfg.Missing, rules: man.Rules, rootChange: man.Root.BaseChange}
	var err error
	if p.upper, err = chooseUpper(cfg.Upper, man.Root); err != nil {
		return p, err
	}
	if p.place.Kind == "" {
		p.place.Kind = boot.NoState
		if man.State.Declared() {
			if p.place, err = boot.ParsePlace(man.State.Place); err != nil {
				return p, fmt.Errorf("state policy of the manifest: %w", err)
			}
		}
	}
	if p.missing == "" {
		if p.missing = boot.MissingFail; man.State.Missing != "" {
			p.missing = boot.Missing(man.State.Missing)
		}
	}
	if p.missing == boot.MissingCreate {
		p.missing, p.Create = boot.MissingFail, true
	}
	if p.place.Kind != boot.NoState {
		if p.upper.Kind == boot.UpperPersistent {
			p.rules = rule.OnKeptRoot(p.rules)
		}
		return p, nil
	}
	if p.upper.Kind == boot.UpperPersistent {
		return p, errors.New("the upper is to persist, and there is no state to keep it in: give veneer.state=, or veneer.upper=tmpfs")
	}
	// A machine without a state forgets, which is what was asked for: by nobody, or on the command line.
	p.rules = nil
	for _, r := range man.Rules {
		if !r.Kept() {
			p.rules = append(p.rules, r)
		}
	}
	return p, nil
}

// kept is a state that is ready for use.
type kept struct {
	dir    StateDir
	at     string // where it is mounted
	rules  []rule.Effective
	places []Place
}

// Place is a rule with its place in the state.
type Place = overlay.Place

// keepState brings up the state, and builds the root on it. Where it cannot, and the policy is to go on without, the state is a
// directory in memory, and everybody is told.
func keepState(ctx context.Context, r *Runner, m Machine, b bootBase, p policy, memory func() error, build func(kept) (string, error)) (string, error) {
	mark, rec := r.mark(), &r.Record
	dir := ""
	k, err := diskState(ctx, r, m, b, p)
	if err == nil {
		dir, err = build(k)
	}
	if err == nil || p.missing != boot.MissingEphemeral {
		return dir, err
	}
	if uerr := r.unwindTo(mark); uerr != nil {
		return "", errors.Join(err, uerr)
	}
	rec.Rules, rec.Merges = nil, nil
	var step *StepError
	why := err.Error()
	if errors.As(err, &step) {
		why = step.Err.Error()
	}
	rec.State = State{Kind: StateEphemeral, Reference: p.reference(), Dir: "veneer", Mount: StateMount, Why: why}
	r.Degrade("nothing is kept: the state is in memory, and gone at the next boot", why)
	k, err = Do(ctx, r, StepPrepareState, func(ctx context.Context) (kept, error) {
		if err := memory(); err != nil {
			return kept{}, err
		}
		dir := path.Join(UpperDir, "state")
		if err := r.Apply(m, mount.Mkdir{Path: dir, Mode: 0o755}, mount.Mkdir{Path: StateMount, Mode: 0o755}, mount.Bind{Source: dir, Target: StateMount}); err != nil {
			return kept{}, err
		}
		k, err := openState(r, m, b)
		if err == nil {
			err = k.prepareUppers(ctx, r, m, b, p)
		}
		return k, err
	})
	if err != nil {
		return "", err
	}
	return build(k)
}

// reference is the place as it was asked for.
func (p policy) reference() string {
	if p.place.Kind == boot.StateOnDevice {
		return p.place.On.Device.String()
	}
	return string(p.place.Kind)
}

// diskState brings up the state that is to outlive this boot.
func diskState(ctx context.Context, r *Runner, m Machine, b bootBase, p policy) (kept, error) {
	if p.missing == boot.MissingWait {
		defer func(bound time.Duration) { r.Bound = bound }(r.Bound)
		r.Bound = forever
	}
	if err := m.SetKeeper(b.keeper()); err != nil {
		return kept{}, err
	}
	r.OnUndo(func() error { return m.SetKeeper("") })
	mark := r.mark()
	dev, err := Do(ctx, r, StepFindState, func(ctx context.Context) (Device, error) { return findState(ctx, r, m, b, p) })
	if err != nil {
		return kept{}, err
	}
	if p.Create || p.Unlock != "" && p.Unlock != images.UnlockNone {
		defer func(bound time.Duration) { r.Bound = bound }(r.Bound)
		r.Bound = max(r.Bound, patient) // a large disk is formatted, or a person types
	}
	k, err := Do(ctx, r, StepPrepareState, func(ctx context.Context) (kept, error) {
		if err := prepareState(ctx, r, m, b, p, dev); err != nil {
			return kept{}, err
		}
		return openState(r, m, b)
	})
	if err != nil {
		return k, err
	}
	destroyed := false
	_, err = Do(ctx, r, StepRequests, func(ctx context.Context) (struct{}, error) {
		cfg := b.env.Config
		asked := Asked{Reset: cfg.Reset, Firmware: !cfg.Reset.Off && m.ResetRequested(), Tries: p.Tries,
			Deployment: b.base.Serial, Secure: r.Record.State.Secure}
		done, err := k.dir.Requests(ctx, asked)
		if err == nil && done.Destroy != "" && !p.keyThere(ctx, m, cfg.Wait) {
			asked.Secure = state.SecureNoKey
			done, err = k.dir.Requests(ctx, asked)
		}
		r.Record.Requests, r.Record.Boots.Attempts = done.Requests, done.Attempts
		if done.Lost != "" {
			r.Degrade("the mark of the state was written anew", done.Lost)
		}
		for _, u := range done.Undone {
			r.Degrade("a request was not carried out", u)
		}
		if destroyed = done.Destroy != ""; destroyed {
			if err = r.unwindTo(mark); err == nil {
				err = m.Destroy(ctx, done.Destroy)
			}
		}
		return struct{}{}, err
	})
	if err != nil {
		return k, err
	}
	if destroyed { // what is there now holds nothing, and the state is made as at the first boot
		r.Noticef("the key of the state on %s was destroyed", dev.Path)
		return diskState(ctx, r, m, b, p)
	}
	_, err = Do(ctx, r, StepUppers, func(ctx context.Context) (struct{}, error) { return struct{}{}, k.prepareUppers(ctx, r, m, b, p) })
	return k, err
}

// findState waits for the state's device, or makes its partition.
//
//	in the store                      the store's device
//	there                             that one
//	not there, wait                   as long as it takes; no partition is made
//	not there, to be made             a partition at the end of the store's disk, when no disk that is late brought it
//	not there, fail or ephemeral      refused after the deadline
func findState(ctx context.Context, r *Runner, m Machine, b bootBase, p policy) (Device, error) {
	if p.place.Kind == boot.StateInStore {
		return b.store, nil
	}
	ref := p.place.On.Device
	wait := b.env.Config.Wait
	made := p.Create && ref.Kind == boot.ByPartLabel && p.missing != boot.MissingWait
	if made {
		wait = min(wait, lateDisk) // the store's disk is there, and with it all its partitions
	}
	looking, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if p.missing == boot.MissingWait {
		looking = ctx
	}
	dev, err := m.StateDevice(looking, ref)
	if !made || !errors.Is(err, ErrNoDevice) {
		return dev, err
	}
	spec := PartitionSpec{Name: ref.Value, MinSize: minState}
	if p.Size != "" {
		size, err := boot.ParseSize(p.Size)
		if err != nil {
			return dev, err
		}
		spec.Size = size.Bytes
	}
	dev, err = m.CreatePartition(ctx, b.store.Path, spec)
	if err == nil {
		r.Noticef("partition %s was made for the state: %s", dev.Path, ref)
	}
	return dev, err
}

// lateDisk is how long a boot that may make the state's partition looks whether another disk brings it: once in a machine's life.
const lateDisk = 2 * time.Second

// minState is the least room that a state is made in, bytes.
const minState = 16 << 20

// prepareState mounts the directory of the state, writable, at StateMount: unlocked, checked, made and grown as the policy wants.
func prepareState(ctx context.Context, r *Runner, m Machine, b bootBase, p policy, dev Device) error {
	rec := &r.Record.State
	*rec = State{Kind: StatePersistent, Reference: p.reference(), Device: dev.Path, FileSystem: dev.FileSystem, Dir: "/veneer", Mount: StateMount}
	if err := m.Modules("overlay"); err != nil { // for the probe
		return err
	}
	if p.place.Kind == boot.StateInStore {
		return storeState(ctx, r, m, b, p)
	}
	rec.Dir = "/" + path.Clean(p.place.On.Dir)
	return deviceState(ctx, r, m, b, p, dev)
}

// storeState makes the directory of the store writable, and nothing else of its file system: what is read through the store's own
// mount stays read-only.
func storeState(ctx context.Context, r *Runner, m Machine, b bootBase, p policy) error {
	fsType, dev := b.store.FileSystem, b.store
	rec := &r.Record.State
	rec.Dir = path.Join("/", r.Record.Store.Dir)
	switch {
	case dev.ReadOnly || fsType == "iso9660" || fsType == "squashfs":
		return fmt.Errorf("the store on %s (%s) cannot be written: %w; keep the state on a partition of its own: state.place = \"PARTLABEL=state\"", dev.Path, fsType, errUnfit)
	}
	if _, err := m.Check(ctx, BaseDir, dev.Path, fsType, b.check()); err != nil {
		return err
	}
	if err := r.Apply(m, mount.Writable{Target: StoreDir}); err != nil {
		return err
	}
	from := b.storeDir
	if holdsFile(fsType) {
		return fileState(ctx, r, m, p, from)
	}
	if p.Grow {
		if grew, err := m.GrowPartition(ctx, dev.Path); err != nil || grew {
			r.Noticef("partition %s grown: %v", dev.Path, orOK(err))
		}
		if _, err := m.GrowFileSystem(StoreDir); err != nil {
			return err
		}
	}
	return bindState(ctx, r, m, from, mount.Restrict{Target: StoreDir, Flags: mount.ReadOnly | mount.NoSuid | mount.NoDev | mount.NoExec | mount.NoAtime})
}

// fileState keeps the state in a file with a file system of its own, on one that cannot hold an upper.
func fileState(ctx context.Context, r *Runner, m Machine, p policy, dir string) error {
	spec := FileSpec{Name: "state.img", Label: stateLabel}
	if p.Size != "" {
		size, err := boot.ParseSize(p.Size)
		if err != nil {
			return err
		}
		spec.Max = size.Bytes
	}
	if err := r.Apply(m, mount.Mkdir{Path: dir, Mode: 0o755}); err != nil {
		return err
	}
	device, mounted, undo, err := m.StateFile(ctx, BaseDir, dir, spec)
	if err != nil {
		return err
	}
	r.OnUndo(undo)
	if err := mountState(ctx, r, m, device, "ext4", stateDevice); err != nil {
		return err
	}
	r.Record.State.Device, r.Record.State.FileSystem = device, "ext4"
	if err := mounted(); err != nil {
		return err
	}
	if _, err := m.GrowFileSystem(stateDevice); err != nil {
		return err
	}
	return bindState(ctx, r, m, path.Join(stateDevice, "veneer"))
}

func deviceState(ctx context.Context, r *Runner, m Machine, b bootBase, p policy, dev Device) error {
	rec := &r.Record.State
	device, fsType := dev.Path, dev.FileSystem
	if dev.ReadOnly {
		return fmt.Errorf("%s cannot be written: %w", device, errUnfit)
	}
	unlock, err := p.unlock(b.env.Config.Wait)
	if err != nil {
		return err
	}
	fresh := dev.Empty
	switch {
	case dev.Empty && !p.Create:
		return fmt.Errorf("%s holds no file system, and none is to be made (state.create)", device)
	case dev.Empty && unlock.Kind != "", fsType == LUKS, unlock.Kind == UnlockRandom:
		var undo func() error
		if dev.Empty {
			device, undo, err = m.EncryptNew(ctx, BaseDir, device, unlock)
		} else {
			device, undo, err = m.Unlock(ctx, BaseDir, device, unlock)
		}
		if err != nil {
			return err
		}
		r.OnUndo(undo)
		inner, err := m.LookAt(device)
		if err != nil {
			return err
		}
		fsType, fresh = inner.FileSystem, inner.Empty
		if unlock.Kind != UnlockRandom {
			rec.Secure = p.secure(unlock)
		}
	case unlock.Kind != "":
		// A file system in the clear where an encrypted one is declared would take passwords in the clear.
		return fmt.Errorf("%s holds %s in the clear, and the state is to be encrypted (state.unlock = %q): %w", device, fsType, p.Unlock, ErrForeign)
	}
	if fresh {
		if fsType = p.FileSystem; fsType == "" {
			fsType = "ext4"
		}
		if err := m.Format(ctx, BaseDir, device, fsType, stateLabel); err != nil {
			return err
		}
		r.Noticef("%s was made on %s for the state", fsType, device)
	} else if _, err := m.Check(ctx, BaseDir, device, fsType, b.check()); err != nil {
		return err
	}
	rec.Device, rec.FileSystem = device, fsType
	target := stateDevice
	if holdsFile(fsType) {
		target = stateFiles
	}
	if err := mountState(ctx, r, m, device, fsType, target); err != nil {
		checked, cerr := m.Check(ctx, BaseDir, device, fsType, CheckSpec{Mode: b.env.Config.FsckMode, Repair: b.env.Config.FsckRepair, Failed: true})
		if cerr != nil || !checked.Repaired {
			return errors.Join(err, cerr)
		}
		r.Degrade("the file system of the state was repaired", fmt.Sprintf("%s could not be mounted (%v); %s", device, err, checked.Program))
		if err := mountState(ctx, r, m, device, fsType, target); err != nil {
			return err
		}
	}
	if target == stateFiles {
		return fileState(ctx, r, m, p, path.Join(stateFiles, p.place.On.Dir))
	}
	if p.Grow {
		if grew, err := m.GrowPartition(ctx, dev.Path); err != nil || grew {
			r.Noticef("partition %s grown: %v", dev.Path, orOK(err))
		}
		if _, err := m.GrowFileSystem(stateDevice); err != nil {
			return err
		}
	}
	return bindState(ctx, r, m, path.Join(stateDevice, p.place.On.Dir))
}

// forever is how long a boot waits for a state that it was told to wait for.
const forever = 100 * 365 * 24 * time.Hour

// patient is how long a state may take to be made or unlocked.
const patient = 15 * time.Minute

func (b bootBase) check() CheckSpec {
	return CheckSpec{Mode: b.env.Config.FsckMode, Repair: b.env.Config.FsckRepair}
}

// holdsFile reports whether a file system keeps files and cannot hold an upper.
func holdsFile(fsType string) bool {
	return fsType == "vfat" || fsType == "exfat" || fsType == "ntfs3" || fsType == "ntfs"
}

func mountState(ctx context.Context, r *Runner, m Machine, device, fsType, target string) error {
	if fsType == "ntfs" {
		fsType = "ntfs3"
	}
	how := storeFileSystems[fsType] // of those that no store is on there is nothing to know
	if err := m.ModulesOf(ctx, BaseDir, append(how.modules, fsType)...); err != nil {
		return err
	}
	return r.Apply(m, mount.Mkdir{Path: target, Mode: 0o755}, mount.Mount{Type: fsType, Source: device, Target: target, Data: how.options, Flags: mount.NoAtime})
}

// bindState shows the directory of the state at StateMount, without what restricts the mount that it comes from: what is bound from
// there must be able to hold programs and devices, as any root can.
func bindState(ctx context.Context, r *Runner, m Machine, from string, then ...mount.Op) error {
	ops := append([]mount.Op{mount.Mkdir{Path: from, Mode: 0o755}, mount.Mkdir{Path: StateMount, Mode: 0o755},
		mount.Bind{Source: from, Target: StateMount}, mount.Restrict{Target: StateMount, Flags: mount.NoAtime}}, then...)
	if err := r.Apply(m, ops...); err != nil {
		return err
	}
	err := m.ProbeUpper(ctx, StateMount)
	if errors.Is(err, overlay.ErrNoRoom) {
		// What is there already needs no room, and a reset that was asked for makes some. What needs it, and finds none, fails later.
		r.Degrade("the state is full", err.Error()+"; see veneer du; what a reset took gives room back behind veneer bless, with --secure at once")
		return nil
	}
	return err
}

func openState(r *Runner, m Machine, b bootBase) (kept, error) {
	dir, err := m.OpenState(StateMount, Owner{Product: b.base.Name, Boot: b.env.BootID, Keeper: b.keeper()})
	if err != nil {
		return kept{}, err
	}
	r.OnUndo(dir.Close)
	return kept{dir: dir, at: StateMount}, nil
}

func orOK(err error) any {
	if err == nil {
		return "ok"
	}
	return err
}
