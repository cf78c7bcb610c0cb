package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"veneer/boot/network"
)

// ErrNoNetwork means that no interface could be set up in time.
var ErrNoNetwork = errors.New("no network")

// Up sets up the first interface that can be: each one that the configuration takes and that has, or gets, a carrier is tried at
// once; the first that has its address is the one, and the others are left as they were found. It waits for interfaces
// whose drivers are still loading. The error lists every interface, and why it was not the one.
func Up(ctx context.Context, cfg network.Config, say func(string)) (Lease, error) {
	u := &upper{cfg: cfg, say: say, links: map[int]*tried{}, leases: make(chan Lease, 1)}
	return u.run(ctx)
}

// upper is one attempt to bring a network up. Only run touches its links; workers have a copy.
type upper struct {
	cfg    network.Config
	say    func(string)
	mu     sync.Mutex // for why of the links
	links  map[int]*tried
	leases chan Lease
}

// tried is an interface that was met.
type tried struct {
	name, mac string
	raised    bool // by us
	stop      context.CancelFunc
	why       string // it is not the one, so far
}

func (u *upper) run(ctx context.Context) (lease Lease, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	failed := make(chan error, 1)
	err = netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{ListExisting: true,
		ErrorCallback: func(err error) {
			select {
			case failed <- err:
			default:
			}
		}})
	if err != nil {
		cancel()
		return Lease{}, fmt.Errorf("watch interfaces: %w", err)
	}
	defer func() {
		cancel()
		close(done)
		go func() { // the library closes the channel once it has noticed
			for range updates {
			}
		}()
		workers.Wait()
		err = errors.Join(err, u.lower(lease.Device))
	}()
	for {
		select {
		case <-ctx.Done():
			return Lease{}, fmt.Errorf("%w: %w (veneer.wait=); %s", ErrNoNetwork, ctx.Err(), u.list())
		case lease = <-u.leases:
			return lease, nil
		case err := <-failed:
			if ctx.Err() == nil {
				return Lease{}, fmt.Errorf("watch interfaces: %w", err)
			}
		case up, more := <-updates:
			if !more {
				updates = nil
				continue
			}
			u.update(ctx, &workers, up)
		}
	}
}

// update meets a new interface, or one that has changed.
func (u *upper) update(ctx context.Context, workers *sync.WaitGroup, up netlink.LinkUpdate) {
	a := up.Attrs()
	if a.EncapType != "ether" || a.MasterIndex != 0 {
		return
	}
	t := u.links[a.Index]
	if up.Header.Type == unix.RTM_DELLINK {
		if t != nil && t.stop != nil {
			t.stop()
		}
		delete(u.links, a.Index)
		return
	}
	if t == nil {
		t = &tried{name: a.Name, mac: a.HardwareAddr.String()}
		u.links[a.Index] = t
		if _, ok := u.wanted(a.Name, t.mac); !ok {
			t.why = "not asked for"
		}
	}
	link, ok := u.wanted(a.Name, t.mac)
	if !ok {
		return
	}
	if a.RawFlags&unix.IFF_UP == 0 {
		if !t.raised {
			t.raised = true
			u.say(fmt.Sprintf("ip link set %s up", a.Name))
			if err := netlink.LinkSetUp(up.Link); err != nil {
				u.blame(t, err)
				return
			}
			u.blame(t, errors.New("no carrier"))
		}
		return
	}
	carrier := a.RawFlags&unix.IFF_LOWER_UP != 0
	switch {
	case !carrier && t.stop != nil:
		t.stop()
		t.stop = nil
		u.blame(t, errors.New("the carrier was lost"))
	case !carrier:
		u.blame(t, errors.New("no carrier"))
	case t.stop == nil:
		var mine context.Context
		mine, t.stop = context.WithCancel(ctx)
		u.blame(t, errors.New("no answer yet"))
		workers.Go(func() {
			lease, err := u.guarded(mine, up.Link, link)
			if err != nil {
				if mine.Err() == nil || ctx.Err() != nil { // else it lost its carrier, which was said
					u.blame(t, err)
				}
				return
			}
			select {
			case u.leases <- lease: // the first one; nobody waits for another
			default:
				u.blame(t, errors.New("another was first"))
			}
		})
	}
}

// guarded sets an interface up. A panic in it is an error of it: this is PID 1.
func (u *upper) guarded(ctx context.Context, link netlink.Link, how network.Link) (lease Lease, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic, which is a bug in veneer: %v\n%s", v, debug.Stack())
		}
	}()
	return u.configure(ctx, link, how)
}

func (u *upper) blame(t *tried, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	t.why = err.Error()
}

// wanted returns the ip= for an interface: the one that names it, else the one for any, which BOOTIF= narrows down.
func (u *upper) wanted(name, mac string) (network.Link, bool) {
	var any *network.Link
	for i, l := range u.cfg.Links {
		switch {
		case l.Device == name && (l.MAC == network.MAC{} || l.MAC.String() == mac), l.Device == "" && l.MAC != network.MAC{} && l.MAC.String() == mac:
			return l, l.Method != network.Off
		case l.Device == "" && l.MAC == network.MAC{} && l.Method != network.Off:
			any = &u.cfg.Links[i]
		}
	}
	if any == nil && len(u.cfg.Links) > 0 {
		return network.Link{}, false
	}
	if u.cfg.BootIF != (network.MAC{}) && u.cfg.BootIF.String() != mac {
		return network.Link{}, false
	}
	if any == nil {
		return network.Link{Method: network.DHCP}, true
	}
	return *any, true
}

// lower takes down again what was raised, but for one.
func (u *upper) lower(keep string) error {
	var errs []error
	for index, t := range u.links {
		if t.stop != nil {
			t.stop()
		}
		if !t.raised || t.name == keep {
			continue
		}
		link, err := netlink.LinkByIndex(index)
		if err == nil {
			err = netlink.LinkSetDown(link)
		}
		var gone netlink.LinkNotFoundError
		if err != nil && !errors.As(err, &gone) {
			errs = append(errs, fmt.Errorf("ip link set %s down: %w", t.name, err))
		}
	}
	return errors.Join(errs...)
}

// list says what became of each interface.
func (u *upper) list() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.links) == 0 {
		return "no interface appeared: is the driver of the network card in the initramfs?"
	}
	var all []string
	for _, index := range slices.Sorted(maps.Keys(u.links)) {
		t := u.links[index]
		all = append(all, fmt.Sprintf("%s (%s): %s", t.name, t.mac, t.why))
	}
	return "interfaces: " + strings.Join(all, "; ")
}
