package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"veneer/images"
	"veneer/images/esp"
)

// renewal is how an EFI system partition is renewed, planned before anything is written.
type renewal struct {
	man     images.Manifest  // what is installed
	current *images.Manifest // what boots now; nil where nothing does
	out     string           // directory of the output
	files   esp.Files
	write   bool
	free    func() (free, cluster int64, err error) // in tests

	entries []entryOnESP // UKIs, in entryDir and as the first program
	menu    bool         // the first program is no UKI, but one that looks for entries
	first   bool         // there is a first program
	bios    []byte       // syslinux's configuration; nil where a BIOS starts nothing
	sets    []string     // directories of kernels and initramfs for a BIOS

	puts  []espPut
	moves [][2]string // renamed last
	done  Renewed
}

// entryOnESP is a UKI on the partition.
type entryOnESP struct {
	path    string
	name    esp.Name
	uki     UKIFile
	release map[string]string // its os-release
}

// espPut is a file to be written, and what becomes of the one in its place.
type espPut struct {
	name    string
	content []byte
	former  string
}

// look reads what is on the partition.
func (e *renewal) look() error {
	first := firstProgram(e.man.Architecture)
	names := []string{first}
	list, err := os.ReadDir(filepath.Join(e.files.Root, entryDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range list {
		if strings.EqualFold(path.Ext(f.Name()), ".efi") && f.Name()[0] != '.' {
			names = append(names, path.Join(entryDir, f.Name()))
		}
	}
	for _, name := range names {
		program, err := readSmall(filepath.Join(e.files.Root, name), maxUKI)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		e.first = e.first || name == first
		uki, err := readUKI(bytes.NewReader(program))
		if err != nil || !isUKI(program[:min(len(program), 4096)]) {
			e.menu = e.menu || name == first && bytes.Contains(program, []byte(menuMark))
			continue // another's, or one that is damaged and that nobody needs
		}
		e.entries = append(e.entries, entryOnESP{name, esp.ParseName(path.Base(name)), uki, parseOSRelease(uki.OSRelease)})
	}
	if _, err := os.Stat(filepath.Join(e.files.Root, "EFI/systemd/systemd-boot"+efiNames[e.man.Architecture]+".efi")); err == nil {
		e.menu = true
	}
	if e.bios, err = readSmall(filepath.Join(e.files.Root, biosConfig), maxCmdline*16); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, e.lookAtSets())
}

// menuMark is in every systemd-boot (systemd, src/boot: the section .sdmagic).
const menuMark = "#### LoaderInfo: systemd-boot"

// ours reports whether the partition starts the product that is installed.
func (e *renewal) ours() bool {
	for _, x := range e.entries {
		if e.isOurs(x) {
			return true
		}
	}
	_, found := parseBIOSConfig(e.bios)["veneer"]
	return found
}

func (e *renewal) isOurs(x entryOnESP) bool {
	return x.release["ID"] == "veneer" && x.release["IMAGE_ID"] == e.man.Name
}

// plan decides what is written, what it follows, and what makes room.
func (e *renewal) plan(ctx context.Context) error {
	if e.first || len(e.entries) > 0 || e.bios == nil {
		if err := e.planUKI(ctx); err != nil {
			return err
		}
	}
	if e.bios != nil {
		if err := e.planBIOS(); err != nil {
			return err
		}
	}
	for _, p := range e.puts {
		e.done.Wrote, e.done.Bytes = append(e.done.Wrote, p.name), e.done.Bytes+int64(len(p.content))
	}
	if len(e.puts) == 0 {
		return nil
	}
	return e.makeRoom()
}

// planUKI puts the UKI where firmware, or the menu, finds it.
func (e *renewal) planUKI(ctx context.Context) error {
	program, err := outputUKI(ctx, e.out)
	if err != nil {
		return err
	}
	uki, err := readUKI(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("the output's UKI: %w", err)
	}
	if !e.menu {
		return e.planFirst(program, uki)
	}
	tries, _ := strconv.Atoi(parseOSRelease(uki.OSRelease)[triesField]) // 0: not counted
	name := path.Join(entryDir, entryName(e.man, tries).String())
	stem := entryName(e.man, 0).Stem
	for _, x := range e.entries {
		if path.Dir(x.path) != entryDir {
			continue
		}
		same := slices.Equal(x.uki.Sections, uki.Sections) && x.uki.Signed == uki.Signed
		switch {
		case same && x.name.Stem == stem && x.name.Bad(): // it is to be tried anew
			e.moves = append(e.moves, [2]string{x.path, name})
			return nil
		case same && x.name.Stem == stem:
			return nil
		case x.name.Stem == stem: // another build of the same version
			former := path.Join(entryDir, stem+formerMark+".efi")
			if x.path == name {
				e.puts = append(e.puts, espPut{name, program, former})
			} else {
				e.puts = append(e.puts, espPut{name, program, ""})
				e.moves = append(e.moves, [2]string{x.path, former})
			}
			e.done.Former = append(e.done.Former, former)
			return nil
		}
	}
	e.puts = append(e.puts, espPut{name, program, ""})
	for _, x := range e.entries {
		if e.boots(x) {
			e.done.Former = append(e.done.Former, x.path)
		}
	}
	return nil
}

// formerMark is behind the name of a UKI that another one of the same version has followed: menus sort it behind that.
const formerMark = "~former"

// planFirst replaces the program that firmware starts by itself.
func (e *renewal) planFirst(program []byte, uki UKIFile) error {
	name := firstProgram(e.man.Architecture)
	for _, x := range e.entries {
		if x.path != name {
			continue
		}
		if slices.Equal(x.uki.Sections, uki.Sections) && x.uki.Signed == uki.Signed {
			return nil
		}
		if !e.isOurs(x) {
			return fmt.Errorf("%s is a UKI of %q, and not of %q: that of another product is not replaced", name, x.release["IMAGE_ID"], e.man.Name)
		}
		stem := fatName(x.release["IMAGE_ID"] + "-" + x.release["IMAGE_VERSION"])
		if stem == entryName(e.man, 0).Stem {
			stem += formerMark
		}
		former := path.Join(entryDir, stem+".efi")
		e.puts = append(e.puts, espPut{name, program, former})
		e.done.Former = append(e.done.Former, former)
		return nil
	}
	if e.first {
		return fmt.Errorf("%s is neither a UKI nor systemd-boot: that of another system is not replaced; make systemd-boot the first program (bootctl install), or --esp none", name)
	}
	e.puts = append(e.puts, espPut{name, program, ""})
	return nil
}

// planBIOS puts kernel and initramfs beside the others, and has the configuration point to them.
func (e *renewal) planBIOS() error {
	set, old := biosSetOf(e.man), parseBIOSConfig(e.bios)
	was, found := old["veneer"]
	if !found {
		return fmt.Errorf("%s has no label veneer: this boot loader was not set up by veneer; take it away, or --esp none", biosConfig)
	}
	set.cmdline = was.cmdline
	if u, err := readSmall(filepath.Join(e.out, outUKI), maxUKI); err == nil {
		uki, err := readUKI(bytes.NewReader(u))
		if err != nil {
			return err
		}
		set.cmdline = uki.Cmdline
	}
	if set == was {
		return nil
	}
	for name, from := range map[string]string{set.kernel: outKernel, set.initramfs: outInitramfs} {
		content, err := readSmall(filepath.Join(e.out, from), maxUKI)
		if err != nil {
			return err
		}
		e.puts = append(e.puts, espPut{name, content, ""})
	}
	slices.SortFunc(e.puts, func(a, b espPut) int { return publishOrder(a.name) - publishOrder(b.name) })
	e.done.Former = append(e.done.Former, path.Dir(was.kernel))
	e.puts = append(e.puts, espPut{biosConfig, set.config(&was), ""})
	return nil
}

// publishOrder orders what is published: what others point to comes first.
func publishOrder(name string) int {
	if strings.HasPrefix(name, biosDir+"/") {
		return 0
	}
	return 1
}

// boots reports whether a UKI has kernel and initramfs of the deployment that boots now.
func (e *renewal) boots(x entryOnESP) bool {
	return e.current != nil && x.uki.fits(*e.current) == nil
}

// makeRoom takes what nothing needs, the oldest first, until the new fits: never what boots now, never another's.
func (e *renewal) makeRoom() error {
	var idle []string
	kept := map[string]bool{path.Dir(biosSetOf(e.man).kernel): true}
	for _, s := range parseBIOSConfig(e.bios) {
		kept[path.Dir(s.kernel)] = true
	}
	for _, p := range e.puts {
		kept[p.name], kept[p.former] = true, true
	}
	for _, m := range e.moves {
		kept[m[0]], kept[m[1]] = true, true
	}
	for _, x := range e.entries {
		if path.Dir(x.path) == entryDir && e.isOurs(x) && !e.boots(x) && !kept[x.path] {
			idle = append(idle, x.path)
		}
	}
	for _, s := range e.sets {
		if !kept[s] && s != biosDir {
			idle = append(idle, s)
		}
	}
	age := func(name string) int64 {
		info, err := os.Stat(filepath.Join(e.files.Root, name))
		if err != nil {
			return 0
		}
		return info.ModTime().Unix()
	}
	slices.SortFunc(idle, func(a, b string) int { return int(age(a) - age(b)) })
	missing, err := e.room()
	for _, name := range idle {
		if err != nil || missing <= 0 {
			break
		}
		missing -= e.sizeOf(name)
		e.done.Removed = append(e.done.Removed, name)
	}
	if err == nil && missing > 0 {
		err = fmt.Errorf("%s more are needed on the EFI system partition, and what is there is in use: make room, or --esp none", FormatBytes(missing))
	}
	return err
}

// sizeOf is the room that a file, or a directory with its files, takes at least.
func (e *renewal) sizeOf(name string) (sum int64) {
	_ = filepath.WalkDir(filepath.Join(e.files.Root, name), func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

// parseOSRelease reads the fields of an os-release(5) as osRelease writes it.
func parseOSRelease(text string) map[string]string {
	fields := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		if len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
			value = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\$`, "$", "\\`", "`").Replace(value[1 : len(value)-1])
		}
		fields[name] = value
	}
	return fields
}

func joined(names []string) string { return strings.Join(names, ", ") }
