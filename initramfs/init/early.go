package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/boot/switchroot"
	"veneer/images"
	"veneer/overlay/mount"
	"veneer/stage"
)

// Where the initramfs keeps what it was built with.
const (
	keysDir       = "/etc/veneer/keys"
	defaultsFile  = "/etc/veneer/cmdline"
	allowUnsigned = "/etc/veneer/allow-unsigned"
	tpmFile       = "/etc/veneer/tpm"
	shellPath     = "/bin/sh"
)

// early is what PID 1 needs before anything else, and what the next init finds made. The options are those that systemd
// would use, since it leaves alone what is there (src/shared/mount-setup.c).
var early = []mount.Op{
	mount.Mkdir{Path: "/dev", Mode: 0o755},
	mount.Mount{Type: "devtmpfs", Source: "devtmpfs", Target: "/dev", Flags: mount.NoSuid | mount.Strict, Data: "mode=0755"},
	mount.Mkdir{Path: "/proc", Mode: 0o755},
	mount.Mount{Type: "proc", Source: "proc", Target: "/proc", Flags: mount.NoSuid | mount.NoDev | mount.NoExec},
	mount.Mkdir{Path: "/sys", Mode: 0o755},
	mount.Mount{Type: "sysfs", Source: "sysfs", Target: "/sys", Flags: mount.NoSuid | mount.NoDev | mount.NoExec},
	mount.Mkdir{Path: "/run", Mode: 0o755},
	mount.Mount{Type: "tmpfs", Source: "tmpfs", Target: "/run", Flags: mount.NoSuid | mount.NoDev | mount.Strict, Data: "mode=0755,size=20%,nr_inodes=800k"},
	mount.Mkdir{Path: stage.RunDir, Mode: 0o755},
	mount.Mkdir{Path: switchroot.Exitrd, Mode: 0o755},
	mount.Mkdir{Path: "/run/initramfs", Mode: 0o755},
	mount.Bind{Source: switchroot.Exitrd, Target: "/run/initramfs"},
	// A mount in the root must not be copied to wherever / was shared with, and a shared mount cannot be moved (mount(2)).
	mount.Private{Target: "/"},
}

func earlyMounts(l *log) error {
	for _, op := range early {
		if err := (mount.Kernel{}).Apply(op); err != nil && !errors.Is(err, unix.EBUSY) { // EBUSY: the kernel was first
			return err
		}
	}
	l.open()
	return makeExitrd()
}

// makeExitrd makes what will be left of the initramfs: this program, and the directories that are mounted on at the end.
func makeExitrd() error {
	for _, dir := range switchroot.ExitrdDirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Link("/init", switchroot.Exitrd+"/shutdown")
}

// readEnv reads the command line over the initramfs's own defaults, and the keys.
func (p *pid1) readEnv() (stage.Env, error) {
	rec := &p.runner.Record
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return stage.Env{}, fmt.Errorf("uname: %w", err)
	}
	rec.Kernel = unix.ByteSliceToString(uts.Release[:])
	var mem unix.Sysinfo_t
	if err := unix.Sysinfo(&mem); err != nil {
		return stage.Env{}, fmt.Errorf("sysinfo: %w", err)
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return stage.Env{}, err
	}
	rec.Cmdline = strings.TrimSpace(string(line))
	defaults, err := os.ReadFile(defaultsFile)
	if err != nil {
		return stage.Env{}, fmt.Errorf("defaults of the initramfs: %w", err)
	}
	settings, err := stage.Configure(strings.TrimSpace(string(defaults)), rec.Cmdline, dialects())
	rec.Aliases = settings.Aliases
	p.config, p.runner.OnFail, p.builtIn = settings.Config, settings.OnFail, settings.OnFailBuilt
	p.runner.Details = p.config.Debug
	p.runner.Bound = p.config.Wait + p.config.RootDelay + stuckMargin
	if err != nil {
		return stage.Env{}, err
	}
	if p.config.Break != "" {
		err = needShell("veneer.break=")
	}
	if p.runner.OnFail == boot.Shell {
		err = errors.Join(err, needShell("on-fail=shell"))
	}
	keys, kerr := readKeys()
	if err := errors.Join(err, kerr); err != nil {
		return stage.Env{}, err
	}
	_, uerr := os.Stat(allowUnsigned)
	return stage.Env{Settings: settings, Variant: variant(), Keys: keys, AllowUnsigned: uerr == nil, TPM: readTPM(),
		RAM: int64(mem.Totalram) * int64(mem.Unit), Arch: runtime.GOARCH, BootID: bootID()}, nil
}

func needShell(what string) error {
	if _, err := os.Stat(shellPath); err != nil {
		return fmt.Errorf("%s needs a rescue shell, and this initramfs was built without one", what)
	}
	return nil
}

func readKeys() ([]stage.Key, error) {
	files, err := filepath.Glob(keysDir + "/*.pub")
	if err != nil {
		return nil, err
	}
	var keys []stage.Key
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		key, err := images.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", f, err)
		}
		keys = append(keys, stage.Key{File: filepath.Base(f), PublicKey: key})
	}
	return keys, nil
}

// readTPM reads what is said of the TPM. What nobody understands requires it.
func readTPM() string {
	text, err := os.ReadFile(tpmFile)
	if errors.Is(err, fs.ErrNotExist) {
		return stage.TPMNone
	}
	if string(text) == stage.TPMWanted+"\n" {
		return stage.TPMWanted
	}
	return stage.TPMRequired
}

// bootID is the kernel's name for this boot, see random(4).
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
