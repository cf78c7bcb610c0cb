package build

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"veneer/boot"
	"veneer/images"
	"veneer/initramfs"
	"veneer/overlay/identity"
	"veneer/overlay/rule"
)

// check reports each value that is wrong, with its key.
func (c *Config) check(bad func(key, format string, args ...any)) {
	for _, f := range []struct{ key, value string }{{"name", c.Name}, {"version", c.Version}} {
		if err := checkWord(f.value); err != nil {
			bad(f.key, "%w", err)
		}
	}
	if c.Source == "" {
		bad("source", "missing: name the root file system tree, a directory or a tar archive")
	}
	if c.Architecture != "" && c.Architecture != "amd64" && c.Architecture != "arm64" {
		bad("architecture", "%q is neither amd64 nor arm64", c.Architecture)
	}
	switch c.Corruption {
	case images.EIO, images.Restart, images.Panic:
	default:
		bad("corruption", "%q is none of eio, restart, panic", c.Corruption)
	}
	if ref, err := boot.ParseStoreRef(c.Store); err != nil {
		bad("store", "%w", err)
	} else if said, err := boot.ParseCmdline(boot.Config{}, "veneer.store="+quoteWord(c.Store)); err != nil || said.Store != ref || strings.ContainsAny(c.Store, "\r\n") {
		bad("store", "%q cannot be said on a kernel command line", c.Store)
	}
	if c.Wait != "" {
		if _, err := boot.ParseCmdline(boot.Config{}, "veneer.wait="+quoteWord(c.Wait)); err != nil || strings.ContainsAny(c.Wait, "\" \t\r\n") {
			bad("wait", "%q is no time: want seconds, or a number with its unit, such as 500ms or 2m", c.Wait)
		}
	}
	c.checkMedia(bad)
	c.checkFileSystem(bad)
	c.checkKernel(bad)
	c.checkRoot(bad)
	c.checkVariant(bad)
	c.checkKeys(bad)
	c.checkTrust(bad)
	checkLosses("allow.losses", c.Allow.Losses, bad)
	c.checkIdentity(bad)
	c.checkLayers(bad)
	c.checkState(bad)
}

func (c *Config) checkFileSystem(bad func(key, format string, args ...any)) {
	fs := &c.FileSystem
	least, most, levels := 4<<10, 1<<20, 22
	switch fs.Type {
	case Squashfs:
		fs.blockSize = 128 << 10
	case Erofs:
		fs.blockSize, levels = 64<<10, 12
	default:
		bad("filesystem.type", "%q is neither squashfs nor erofs", fs.Type)
		return
	}
	if fs.BlockSize != "" {
		n, ok := parseBlockSize(fs.BlockSize)
		if !ok || n < least || n > most || n&(n-1) != 0 {
			bad("filesystem.block-size", "%q is not a power of two from 4K to 1M", fs.BlockSize)
		}
		fs.blockSize = n
	}
	if fs.Level < 0 || fs.Level > levels {
		bad("filesystem.level", "%d: the levels for %s are 1 to %d, and 0 for the default", fs.Level, fs.Type, levels)
	}
}

func (c *Config) checkKernel(bad func(key, format string, args ...any)) {
	k := c.Kernel
	if k.From == "" {
		bad("kernel.from", `want "tree", a kernel image or a linux-image .deb`)
	}
	if k.ModulesDir != "" && (k.From == FromTree || strings.HasSuffix(k.From, ".deb")) {
		bad("kernel.modules-dir", "the kernel from %q brings its own modules", k.From)
	}
	switch k.Modules.Policy {
	case "generic":
		if len(k.Modules.List) > 0 {
			bad("kernel.modules.list", `is for policy = "list"`)
		}
	case "list":
	default:
		bad("kernel.modules.policy", "%q is neither generic nor list", k.Modules.Policy)
	}
}

func (c *Config) checkRoot(bad func(key, format string, args ...any)) {
	switch boot.UpperKind(c.Root.Upper) {
	case boot.UpperTmpfs:
	case boot.UpperPersistent:
		if !c.hasState() {
			bad("root.upper", "%q needs a place to be kept in: declare state.place", c.Root.Upper)
		}
	default:
		bad("root.upper", "%q is neither tmpfs nor persistent", c.Root.Upper)
	}
	if _, err := boot.ParseSize(c.Root.Size); err != nil {
		bad("root.size", "%w", err)
	}
	if _, err := boot.ParseOnFail(c.Root.OnFail); err != nil {
		bad("root.on-fail", "%w", err)
	} else if c.Root.OnFail == string(boot.Shell) && !c.RescueShell {
		bad("root.on-fail", "shell needs rescue-shell = true: without it there is no shell to open")
	}
	switch c.Root.BaseChange {
	case "", rule.MergeChange, rule.Keep, rule.Quarantine, rule.Reset:
		if c.Root.BaseChange != "" && c.Root.Upper != string(boot.UpperPersistent) {
			bad("root.base-change", "is for root.upper = \"persistent\": a tmpfs never meets another base")
		}
	default:
		bad("root.base-change", "%q is none of merge, keep, quarantine, reset", c.Root.BaseChange)
	}
}

