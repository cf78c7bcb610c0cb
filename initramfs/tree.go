package initramfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxModule bounds one module, unpacked. The largest of Debian's is 20 MB.
const maxModule = 256 << 20

// tree is a lib/modules/RELEASE directory. Files are read when a module is asked for, so that the other four thousand cost
// nothing but their names. modules.dep, modules.alias and modules.softdep are not read: depmod writes them from the very
// sections that are read here, and a package that has not been installed has none.
type tree struct {
	fsys         fs.FS
	release      string
	files        map[string]string   // canonical name -> path
	builtin      map[string]bool     // names of what is built into the kernel
	builtinAlias map[string][]string // alias -> names of built-in modules
	services     map[string][]string // crypto alias -> names of modules; nil until asked for
}

// module is a module file that was read.
type module struct {
	Modinfo
	path string
	data []byte // unpacked
}

// openTree lists the modules below fsys.
func openTree(fsys fs.FS, release string) (*tree, error) {
	t := &tree{fsys: fsys, release: release, files: map[string]string{}, builtin: map[string]bool{}, builtinAlias: map[string][]string{}}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() || !isModule(d.Name()) {
			return nil
		}
		mod := moduleName(d.Name())
		if old, ok := t.files[mod]; !ok || rank(name) < rank(old) {
			t.files[mod] = name
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	return t, errors.Join(t.readBuiltin(), t.readBuiltinModinfo())
}

// rank orders two files of one name as depmod.d(5) does: what an administrator put in updates or extra wins.
func rank(name string) int {
	dir, _, _ := strings.Cut(name, "/")
	switch dir {
	case "updates":
		return 0
	case "extra":
		return 1
	}
	return 2
}

func isModule(file string) bool {
	base, _, ok := strings.Cut(file, ".ko")
	return ok && isWord(base) && slices.Contains([]string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"}, file[len(base):])
}

func moduleName(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return canonical(base)
}

// readBuiltin reads modules.builtin, which lists the modules in the kernel image as if they were files.
func (t *tree) readBuiltin() error {
	text, err := fs.ReadFile(t.fsys, "modules.builtin")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if isModule(path.Base(lines.Text())) {
			t.builtin[moduleName(lines.Text())] = true
		}
	}
	return nil
}

// readBuiltinModinfo reads the aliases of built-in modules: NAME.alias=ALIAS, each ended by NUL.
func (t *tree) readBuiltinModinfo() error {
	text, err := fs.ReadFile(t.fsys, "modules.builtin.modinfo")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, field := range strings.Split(string(text), "\x00") {
		key, alias, _ := strings.Cut(field, "=")
		if name, ok := strings.CutSuffix(key, ".alias"); ok {
			t.builtinAlias[alias] = append(t.builtinAlias[alias], canonical(name))
		}
	}
	return nil
}

// read reads the module of that name, or returns nil if there is no such file.
func (t *tree) read(name string) (*module, error) {
	file, ok := t.files[name]
	if !ok {
		return nil, nil
	}
	f, err := t.fsys.Open(file)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", name, err)
	}
	defer f.Close()
	plain, err := decompress(f)
	if err != nil {
		return nil, fmt.Errorf("module %s: unpack %s: %w", name, file, err)
	}
	defer plain.Close()
	data, err := io.ReadAll(io.LimitReader(plain, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("module %s: read %s: %w", name, file, err)
	}
	if len(data) > maxModule {
		return nil, fmt.Errorf("module %s: %s is larger than %d bytes", name, file, maxModule)
	}
	info, err := ReadModinfo(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("module %s: %s: %w", name, file, err)
	}
	if info.Release != "" && info.Release != t.release {
		return nil, fmt.Errorf("module %s: %s was built for kernel %s, not for %s: the kernel would refuse it", name, file, info.Release, t.release)
	}
	return &module{Modinfo: info, path: file, data: data}, nil
}

// providers returns the built-in and the loadable modules that provide a service by an alias such as crypto-sha256. Only
// implementations that run on the CPU are considered, not those of accelerator cards.
func (t *tree) providers(alias string) (builtin, loadable []string, err error) {
	if t.services == nil {
		t.services = map[string][]string{}
		for name, file := range t.files {
			if !onCPU(file) {
				continue
			}
			m, err := t.read(name)
			if err != nil {
				return nil, nil, err
			}
			for _, a := range m.Aliases {
				t.services[a] = append(t.services[a], name)
			}
		}
	}
	loadable = slices.Sorted(slices.Values(t.services[alias]))
	return t.builtinAlias[alias], slices.Compact(loadable), nil
}

// onCPU reports whether a module file holds algorithms rather than the driver of a device.
func onCPU(file string) bool {
	for _, pattern := range []string{"kernel/crypto/*", "kernel/lib/*", "kernel/lib/*/*", "kernel/lib/*/*/*", "kernel/arch/*/crypto/*", "kernel/arch/*/lib/*"} {
		if ok, _ := path.Match(pattern, file); ok {
			return true
		}
	}
	return false
}

// generic returns which of the modules that implement one algorithm runs on every CPU of the architecture: the one that says
// so, or the only one, unless it lies with those that are for some CPUs. "" is none.
func (t *tree) generic(names []string) string {
	for _, name := range names {
		if strings.HasSuffix(name, "generic") {
			return name
		}
	}
	if len(names) == 1 && !strings.HasPrefix(t.files[names[0]], "kernel/arch/") {
		return names[0]
	}
	return ""
}
