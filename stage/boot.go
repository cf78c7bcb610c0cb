package stage

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/images/sha2"
	"veneer/overlay/mount"
)

// Where things are mounted. All of it moves into the merged root with /run. The mounts lie below /run/initramfs because systemd
// leaves alone what is mounted there until the exitrd takes it down (mount_is_extrinsic in its src/core/mount.c); in RunDir
// each has a link, and those are the names to use.
const (
	RunDir    = "/run/veneer"
	MountsDir = "/run/initramfs/veneer"
	StoreDir  = MountsDir + "/store"
	BaseDir   = MountsDir + "/base"
	LayersDir = MountsDir + "/layers"
	UpperDir  = MountsDir + "/upper"
	linkDir   = MountsDir + "/lower"
	RootDir   = "/sysroot"
)

// defaultUpperSize is the share of RAM that a tmpfs upper may grow to when nobody said.
var defaultUpperSize = boot.Size{Percent: 50}

// Key is a public key that the initramfs trusts.
type Key struct {
	File string
	images.PublicKey
}

// Env is what a boot knows of itself before it begins.
type Env struct {
	Settings
	Keys          []Key
	AllowUnsigned bool
	TPM           string // TPMNone, which "" is too, TPMWanted, TPMRequired
	Paper         bool   // a plan: nothing is mounted, so no signature is asked for
	BootID        string // of the running kernel
	RAM           int64  // bytes
	Arch          string // of this machine, in Go's names; "" is any

	Variant Variant // what a larger init can do besides; nil in the local one
}

// Root is a merged root that is ready to be switched to.
type Root struct {
	Dir  string
	Init string // path within Dir
}

// Boot goes from the command line to a merged root:
//
//   - waits for the store's device, under one deadline, and mounts it read-only
//   - chooses a deployment, checks the signature of its manifest with the keys of the initramfs, and that it is not older than what
//     was blessed on this machine
//   - measures it into the TPM, where the initramfs says so
//   - attaches each image through dm-verity and mounts it
//   - brings up the state, if there is to be one, does what it was asked to do, and makes what it keeps fit for this base
//   - stacks the upper over the images, applies the rules for single paths, sets the identity, and checks that the result can be run
//
// What it does is kept in r for Unwind; what it found is in r.Record.
func Boot(ctx context.Context, r *Runner, m Machine, env Env) (Root, error) {
	ignoreUnderSecureBoot(r, m, &env)
	cfg := env.Config
	if err := env.check(); err != nil {
		return Root{}, &StepError{StepCommandLine, err}
	}
	waiting, cancel := context.WithTimeout(ctx, cfg.Wait+cfg.RootDelay)
	defer cancel()

	_, err := Do(waiting, r, StepDrivers, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, m.Drivers(ctx, cfg.RootDelay)
	})
	if err != nil {
		return Root{}, err
	}
	set, err := findSet(ctx, waiting, r, m, &env)
	if err != nil {
		return Root{}, err
	}
	lowers := set.Mounted
	if lowers == nil {
		attached, err := Do(ctx, r, StepAttach, func(context.Context) ([]attachedImage, error) { return attach(r, m, set) })
		if err != nil {
			return Root{}, err
		}
		lowers, err = Do(ctx, r, StepMountImages, func(context.Context) ([]string, error) { return mountImages(r, m, attached) })
		if err != nil {
			return Root{}, err
		}
	}
	man := set.Manifest
	base := newBase(env, set, lowers)
	makeRoot := set.Root
	if makeRoot == nil {
		makeRoot = func(ctx context.Context, _ []string) (string, error) { return usualRoot(ctx, r, m, base, man) }
	}
	dir, err := makeRoot(ctx, lowers)
	if err != nil {
		return Root{}, err
	}
	if set.Merged != nil {
		_, err = Do(ctx, r, StepRules, func(context.Context) (struct{}, error) { return struct{}{}, set.Merged(dir) })
		if err != nil {
			return Root{}, err
		}
	}
	if set.Root == nil { // else it is the business of whoever made the set
		_, err = Do(ctx, r, StepIdentity, func(context.Context) (struct{}, error) {
			return struct{}{}, setIdentity(r, m, dir, cfg.MachineID, man)
		})
		if err != nil {
			return Root{}, err
		}
	}
	init, err := Do(ctx, r, StepCheckRoot, func(context.Context) (string, error) { return m.CheckRoot(dir, cfg.Init) })
	if err != nil {
		return Root{}, err
	}
	r.Record.Init = init
	return Root{dir, init}, nil
}

// inStore says of which store an error speaks.
func inStore(s Store, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store %s:%s: %w", s.Device, path.Join("/", s.Dir), err)
}

