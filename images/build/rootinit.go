package build

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// initPaths are where a machine looks for the init of its merged root; overlay.CheckRoot has the same list.
var initPaths = []string{"/sbin/init", "/usr/lib/systemd/systemd", "/etc/init", "/bin/init"}

// maxProgram bounds what is read of an init. A larger one is left to the machine to judge.
const maxProgram = 64 << 20

// checkInit finds the init in the root that the base and the layers make together: a machine that has none fails at its
// first boot, where nobody may be near.
func (b *builder) checkInit() error {
	s := b.stack()
	if s == nil {
		return nil
	}
	b.init = ""
	var errs []error
	for _, p := range initPaths {
		arch, err := s.runnable(p, 0)
		if err == nil {
			b.init, b.initArch = p, arch
			return nil
		}
		errs = append(errs, err)
	}
	base := b.jobs[0]
	if slices.Contains(b.spec.Config.Allow.Losses, LossInit) {
		base.losses = append(base.losses, LossReport{LossInit, losses[LossInit].kept, 1, []string{errs[0].Error()}})
		return nil
	}
	return fmt.Errorf("%s has no init that could run:\n  %s\n    -> %s; or accept that %s: add %q to allow.losses", s.name(),
		strings.ReplaceAll(errors.Join(errs...).Error(), "\n", "\n  "), base.tree.initRemedy(), losses[LossInit].kept, LossInit)
}

// checkInitArch compares the init with the kernel that is to run it.
func (b *builder) checkInitArch() error {
	if b.initArch == "" || b.initArch == b.kernel.Arch {
		return nil
	}
	return fmt.Errorf("%s is a program for %s, and kernel %s is for %s: name a kernel of that architecture in kernel.from, or build from the tree for this one",
		b.init, b.initArch, b.kernel.Release, b.kernel.Arch)
}

// initRemedy guesses what went wrong with a tree without an init.
func (t *Tree) initRemedy() string {
	dir := ""
	for _, e := range t.Entries {
		for _, p := range initPaths {
			if d, ok := strings.CutSuffix(e.Path, p); ok && (dir == "" || len(d) < len(dir)) {
				dir = d
			}
		}
	}
	switch _, archive := t.content.(tarSource); {
	case dir == "usr":
		return "a system with all programs in /usr needs the links sbin -> usr/sbin, bin -> usr/bin and lib -> usr/lib in its root"
	case dir != "" && archive:
		return fmt.Sprintf("the tree seems to be in the directory %s of the archive: make the archive from inside that directory, with tar -C %[1]s -cf tree.tar .", quotePath(dir))
	case dir != "":
		return fmt.Sprintf("the tree seems to be in the directory %s: name that as the source", quotePath(dir))
	}
	return losses[LossInit].remedy
}

// stack is the trees of the base and the layers; nil where the scan of one has failed.
func (b *builder) stack() stack {
	var s stack
	for _, j := range slices.Backward(b.jobs) {
		if j.tree == nil || j.tree.content == nil {
			return nil
		}
		s = append(s, j.tree)
	}
	return s
}

// stack is a merged root as the machine will see it: the trees of its images, the topmost first.
type stack []*Tree

func (s stack) name() string {
	if len(s) == 1 {
		return s[0].Source
	}
	var layers []string
	for _, t := range s[:len(s)-1] {
		layers = append(layers, t.Source)
	}
	slices.Reverse(layers)
	return s[len(s)-1].Source + ", with the layers " + strings.Join(layers, ", ") + ","
}

// lookup finds what an overlay of the trees shows at a path on whose way there are no links.
func (s stack) lookup(p string) (*Tree, *Entry) {
	for _, t := range s {
		if e := t.lookup(p); e != nil {
			if e.kind() == unix.S_IFCHR && e.Major == 0 && e.Minor == 0 { // a whiteout
				return nil, nil
			}
			return t, e
		}
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if e := t.lookup(dir); e != nil && (!e.isDir() || e.opaque()) { // hides what lies below it
				return nil, nil
			}
		}
	}
	return nil, nil
}

