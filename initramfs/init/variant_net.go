//go:build net

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	cmdline "veneer/boot/network"
	"veneer/initramfs/machine"
	"veneer/initramfs/network"
	"veneer/stage"
	"veneer/stage/live"
	"veneer/stage/netboot"
)

// variant boots media and sets of a server besides.
func variant() stage.Variant {
	return &netboot.Variant{Next: live.Variant{System: live.Linux{}}, Up: bringUp, Memory: live.Linux{}.Available}
}

// bringUp brings up the network, while drivers of what appears are loaded, and leaves in /run what the running system may want to
// know of it.
func bringUp(ctx context.Context, on stage.Machine, cfg cmdline.Config, say func(string)) (netboot.Link, error) {
	m, ok := on.(*machine.Machine)
	if !ok {
		return netboot.Link{}, fmt.Errorf("a %T has no network", on)
	}
	// Where it is no module, or is not there, the question itself will tell.
	for _, name := range []string{"af_packet", "ipv6"} {
		if err := m.Modules(name); err != nil {
			say(err.Error())
		}
	}
	var lease network.Lease
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		lease, err = network.Up(ctx, cfg, say)
	}()
	if aerr := m.Attend(done); aerr != nil {
		say(aerr.Error()) // drivers that are there go on
	}
	<-done
	if err != nil {
		return netboot.Link{}, err
	}
	errs := []error{os.WriteFile("/run/"+lease.ConfName(), lease.Conf(), 0o644)}
	if text := lease.Resolv(); len(text) > 0 {
		errs = append(errs, os.WriteFile(stage.RunDir+"/resolv.conf", text, 0o644))
	}
	return netboot.Link{Says: lease.String(), DNS: lease.DNS}, errors.Join(errs...)
}
