package installed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Where GRUB has its menu, and where an admin's own entries go, which the menu reads at its end (/etc/grub.d/41_custom). No
// generator runs over these, so that the menu cannot come to harm.
const (
	grubConfig = "boot/grub/grub.cfg"
	grubCustom = "boot/grub/custom.cfg"
)

// The marks around what is ours. The second form says that the file was not there before.
const (
	grubBegin = "### BEGIN veneer initramfs ###\n"
	grubMade  = "### BEGIN veneer initramfs (made this file) ###\n"
	grubEnd   = "### END veneer initramfs ###\n"
)

type grub struct{ root string }

func (g grub) image(release string) string {
	return filepath.Join(g.root, "boot/veneer-"+release+".img")
}

// releases are the kernels that have an initramfs of ours, the newest first.
func (g grub) releases() []string {
	files, _ := filepath.Glob(globbed(filepath.Join(g.root, "boot")) + "/veneer-*.img")
	var all []string
	for _, f := range files {
		all = append(all, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "veneer-"), ".img"))
	}
	slices.SortFunc(all, func(a, b string) int { return compareVersions(b, a) })
	return all
}

func (g grub) ready(release string) error {
	text, err := os.ReadFile(filepath.Join(g.root, grubConfig))
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), "custom.cfg") {
		return fmt.Errorf("%s does not read custom.cfg: have /etc/grub.d/41_custom executable, and run update-grub", grubConfig)
	}
	_, err = grubEntry(string(text), release)
	return err
}

// grubEntry is the lines between the braces of the menu's entry for a kernel, without indentation.
func grubEntry(text, release string) ([]string, error) {
	var body []string
	inside, fits := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "menuentry ") && strings.HasSuffix(line, "{"):
			inside, fits, body = true, false, nil
		case inside && line == "}":
			if inside = false; fits {
				return body, nil
			}
		case inside && line != "":
			w := strings.Fields(line)
			if strings.HasPrefix(w[0], "linux") && len(w) > 1 {
				fits = strings.HasSuffix(w[1], "/vmlinuz-"+release) && !slices.Contains(w, "single") && !slices.Contains(w, "recovery")
			}
			body = append(body, line)
		}
	}
	return nil, fmt.Errorf("%s has no entry for kernel %s, which this one would be made after: run update-grub", grubConfig, release)
}

func (g grub) add(s Spec, image []byte, all *changes) error {
	*all = append(*all, change{path: g.image(s.Release), content: image, mode: 0o644})
	releases := g.releases()
	if !slices.Contains(releases, s.Release) {
		releases = append(releases, s.Release)
		slices.SortFunc(releases, func(a, b string) int { return compareVersions(b, a) })
	}
	return g.write(releases, s.words(), all)
}

func (g grub) remove(release string, all *changes) error {
	var left, gone []string
	for _, r := range g.releases() {
		if release == "" || r == release {
			gone = append(gone, r)
		} else {
			left = append(left, r)
		}
	}
	if err := g.write(left, "", all); err != nil {
		return err
	}
	for _, r := range gone {
		*all = append(*all, change{path: g.image(r)})
	}
	return nil
}

// write brings custom.cfg up to date. The words of entries that are there already stay theirs.
func (g grub) write(releases []string, words string, all *changes) error {
	path := filepath.Join(g.root, grubCustom)
	old, err := os.ReadFile(path)
	missing := errors.Is(err, os.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	before, ours, after, made, err := grubParts(string(old))
	if err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(g.root, grubConfig))
	if err != nil {
		return err
	}
	if words == "" {
		words = wordsOf(ours)
	}
	var b strings.Builder
	n := 0
	for _, release := range releases {
		body, err := grubEntry(string(config), release)
		if err != nil {
			continue // a kernel that the menu has no more
		}
		id := "veneer"
		if n > 0 {
			id += "-" + release
		}
		n++
		fmt.Fprintf(&b, "menuentry 'Under an overlay (Veneer), with Linux %s' --class gnu-linux --class os $menuentry_id_option '%s' {\n", release, id)
		for _, line := range body {
			b.WriteString("\t" + grubLine(line, release, words) + "\n")
		}
		b.WriteString("}\n")
	}
	made = made || missing
	begin := grubBegin
	if made {
		begin = grubMade
	}
	content := before + after
	if n > 0 {
		content = before + begin + "# words: " + words + "\n" + b.String() + grubEnd + after
	}
	switch {
	case content == "" && (made || missing):
		*all = append(*all, change{path: path})
	default:
		*all = append(*all, change{path: path, content: []byte(content), mode: 0o644})
	}
	return nil
}

// grubLine is a line of the distribution's entry as ours has it.
func grubLine(line, release, words string) string {
	w := strings.Fields(line)
	switch {
	case strings.HasPrefix(w[0], "linux"):
		return line + " " + words
	case strings.HasPrefix(w[0], "initrd"):
		last := w[len(w)-1] // what comes before it is microcode
		return strings.TrimSuffix(line, last) + filepath.Dir(last) + "/veneer-" + release + ".img"
	}
	return line
}

// grubParts cuts custom.cfg at our marks.
func grubParts(text string) (before, ours, after string, made bool, err error) {
	at, mark := strings.Index(text, grubBegin), grubBegin
	if at < 0 {
		at, mark = strings.Index(text, grubMade), grubMade
	}
	if at < 0 {
		return text, "", "", false, nil
	}
	rest := text[at+len(mark):]
	end := strings.Index(rest, grubEnd)
	if end < 0 {
		return "", "", "", false, fmt.Errorf("%s: %q has no %q behind it: mend the file", grubCustom, strings.TrimSpace(mark), strings.TrimSpace(grubEnd))
	}
	return text[:at], rest[:end], rest[end+len(grubEnd):], mark == grubMade, nil
}

func wordsOf(ours string) string {
	line, _, _ := strings.Cut(ours, "\n")
	return strings.TrimPrefix(line, "# words: ")
}