// opaque reports whether overlayfs shows nothing of the directories below this one.
func (e *Entry) opaque() bool {
	return slices.ContainsFunc(e.Xattrs, func(x Xattr) bool { return x.Name == "trusted.overlay.opaque" && string(x.Value) == "y" })
}

// resolve finds the file that a path leads to, with links followed as they are where the tree is the root.
func (s stack) resolve(p string) (*Tree, *Entry, error) {
	fail := func(err error) (*Tree, *Entry, error) { return nil, nil, fmt.Errorf("%s: %w", quotePath(p), err) }
	at, rest := "", strings.Split(p, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		next := strings.TrimPrefix(path.Join("/", at, name), "/") // .. of the root is the root
		if name == "" || name == "." || name == ".." {
			at = next
			continue
		}
		t, e := s.lookup(next)
		switch {
		case e == nil:
			return fail(fs.ErrNotExist)
		case e.isDir():
			at = next
		case e.kind() == unix.S_IFLNK:
			if links++; links > 40 {
				return fail(unix.ELOOP)
			}
			if strings.HasPrefix(e.Target, "/") {
				at = ""
			}
			rest = append(strings.Split(e.Target, "/"), rest...)
		case len(rest) > 0:
			return fail(unix.ENOTDIR)
		default:
			return t, e, nil
		}
	}
	return fail(errors.New("is a directory"))
}

// runnable checks the program at p, and the interpreters that it asks for, as overlay.CheckRoot will do on the machine. It
// returns the architecture of the program, or "" where that cannot be told.
func (s stack) runnable(p string, depth int) (arch string, err error) {
	t, e, err := s.resolve(p)
	switch {
	case err != nil:
		return "", err
	case e.kind() != unix.S_IFREG:
		return "", fmt.Errorf("%s is not a regular file", quotePath(p))
	case e.Mode&0o111 == 0:
		return "", fmt.Errorf("%s is not executable (mode %04o)", quotePath(p), e.Mode&0o7777)
	case e.Size > maxProgram:
		return "", nil
	}
	var content []byte
	err = t.read(e, func(r io.Reader) error {
		content, err = io.ReadAll(r)
		return err
	})
	if err != nil {
		return "", err
	}
	arch, interpreter, err := programOf(content)
	if err != nil {
		return "", fmt.Errorf("%s cannot be run: %w", quotePath(p), err)
	}
	if interpreter != "" && depth < 2 {
		needed, err := s.runnable(interpreter, depth+1)
		switch {
		case err != nil:
			return "", fmt.Errorf("%s needs %s: %w", quotePath(p), quotePath(interpreter), err)
		case arch == "":
			arch = needed
		}
	}
	return arch, nil
}

// architectures are Go's names of the machines of ELF programs.
var architectures = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}

// programOf tells the architecture of a program, unless it is a script, and the interpreter that it asks for.
func programOf(content []byte) (arch, interpreter string, err error) {
	if script, ok := bytes.CutPrefix(content, []byte("#!")); ok {
		if fields := strings.Fields(string(firstLine(script))); len(fields) > 0 && strings.HasPrefix(fields[0], "/") {
			return "", fields[0], nil
		}
		return "", "", errors.New("script whose first line names no interpreter")
	}
	if !bytes.HasPrefix(content, []byte(elf.ELFMAG)) {
		return "", "", errors.New("neither an ELF program nor a script")
	}
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return "", "", err
	}
	arch, ok := architectures[f.Machine]
	if !ok || f.Class != elf.ELFCLASS64 {
		return "", "", fmt.Errorf("%s program for %s: want one for amd64 or arm64", f.Class, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			text, err := io.ReadAll(p.Open())
			return arch, strings.TrimRight(string(text), "\x00"), err
		}
	}
	return arch, "", nil
}
