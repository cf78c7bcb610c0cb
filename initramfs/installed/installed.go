// Package installed puts an initramfs beside the one of an installed system, with an entry in its boot menu that boots the
// system's root under an overlay.
//
// It guarantees that nothing of the distribution's is changed: its entries, kernels and initramfs stay as they are, and what is
// added has names of its own, or lies between two marks in a file that is there for additions (GRUB's custom.cfg). Each file appears
// whole, by rename, the menu last. Remove leaves what was there before, byte for byte.
package installed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"veneer/initramfs"
)

// Spec says what to add.
type Spec struct {
	Root    string // of the system: "/", or where it is mounted
	Release string // of the kernel; with Remove "" is all of them
	Device  string // what veneer.root= says; "" is what /etc/fstab says of /
	Append  string // for the kernel command line, behind the distribution's
	Shell   bool   // a rescue shell
	Command string // the veneer command that the hooks of kernel packages run; "" makes no hooks
	DryRun  bool
	Level   int // of compression; 0 is quickLevel
}

// quickLevel of zstd takes a fifth of the time that the best takes: kernels are installed while somebody waits.
const quickLevel = 9

// Report is what was done, or is to be done.
type Report struct {
	Release string   `json:"release"`
	Device  string   `json:"device"`            // what veneer.root= says
	Drivers []string `json:"drivers"`           // of the disk that the root is on, as the running machine has them
	Size    int64    `json:"size"`              // of the initramfs
	Changes []string `json:"changes"`           // files, in order
	Notes   []string `json:"notes"`             // what there is to know
	DryRun  bool     `json:"dry-run,omitempty"` // nothing was changed
}

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	var b bytes.Buffer
	did := ""
	if r.DryRun {
		did = "would "
	}
	if r.Device != "" {
		fmt.Fprintf(&b, "kernel   %s\nroot     %s\n", r.Release, r.Device)
		drivers := strings.Join(r.Drivers, ", ")
		if drivers == "" {
			drivers = "not known here: the generic set"
		}
		fmt.Fprintf(&b, "drivers  %s\nsize     %.1f MB\n", drivers, float64(r.Size)/1e6)
	}
	for _, c := range r.Changes {
		fmt.Fprintf(&b, "%s%s\n", did, c)
	}
	if len(r.Changes) == 0 {
		b.WriteString("nothing to do\n")
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Add builds the initramfs for a kernel and puts it into the boot menus of the system, in place of a former one.
func Add(ctx context.Context, s Spec) (Report, error) {
	r := Report{Release: s.Release, DryRun: s.DryRun, Changes: []string{}, Notes: []string{}}
	if err := errors.Join(s.checkWords(), s.protected()); err != nil {
		return r, err
	}
	menus, err := menusOf(s.Root)
	if err != nil {
		return r, err
	}
	// What is wrong with a menu is told before the minute that the modules take.
	for _, m := range menus {
		if err := m.ready(s.Release); err != nil {
			return r, err
		}
	}
	if len(menus) == 0 {
		return r, fmt.Errorf("neither GRUB (/boot/grub/grub.cfg) nor systemd-boot (loader/entries) was found below %s: write the initramfs with -o FILE, "+
			"and give your boot loader an entry with the kernel and options of the system's own, that initramfs, and %s", s.Root, s.words())
	}
	image, err := Image(ctx, s, &r)
	if err != nil {
		return r, err
	}
	var all changes
	for _, m := range menus {
		if err := m.add(s, image, &all); err != nil {
			return r, err
		}
	}
	all = append(all, s.hooks()...)
	return r, all.carryOut(&r)
}

// Remove takes away what Add put there: for one kernel, or everything.
func Remove(s Spec) (Report, error) {
	r := Report{Release: s.Release, DryRun: s.DryRun, Changes: []string{}, Notes: []string{}}
	if err := s.protected(); err != nil {
		return r, err
	}
	menus, err := menusOf(s.Root)
	if err != nil {
		return r, err
	}
	var all changes
	if s.Release == "" {
		for _, h := range hookFiles {
			all = append(all, change{path: filepath.Join(s.Root, h)})
		}
	}
	for _, m := range menus {
		if err := m.remove(s.Release, &all); err != nil {
			return r, err
		}
	}
	return r, all.carryOut(&r)
}

// Image builds the initramfs, and fills in what it found of the system.
func Image(ctx context.Context, s Spec, r *Report) ([]byte, error) {
	root, err := rootOf(s)
	if err != nil {
		return nil, err
	}
	r.Device, r.Release = root.ref, s.Release
	kernel, err := initramfs.OpenKernelImage(filepath.Join(s.Root, "boot/vmlinuz-"+s.Release), filepath.Join(s.Root, "lib/modules", s.Release))
	if err != nil {
		return nil, fmt.Errorf("%w; the kernels of this system: %s", err, strings.Join(Kernels(s.Root), ", "))
	}
	defer kernel.Close()
	named := []string{}
	for _, driver := range append(root.drivers, root.fsType) {
		if file, builtin := kernel.Has(driver); file && !builtin {
			named = append(named, driver)
		} else if !builtin {
			return nil, fmt.Errorf("kernel %s has no module %s, which the root of this machine needs: install its modules package", s.Release, driver)
		}
	}
	r.Drivers = root.drivers
	var b bytes.Buffer
	report, err := initramfs.Build(ctx, &b, initramfs.Spec{
		Kernel: kernel, Variant: initramfs.Live, AllowUnsigned: true, RescueShell: s.Shell, Level: cmp.Or(s.Level, quickLevel),
		Policy:   initramfs.Policy{Kind: initramfs.Generic, Modules: named},
		Defaults: "veneer.root=" + quoted(root.ref) + " veneer.on-fail=reboot",
	})
	if err != nil {
		return nil, err
	}
	r.Size = report.Compressed
	r.Notes = append(r.Notes, root.notes...)
	return b.Bytes(), nil
}

// quoted is a word of the kernel command line.
func quoted(word string) string {
	if strings.ContainsAny(word, " \t") {
		return `"` + word + `"`
	}
	return word
}

// words are what the entry adds to the distribution's options.
func (s Spec) words() string {
	if strings.Contains(" "+s.Append, " veneer.upper=") || strings.Contains(" "+s.Append, " overlayroot=") {
		return s.Append
	}
	return strings.TrimSpace("veneer.upper=tmpfs " + s.Append)
}

// Kernels lists the kernels of a system, the newest last.
func Kernels(root string) []string {
	files, _ := filepath.Glob(filepath.Join(globbed(root), "boot/vmlinuz-*"))
	var all []string
	for _, f := range files {
		all = append(all, strings.TrimPrefix(filepath.Base(f), "vmlinuz-"))
	}
	slices.SortFunc(all, compareVersions)
	return all
}

// compareVersions compares runs of digits as numbers.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		x, y := leading(a), leading(b)
		if x != "" && y != "" {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := len(x) - len(y); c != 0 {
				return c
			}
			if c := strings.Compare(x, y); c != 0 {
				return c
			}
			a, b = a[len(leading(a)):], b[len(leading(b)):]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

// leading is the run of digits that s begins with.
func leading(s string) string {
	return s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
}

// globbed protects a directory that is part of a pattern.
func globbed(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// menu is the menu of a boot loader.
type menu interface {
	// ready reports why no entry can be added for a kernel.
	ready(release string) error
	// add appends what makes the entry, the menu's own file last.
	add(s Spec, image []byte, all *changes) error
	// remove appends what takes entries away, the menu's own file first.
	remove(release string, all *changes) error
}

func menusOf(root string) ([]menu, error) {
	var menus []menu
	if _, err := os.Stat(filepath.Join(root, grubConfig)); err == nil {
		menus = append(menus, grub{root})
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, dir := range []string{"efi", "boot/efi", "boot"} {
		if entries, _ := filepath.Glob(filepath.Join(globbed(root), dir, "loader/entries/*.conf")); len(entries) > 0 {
			menus = append(menus, loader{filepath.Join(root, dir)})
		}
	}
	return menus, nil
}