var errUnverifiedRefused = errors.New("veneer.verify=none: this initramfs was not built with allow-unsigned")

// check refuses what this init cannot do.
func (e Env) check() error {
	if e.Config.Unverified && !e.AllowUnsigned && !e.Paper {
		return errUnverifiedRefused
	}
	if e.Config.Networked != "" {
		if _, ok := e.Variant.(interface{ Networked() }); !ok {
			return errors.New(e.Config.Networked + ": this init has no network; build with the output \"netboot\", or variant = \"net\"")
		}
	}
	if e.Config.Larger != "" && e.Variant == nil {
		return errors.New(e.Config.Larger + ": this initramfs has the smallest init; build with variant = \"live\" or \"net\"")
	}
	return nil
}

// findStore finds the set of a store that lies on a block device.
func findStore(ctx, waiting context.Context, r *Runner, m Machine, env *Env) (*Set, error) {
	device, err := Do(waiting, r, StepFindStore, func(ctx context.Context) (Device, error) { return m.Device(ctx, env.Config.Store.Device) })
	if err != nil {
		return nil, err
	}
	return OpenStore(ctx, r, m, env, device)
}

// OpenStore mounts the store on a device, and finds the set to boot in it.
func OpenStore(ctx context.Context, r *Runner, m Machine, env *Env, device Device) (*Set, error) {
	cfg := &env.Config
	store, err := Do(ctx, r, StepMountStore, func(context.Context) (storeTree, error) { return mountStore(r, m, cfg.Store, device) })
	if err != nil {
		return nil, err
	}
	serial, err := Do(ctx, r, StepChoose, func(context.Context) (string, error) {
		serial, err := choose(r, store, cfg.Deployment)
		return serial, inStore(r.Record.Store, err)
	})
	if err != nil {
		return nil, err
	}
	var blessed images.Blessed
	man, err := Do(ctx, r, StepCheckManifest, func(context.Context) (images.Manifest, error) {
		man, err := checkManifest(r, store, serial, *env)
		if err == nil {
			blessed, err = r.checkEpoch(store, man)
		}
		return man, inStore(r.Record.Store, err)
	})
	return &Set{Manifest: man, Serial: serial, Device: device, Dir: store.dir, Unverified: cfg.Unverified, Blessed: blessed}, err
}

// storeTree is the mounted store: its files, and where they lie.
type storeTree struct {
	files fs.FS // not embedded: that would hide its Stat, and without it a look at a fifo opens it, and waits for its writer
	dir   string
}

func mountStore(r *Runner, m Machine, ref boot.StoreRef, dev Device) (storeTree, error) {
	fail := func(err error) (storeTree, error) {
		return storeTree{}, fmt.Errorf("%s (%s): %w", dev.Path, dev.FileSystem, err)
	}
	if err := r.MountReadOnly(m, dev, "", mount.NoSuid|mount.NoDev|mount.NoExec); err != nil {
		return fail(err)
	}
	dir := path.Join(StoreDir, ref.Dir)
	r.Record.Store = Store{Reference: ref.Device.String(), Device: dev.Path, FileSystem: dev.FileSystem, Dir: ref.Dir}
	files := m.Files(dir)
	if info, err := fs.Stat(files, "."); err != nil {
		return fail(fmt.Errorf("directory %q: %w", ref.Dir, err))
	} else if !info.IsDir() {
		return fail(fmt.Errorf("%q is not a directory", ref.Dir))
	}
	return storeTree{files, dir}, nil
}

// MountReadOnly mounts what a device holds at StoreDir. A journal that was not finished is replayed by the kernel, unless the device
// cannot be written; options are further ones of the file system.
func (r *Runner) MountReadOnly(m Machine, dev Device, options string, flags mount.Flags) error {
	data, ok := storeFileSystems[dev.FileSystem]
	if !ok {
		return errors.New("no store can live on this file system; use ext4, btrfs, xfs, vfat, iso9660 or squashfs")
	}
	if err := m.Modules(data.modules...); err != nil {
		return err
	}
	op := mount.Mount{Type: dev.FileSystem, Source: dev.Path, Target: StoreDir, Data: join(data.options, options),
		Flags: mount.ReadOnly | mount.NoAtime | flags}
	if dev.ReadOnly {
		op.Data = join(op.Data, data.noReplay)
	}
	return r.Apply(m, mount.Mkdir{Path: StoreDir, Mode: 0o755}, op)
}

