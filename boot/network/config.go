package network

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"veneer/boot"
)

// Config is what a command line says of the network and of a store that is reached over it.
type Config struct {
	URL     string         // veneer.url=: where the store is, with a slash at its end; empty: on a local device
	Cache   *boot.StoreRef // veneer.cache=: the store on a disk that what was fetched is kept in; nil: in memory
	Links   []Link         // ip=; empty: DHCP on any
	BootIF  MAC            // BOOTIF=; zero: any
	Servers []netip.Addr   // nameserver=, before those of a lease
}

// maxServers is what resolvers take.
const maxServers = 3

// Parse reads parameters, NAME=VALUE, the last of those that cannot stand twice; all mistakes at once.
func Parse(words []string) (Config, error) {
	var c Config
	var errs []error
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		if _, err := c.Set(name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s=: %w", name, err))
		}
	}
	return c, errors.Join(append(errs, c.Check())...)
}

// Set takes in one parameter. It reports whether the name is one of this package's.
func (c *Config) Set(name, value string) (ours bool, err error) {
	switch name {
	case "veneer.url":
		if c.URL = ""; value != "" { // without a value it takes back what the initramfs says
			c.URL, err = ParseURL(value)
		}
	case "veneer.cache":
		var ref boot.StoreRef
		if ref, err = boot.ParseStoreRef(value); err == nil {
			c.Cache = &ref
		}
	case "ip":
		var l Link
		if l, err = ParseIP(value); err == nil {
			c.Links = append(c.Links, l)
		}
	case "BOOTIF":
		c.BootIF, err = ParseBOOTIF(value)
	case "nameserver":
		var a netip.Addr
		if a, err = parseAddr(value); err == nil && a.IsValid() {
			c.Servers = append(c.Servers, a)
		} else if err == nil {
			err = errors.New("want the address of a DNS server")
		}
	case "rd.neednet": // it is needed where veneer.url= is given, and nowhere else
	default:
		return false, nil
	}
	return true, err
}

// Check reports what contradicts itself.
func (c Config) Check() error {
	if c.URL == "" {
		if c.Cache != nil {
			return errors.New("veneer.cache= keeps what veneer.url= names, and there is none")
		}
		return nil
	}
	if len(c.Links) > 0 && !slices.ContainsFunc(c.Links, func(l Link) bool { return l.Method != Off }) {
		return errors.New("ip=off leaves the network alone, and veneer.url= needs one: give ip=dhcp, or an address")
	}
	if len(c.Servers) > maxServers {
		return fmt.Errorf("nameserver= was given %d times, the most is %d", len(c.Servers), maxServers)
	}
	for i, l := range c.Links {
		for _, o := range c.Links[:i] {
			if l.Device == o.Device && l.MAC == o.MAC && (l.Method == o.Method || l.Method == Off || o.Method == Off) {
				return fmt.Errorf("ip= was given twice for %s", l.Whom())
			}
		}
	}
	return nil
}

// Whom names the interface of a link for people.
func (l Link) Whom() string {
	switch {
	case l.Device != "":
		return l.Device
	case l.MAC != (MAC{}):
		return l.MAC.String()
	}
	return "any interface"
}

// maxURL bounds the address of a store.
const maxURL = 2 << 10

// ParseURL reads the address of a store: http://HOST[:PORT]/PATH/. The slash at its end may be missing.
func ParseURL(s string) (string, error) {
	if len(s) > maxURL {
		return "", fmt.Errorf("an address of %d bytes is longer than %d", len(s), maxURL)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%q is no address: want http://HOST/PATH/", s)
	case u.Scheme == "https":
		return "", fmt.Errorf("%q: https is not supported, and http is enough: what is fetched is verified by the keys of the initramfs", s)
	case u.Scheme != "http" || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return "", fmt.Errorf("%q is no address: want http://HOST/PATH/", s)
	case u.User != nil:
		return "", fmt.Errorf("%q holds a name or a password, which anybody could read on the command line; it is not supported", u.Redacted())
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		return "", fmt.Errorf("%q: the address of a directory has neither ? nor #", s)
	}
	if !strings.HasSuffix(s, "/") {
		s += "/"
	}
	return s, nil
}
