// Command identityinit stands between the switch of the root and systemd, for the cases that look at an identity on a disk of its
// own: it mounts that as the state, sets the identity as the init does, and becomes systemd.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/overlay/identity"
	"veneer/overlay/rule"
	"veneer/stage"
)

const (
	device   = "/dev/vdb"
	stateDir = stage.MountsDir + "/state"
)

func main() {
	err := set()
	if err == nil {
		err = unix.Exec("/sbin/init", append([]string{"/sbin/init"}, os.Args[1:]...), os.Environ())
	}
	say("identityinit: %v", err)
	for {
		unix.Pause()
	}
}

func say(format string, args ...any) {
	if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		defer f.Close()
		fmt.Fprintf(f, "<4>"+format+"\n", args...)
	}
}

func set() error {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(stateDir, 0o755), unix.Mount(device, stateDir, "ext4", 0, ""), os.Symlink(stateDir, stage.RunDir+"/state")); err != nil {
		return err
	}
	text, err := os.ReadFile(stage.RecordPath)
	if err != nil {
		return err
	}
	var rec stage.Record
	if err := json.Unmarshal(text, &rec); err != nil {
		return err
	}
	cfg, err := boot.ParseCmdline(boot.Config{}, string(bytes.TrimSpace(line)))
	if err != nil {
		return err
	}
	env := identity.Env{Name: "shop", Built: time.Unix(1_700_000_000, 0), Asked: cfg.MachineID, Platform: identity.Platform("/"), System: identity.Linux{}}
	for _, img := range rec.Images {
		env.Images = append(env.Images, img.Mount)
	}
	settings := identity.Complete([]identity.Setting{{Name: identity.Hostname, Mode: identity.Persist}}, true)
	for _, word := range strings.Fields(string(line)) {
		if asked, ok := strings.CutPrefix(word, "test.identity="); ok {
			name, mode, _ := strings.Cut(asked, ":")
			settings = identity.Complete(append(settings, identity.Setting{Name: name, Mode: identity.Mode(mode)}), true)
		}
		if word == "test.etc=kept" {
			if err := keepEtc(env.Images); err != nil {
				return err
			}
			env.Kept.Rules = []rule.Rule{{Path: "/etc", Action: rule.Merge}}
			rec.Rules = []stage.Rule{{Path: "/etc", Action: string(rule.Merge)}}
		}
	}
	store, err := identity.OpenStore(filepath.Join(stateDir, stage.IdentityDir))
	if err != nil {
		return err
	}
	done, err := identity.Apply("/", store, settings, env)
	if err != nil {
		return err
	}
	rec.Identity = nil
	for _, d := range done {
		say("identityinit: %s = %s: %s", d.Name, d.Mode, d.What)
		if d.Err != nil {
			return d.Err
		}
		rec.Identity = append(rec.Identity, stage.Identity{Name: d.Name, Mode: string(d.Mode), What: d.What})
	}
	if again := rec.Encode(); !bytes.Equal(again, text) {
		return os.WriteFile(stage.RecordPath, again, 0o644)
	}
	return nil
}

// keepEtc mounts /etc as a merge rule does, with its upper in the state.
func keepEtc(images []string) error {
	upper, work := stateDir+"/etc/fs", stateDir+"/etc/work"
	var lowers []string
	for _, img := range images {
		if _, err := os.Stat(img + "/etc"); err == nil {
			lowers = append([]string{img + "/etc"}, lowers...)
		}
	}
	return errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o700), unix.Mount("overlay", "/etc", "overlay", 0,
		"lowerdir="+strings.Join(lowers, ":")+",upperdir="+upper+",workdir="+work+",index=off,nfs_export=off,redirect_dir=off,metacopy=off"))
}
