package netboot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"time"

	"veneer/boot"
	"veneer/boot/network"
	"veneer/images"
	"veneer/stage"
)

// Variant is what the init for netboot can do besides. Without veneer.url= it is Next.
type Variant struct {
	Next stage.Variant // what else a larger init can do

	// Up brings up the network as the command line says, and tells of it in a line, and which servers resolve names.
	Up func(ctx context.Context, m stage.Machine, cfg network.Config, say func(string)) (Link, error)

	// Memory is what the kernel can give, in bytes.
	Memory func() (int64, error)

	client *Client
	cache  *boot.StoreRef
	found  *stage.Set // by Find
	text   []byte     // of the manifest
	sig    []byte
}

// Link is a network that is up.
type Link struct {
	Says string // for people and the record
	DNS  []netip.Addr
}

var _ stage.Variant = (*Variant)(nil)

// Networked tells stage that this variant has a network.
func (*Variant) Networked() {}

// maxDefault is more than the file that names the default has.
const maxDefault = 64

// Find implements stage.Variant.
func (v *Variant) Find(ctx, waiting context.Context, r *stage.Runner, m stage.Machine, env *stage.Env) (*stage.Set, error) {
	cfg, err := network.Parse(env.Config.Network)
	if err != nil {
		return nil, &stage.StepError{Step: stage.StepCommandLine, Err: err}
	}
	if cfg.URL == "" {
		return v.Next.Find(ctx, waiting, r, m, env)
	}
	read := v.paper(m)
	v.client = &Client{Base: cfg.URL, Patience: env.Config.Wait, Notice: func(line string) { r.Noticef("%s", line) }}
	if !env.Paper {
		read = v.client.Small
	}
	defer v.client.Close()
	serial, err := stage.Do(waiting, r, stage.StepNetwork, func(ctx context.Context) (string, error) {
		return v.reach(ctx, r, m, cfg, env, read)
	})
	if err != nil && cfg.Cache != nil && !errors.Is(err, ErrRefused) {
		r.Degrade("the set in the cache is booted: "+cfg.URL+" was not reached", err.Error())
		env.Config.Store = *cfg.Cache
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	set := &stage.Set{Device: stage.Device{Path: "memory", FileSystem: "tmpfs", ReadOnly: true}, Dir: stage.StoreDir, Unverified: env.Config.Unverified}
	if v.cache = cfg.Cache; v.cache != nil {
		if err := v.openCache(ctx, waiting, r, m, env, set); err != nil {
			return nil, err
		}
	} else {
		r.Record.Store = stage.Store{Device: set.Device.Path, FileSystem: set.Device.FileSystem}
	}
	r.Record.Store.Reference = cfg.URL
	set.Serial, err = stage.Do(ctx, r, stage.StepChoose, func(context.Context) (string, error) {
		why := "the default of " + cfg.URL
		if env.Config.Deployment != "" {
			why = "asked for on the command line"
		}
		r.Record.Deployment = stage.Deployment{Serial: serial, Why: why}
		return serial, nil
	})
	if err != nil {
		return nil, err
	}
	set.Manifest, err = stage.Do(ctx, r, stage.StepCheckManifest, func(ctx context.Context) (images.Manifest, error) {
		dir := images.DeploymentPath(serial) + "/"
		if v.text, err = read(ctx, dir+images.ManifestName, images.MaxManifest); err != nil {
			return images.Manifest{}, err
		}
		if !env.Paper && !env.Config.Unverified {
			if v.sig, err = read(ctx, dir+images.SignatureName, images.MaxSignature); err != nil {
				return images.Manifest{}, err
			}
		}
		man, err := stage.CheckManifest(r, serial, v.text, v.sig, *env)
		if err != nil {
			return man, fmt.Errorf("%s: %w", cfg.URL, err)
		}
		return man, nil
	})
	v.found = set
	return set, err
}

// reach brings up the network, and asks the server what to boot.
func (v *Variant) reach(ctx context.Context, r *stage.Runner, m stage.Machine, cfg network.Config, env *stage.Env, read reader) (string, error) {
	if env.Paper {
		r.Detailf("%s", plan(cfg))
	} else {
		link, err := v.Up(ctx, m, cfg, func(line string) { r.Detailf("%s", line) })
		if err != nil {
			return "", err
		}
		r.Noticef("%s", link.Says)
		r.Record.Network = link.Says
		v.client.Dial = dialer(link.DNS)
	}
	if env.Config.Deployment != "" {
		return env.Config.Deployment, nil
	}
	text, err := read(ctx, images.DefaultPath(), maxDefault)
	if err != nil {
		return "", err
	}
	serial := strings.TrimSuffix(string(text), "\n")
	if err := boot.CheckSerial(serial); err != nil {
		return "", fmt.Errorf("%s%s: %w: %w; is that the directory of a store?", cfg.URL, images.DefaultPath(), ErrRefused, err)
	}
	return serial, nil
}

// dialer connects by the names of a network's own servers, whatever a resolv.conf of the initramfs says.
func dialer(servers []netip.Addr) func(ctx context.Context, network, address string) (net.Conn, error) {
	next := 0
	var plain net.Dialer
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, proto, _ string) (net.Conn, error) {
		if len(servers) == 0 {
			return nil, errors.New("no DNS server is known: name one with nameserver=, or write the address of the host")
		}
		server := servers[next%len(servers)]
		next++ // a resolver asks one question at a time
		return plain.DialContext(ctx, proto, netip.AddrPortFrom(server, 53).String())
	}}
	return (&net.Dialer{Resolver: resolver, KeepAlive: 15 * time.Second}).DialContext
}

type reader func(ctx context.Context, name string, limit int64) ([]byte, error)

// paper reads from the machine of paper, which has what it is given.
func (v *Variant) paper(m stage.Machine) reader {
	return func(_ context.Context, name string, _ int64) ([]byte, error) {
		return fs.ReadFile(m.Files(stage.StoreDir), name)
	}
}

// plan says what would be done of a network.
func plan(cfg network.Config) string {
	var steps []string
	for _, l := range cfg.Links {
		switch l.Method {
		case network.Off:
			steps = append(steps, "leave "+l.Whom()+" alone")
		case network.Static:
			steps = append(steps, fmt.Sprintf("give %s the address %s", l.Whom(), l.Address))
		default:
			steps = append(steps, fmt.Sprintf("set up %s by %s", l.Whom(), l.Method))
		}
	}
	if len(cfg.Links) == 0 {
		steps = append(steps, "set up any interface by dhcp")
	}
	if cfg.BootIF != (network.MAC{}) {
		steps = append(steps, "of them only "+cfg.BootIF.String())
	}
	return strings.Join(steps, ", ") + "; fetch from " + cfg.URL
}
