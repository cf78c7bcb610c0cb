package installed

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// loader is the menu of systemd-boot: files as the Boot Loader Specification has them, in a directory where its partition is mounted.
type loader struct{ dir string }

// entries are where the files of the menu lie.
const entries = "loader/entries"

func (l loader) entry(release string) string {
	return filepath.Join(l.dir, entries, "veneer-"+release+".conf")
}

func (l loader) image(release string) string {
	return filepath.Join(l.dir, "veneer", release, "initramfs.img")
}

// template is the distribution's entry for a kernel.
func (l loader) template(release string) (string, error) {
	files, _ := filepath.Glob(globbed(filepath.Join(l.dir, entries)) + "/*.conf")
	for _, f := range files {
		if strings.HasPrefix(filepath.Base(f), "veneer-") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(text)) {
			if w := strings.Fields(line); len(w) == 2 && w[0] == "version" && w[1] == release {
				return string(text), nil
			}
		}
	}
	return "", fmt.Errorf("%s has no entry for kernel %s, which this one would be made after: run kernel-install add %s /boot/vmlinuz-%s",
		filepath.Join(l.dir, entries), release, release, release)
}

func (l loader) ready(release string) error {
	text, err := l.template(release)
	if err == nil && !strings.Contains("\n"+text, "\nsort-key") {
		err = fmt.Errorf("the entry of kernel %s has no sort-key, so that one beside it would come first in the menu, and boot on its own; "+
			"add \"sort-key debian\" to it", release)
	}
	return err
}

func (l loader) add(s Spec, image []byte, all *changes) error {
	text, err := l.template(s.Release)
	if err != nil {
		return err
	}
	var b strings.Builder
	var initrds []string
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) < 2 {
			continue
		}
		switch w[0] {
		case "title":
			fmt.Fprintf(&b, "title %s under an overlay (Veneer)\n", strings.Join(w[1:], " "))
		case "sort-key": // behind the distribution's own
			fmt.Fprintf(&b, "sort-key %s-veneer\n", w[1])
		case "options":
			fmt.Fprintf(&b, "options %s %s\n", strings.Join(w[1:], " "), s.words())
		case "initrd":
			initrds = append(initrds, w[1])
		case "version", "machine-id", "architecture", "linux", "devicetree":
			fmt.Fprintf(&b, "%s %s\n", w[0], strings.Join(w[1:], " "))
		}
	}
	if len(initrds) > 1 { // what comes before the last is microcode
		for _, i := range initrds[:len(initrds)-1] {
			fmt.Fprintf(&b, "initrd %s\n", i)
		}
	}
	fmt.Fprintf(&b, "initrd /veneer/%s/initramfs.img\n", s.Release)
	*all = append(*all, change{path: l.image(s.Release), content: image, mode: 0o644},
		change{path: l.entry(s.Release), content: []byte(b.String()), mode: 0o644})
	return nil
}

func (l loader) remove(release string, all *changes) error {
	found := []string{release}
	if release == "" {
		found = nil
		for _, pattern := range []string{l.entry("*"), l.image("*")} {
			pattern = globbed(l.dir) + strings.TrimPrefix(pattern, l.dir)
			files, _ := filepath.Glob(pattern)
			for _, f := range files {
				name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "veneer-"), ".conf")
				if filepath.Base(f) == "initramfs.img" {
					name = filepath.Base(filepath.Dir(f))
				}
				found = append(found, name)
			}
		}
	}
	seen := map[string]bool{}
	for _, r := range found {
		if !seen[r] {
			seen[r] = true
			*all = append(*all, change{path: l.entry(r)}, change{path: l.image(r), dirs: 2})
		}
	}
	return nil
}
