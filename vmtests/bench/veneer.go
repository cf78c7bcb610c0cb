package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"veneer/vmtests/qemu"
)

// The build files of the ways to boot with Veneer.
const (
	verifiedConfig   = "veneer.toml"
	unverifiedConfig = "veneer-unverified.toml"
	stateConfig      = "veneer-state.toml"
)

func makeVerified(ctx context.Context, l *Lab) (Peer, error) {
	err := l.veneerBuild(ctx, "veneer-out", verifiedConfig)
	return l.veneerPeer("Veneer", "veneer-out", true), err
}

// makeUnverified boots with the signature and every block unchecked, to show what the checks cost.
func makeUnverified(ctx context.Context, l *Lab) (Peer, error) {
	err := l.veneerBuild(ctx, "veneer-unverified-out", unverifiedConfig)
	return l.veneerPeer("Veneer without verification", "veneer-unverified-out", false, "veneer.verify=none"), err
}

// makeState keeps /etc, /var and /home in the store. The first boot, to multi-user.target, makes the state and what systemd makes
// once; it is not measured. All others begin with what it left, on a machine that lost its power then.
func makeState(ctx context.Context, l *Lab) (Peer, error) {
	const out = "veneer-state-out"
	if err := l.veneerBuild(ctx, out, stateConfig); err != nil {
		return Peer{}, err
	}
	peer := l.veneerPeer("Veneer with /etc, /var and /home kept", out, true)
	peer.Settles = true
	return peer, nil
}

func (l *Lab) veneerPeer(title, out string, verified bool, more ...string) Peer {
	return Peer{Title: title, Verified: verified, Initrd: l.path(out, "initramfs.cpio.zst"), Append: more,
		Disks: []qemu.Disk{{Path: l.path(out, "store.img"), Snapshot: true}}}
}

// veneerBuild runs `veneer build` into an empty directory, with the build file of that name.
func (l *Lab) veneerBuild(ctx context.Context, out, config string) error {
	if err := l.prepareVeneer(ctx); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(l.path(out)), writeAsset(config, l.path(config), 0o644)); err != nil {
		return err
	}
	_, err := output(ctx, l.Veneer, "build", "-f", l.path(config), "-o", l.path(out))
	return err
}

// prepareVeneer builds the command, once in a run, and makes a key pair.
func (l *Lab) prepareVeneer(ctx context.Context) error {
	if l.Veneer == "" {
		command := l.path("veneer")
		if _, err := output(ctx, "go", "build", "-trimpath", "-o", command, "veneer/cmd/veneer"); err != nil {
			return fmt.Errorf("%w; run in the module, or give -veneer", err)
		}
		l.Veneer = command
	}
	if _, err := os.Stat(l.path("bench.pub")); err == nil {
		return nil
	}
	// An unprotected key of minisign's own: it signs what nobody will ever trust.
	_, err := output(ctx, "minisign", "-G", "-W", "-p", l.path("bench.pub"), "-s", l.path("bench.key"))
	return err
}