func (c *Config) checkVariant(bad func(key, format string, args ...any)) {
	if c.Variant != "" && !slices.Contains(initramfs.Variants, c.Variant) {
		bad("variant", "%q is none of local, live, net", c.Variant)
	} else if c.has(OutputNetboot) && c.variant() != initramfs.Net {
		bad("variant", "%q cannot boot the output \"netboot\": leave it out, or set \"net\"", c.Variant)
	}
	if len(c.Pins) > 0 && c.Variant == initramfs.Local {
		bad("pins", "pin images of others, and variant = \"local\" boots none: want live or net")
	}
	if len(c.Pins) > initramfs.MaxPins {
		bad("pins", "%d of them, more than %d", len(c.Pins), initramfs.MaxPins)
	}
	for i, pin := range c.Pins {
		if err := initramfs.CheckPin(pin); err != nil {
			bad(fmt.Sprintf("pins[%d]", i), "%v", err)
		}
	}
	for _, said := range c.liveDefaults() {
		if _, err := boot.ParseCmdline(boot.Config{}, said.word); err != nil || strings.ContainsAny(said.word, "\" \t\r\n") {
			bad(said.key, "%q: want %s", said.value, said.want)
		}
	}
	if c.Variant == initramfs.Local && c.wantsLive() {
		bad("variant", "\"local\" has neither root.toram nor root.medium-lost: say \"live\", or nothing")
	}
}

// liveDefault is a key that becomes a default of the kernel command line.
type liveDefault struct{ key, value, word, want string }

func (c Config) liveDefaults() (all []liveDefault) {
	if v := c.Root.ToRAM; v != "" {
		all = append(all, liveDefault{"root.toram", v, "veneer.toram=" + v, "auto, yes or no, and perhaps ,eject"})
	}
	if v := string(c.Root.MediumLost); v != "" {
		all = append(all, liveDefault{"root.medium-lost", v, "veneer.medium-lost=" + v, "ignore, poweroff or reboot"})
	}
	return all
}

func (c *Config) checkKeys(bad func(key, format string, args ...any)) {
	if c.Keys.Secret == "" && !c.AllowUnsigned {
		bad("keys.secret", "missing: make a key with 'veneer keygen' and name it here (or set allow-unsigned = true, for a machine that checks nothing)")
	}
	seen := map[string]bool{}
	for i, path := range c.Keys.Trusted {
		key := fmt.Sprintf("keys.trusted[%d]", i)
		name := keyName(path)
		switch {
		case path == "":
			bad(key, "is empty")
		case seen[name]:
			bad(key, "two keys named %q: rename one file", name)
		}
		seen[name] = true
	}
}

func (c *Config) checkIdentity(bad func(key, format string, args ...any)) {
	for _, s := range c.Identity.settings() {
		if s.Mode == "" {
			continue
		}
		if err := identity.Check(s, c.hasState()); err != nil {
			bad("identity."+s.Name, "%w", err)
		}
	}
	for i, kind := range c.Identity.Allow {
		if _, ok := baked[kind]; !ok {
			bad(fmt.Sprintf("identity.allow[%d]", i), "%q is none of what is looked for: %s", kind, strings.Join(bakedNames(), ", "))
		}
	}
}

func (c *Config) checkLayers(bad func(key, format string, args ...any)) {
	seen := map[string]bool{toolsName: true, baseName: true}
	for i, l := range c.Layers {
		key := fmt.Sprintf("layers[%d]", i)
		if err := checkWord(l.Name); err != nil {
			bad(key+".name", "%w", err)
		} else if seen[l.Name] {
			bad(key+".name", "%q is taken", l.Name)
		}
		seen[l.Name] = true
		if l.Source == "" {
			bad(key+".source", "missing: name a directory or a tar archive")
		}
		checkLosses(key+".allow", l.Allow, bad)
	}
}

func checkLosses(key string, list []Loss, bad func(key, format string, args ...any)) {
	for i, l := range list {
		if _, ok := losses[l]; !ok {
			bad(fmt.Sprintf("%s[%d]", key, i), "%q is not a loss; those that can be allowed are %s", l, strings.Join(lossNames(), ", "))
		}
	}
}

// checkWord accepts what is safe in a file name, on a console and in a log line.
func checkWord(s string) error {
	switch {
	case s == "":
		return errors.New("missing")
	case len(s) > 255:
		return fmt.Errorf("%d bytes are more than 255", len(s))
	case strings.ContainsAny(s, `/\`) || s == "." || s == "..":
		return fmt.Errorf("%q: a slash, a backslash, . and .. are no names", s)
	}
	if strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) }) >= 0 {
		return fmt.Errorf("%q holds what cannot be printed", s)
	}
	return nil
}

func parseBlockSize(s string) (int, bool) {
	shift := 0
	if digits, ok := strings.CutSuffix(s, "K"); ok {
		s, shift = digits, 10
	} else if digits, ok := strings.CutSuffix(s, "M"); ok {
		s, shift = digits, 20
	}
	n, err := strconv.ParseUint(s, 10, 20)
	return int(n) << shift, err == nil
}

// quoteWord makes one word of a kernel command line of s, which holds no double quote.
func quoteWord(s string) string {
	if strings.ContainsAny(s, " \t\n\v\f\r") {
		return `"` + s + `"`
	}
	return s
}