// storeFileSystems says how the store is mounted on each file system: its modules, its options, and what keeps the kernel
// from replaying a journal on a device that cannot be written.
var storeFileSystems = map[string]struct {
	modules           []string
	options, noReplay string
}{
	"ext4":     {modules: []string{"ext4"}, noReplay: "noload"},
	"btrfs":    {modules: []string{"btrfs"}, noReplay: "rescue=nologreplay"},
	"xfs":      {modules: []string{"xfs"}, noReplay: "norecovery"},
	"vfat":     {modules: []string{"vfat", "nls_cp437", "nls_ascii"}, options: "codepage=437,iocharset=ascii,utf8=1"},
	"iso9660":  {modules: []string{"isofs"}},
	"squashfs": {modules: []string{"squashfs"}},
}

func choose(r *Runner, store storeTree, asked string) (string, error) {
	serials, junk, err := images.Deployments(store.files)
	if err != nil {
		return "", err
	}
	for _, name := range junk {
		r.Detailf("store: deployments/%s is not a deployment; ignored", name)
	}
	def, defErr := images.Default(store.files)
	d, err := boot.Choose(serials, def, defErr, asked)
	if err != nil {
		return "", err
	}
	if d.Degraded != "" {
		r.Degrade("deployment "+d.Serial+" was booted instead of the default", d.Degraded)
	}
	r.Record.Deployment = Deployment{Serial: d.Serial, Why: d.Why}
	return d.Serial, nil
}

func checkManifest(r *Runner, store storeTree, serial string, env Env) (images.Manifest, error) {
	text, sig, err := images.ReadDeployment(store.files, serial)
	if err != nil {
		return images.Manifest{}, err
	}
	return CheckManifest(r, serial, text, sig, env)
}

// CheckManifest checks the signature of a manifest, then parses it, and records what it says.
func CheckManifest(r *Runner, serial string, text, sig []byte, env Env) (images.Manifest, error) {
	if env.Config.Unverified {
		r.Degrade("not verified", "veneer.verify=none was given: neither the manifest's signature nor any block was checked")
	} else if env.Paper {
		r.Detailf("check the signature with the keys of the initramfs")
	} else if err := r.verify(text, sig, env.Keys); err != nil {
		return images.Manifest{}, fmt.Errorf("deployment %s: %w", serial, err)
	}
	man, err := images.ParseSigned(text)
	if err != nil {
		return images.Manifest{}, fmt.Errorf("deployment %s: %w", serial, err)
	}
	if env.Arch != "" && man.Architecture != env.Arch {
		return images.Manifest{}, fmt.Errorf("deployment %s: the set is for %s, and this machine is %s", serial, man.Architecture, env.Arch)
	}
	if running := r.Record.Kernel; running != "" && man.Kernel.Release != running {
		r.Degrade("another kernel runs", fmt.Sprintf("%s, and the set was made for %s: the modules in the base do not fit", running, man.Kernel.Release))
	}
	sum := sha2.Sum256(text)
	d := &r.Record.Deployment
	d.Name, d.Version, d.Epoch, d.Architecture, d.Manifest = man.Name, man.Version, man.Epoch, man.Architecture, hex.EncodeToString(sum[:])
	r.Record.Verified.Corruption = man.Corruption
	r.Record.Watermarks = Watermarks{man.State.Warning, man.State.Critical, man.State.Full}
	r.Record.Boots.Tries = man.State.Tries
	if !env.OnFailAsked && man.Root.OnFail != "" {
		r.OnFail = boot.OnFail(man.Root.OnFail)
	}
	return man, nil
}

// verify checks the signature before a byte of the manifest is parsed.
func (r *Runner) verify(text, sig []byte, keys []Key) error {
	s, err := images.ParseSignature(sig)
	if err != nil {
		return err
	}
	public := make([]images.PublicKey, len(keys))
	for i, k := range keys {
		public[i] = k.PublicKey
	}
	signer, err := images.Verify(text, s, public...)
	if err != nil {
		return err
	}
	v := &r.Record.Verified
	v.Manifest, v.KeyID = true, signer.ID.String()
	for _, k := range keys {
		if k.ID == signer.ID {
			v.KeyFile = k.File
		}
	}
	return nil
}

// Apply carries out operations and keeps their undoing.
func (r *Runner) Apply(m mount.Applier, ops ...mount.Op) error {
	for _, op := range ops {
		r.Detailf("%s", op)
		if err := m.Apply(op); err != nil {
			return err
		}
		if undo := op.Undo(); undo != nil {
			r.OnUndo(func() error { return m.Apply(undo) })
		}
	}
	return nil
}

func join(options ...string) string {
	joined := ""
	for _, o := range options {
		if o != "" && joined != "" {
			joined += ","
		}
		joined += o
	}
	return joined
}

// DefaultWait is the deadline for devices when nobody said.
const DefaultWait = 30 * time.Second
