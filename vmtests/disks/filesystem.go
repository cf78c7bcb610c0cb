package disks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// FileSystem says what a directory becomes. The zero value of a field leaves it to the tool.
type FileSystem struct {
	Type  string // one of Types
	Label string // squashfs has none
	UUID  string // ext4, btrfs, xfs; of vfat the serial, 8 hex digits; the others have none to give
}

const (
	mib   = 1 << 20
	grain = 4096 // files take whole blocks
)

// maker makes one type of file system.
type maker struct {
	least    int64 // the smallest size that the tool makes, 0: it finds the size itself
	commands func(f FileSystem, dir, file string, names []string) [][]string
	label    bool
	uuid     bool
}

var makers = map[string]maker{
	"ext4": {8 * mib, func(f FileSystem, dir, file string, _ []string) [][]string {
		return [][]string{words("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-E", "root_owner=0:0", option("-L", f.Label), option("-U", f.UUID), "-d", dir, file)}
	}, true, true},
	"btrfs": {128 * mib, func(f FileSystem, dir, file string, _ []string) [][]string {
		return [][]string{words("mkfs.btrfs", "-q", "-m", "single", option("-L", f.Label), option("-U", f.UUID), "--rootdir", dir, file)}
	}, true, true},
	"xfs": {300 * mib, func(f FileSystem, _, file string, _ []string) [][]string {
		return [][]string{words("mkfs.xfs", "-q", option("-L", f.Label), option("-m", prefixed("uuid=", f.UUID)), "-p", protoFile(file), file)}
	}, true, true},
	"vfat": {40 * mib, func(f FileSystem, dir, file string, names []string) [][]string {
		all := [][]string{words("mkfs.vfat", "-F", "32", option("-n", f.Label), option("-i", f.UUID), file)}
		if len(names) == 0 {
			return all
		}
		fill := words("mcopy", "-s", "-i", file)
		for _, n := range names {
			fill = append(fill, filepath.Join(dir, n))
		}
		return append(all, append(fill, "::"))
	}, true, true},
	"iso9660": {0, func(f FileSystem, dir, file string, _ []string) [][]string {
		return [][]string{words("xorriso", "-as", "mkisofs", "-quiet", "-R", option("-V", f.Label), "-o", file, dir)}
	}, true, false},
	"squashfs": {0, func(_ FileSystem, dir, file string, _ []string) [][]string {
		return [][]string{words("mksquashfs", dir, file, "-quiet", "-no-progress", "-all-root", "-noappend")}
	}, false, false},
}

// packages are the Debian packages of the programs.
var packages = map[string]string{"mke2fs": "e2fsprogs", "mkfs.btrfs": "btrfs-progs", "mkfs.xfs": "xfsprogs", "mkfs.vfat": "dosfstools",
	"mcopy": "mtools", "xorriso": "xorriso", "mksquashfs": "squashfs-tools"}

// Types lists the file systems that a store can live on.
func Types() []string {
	var types []string
	for t := range makers {
		types = append(types, t)
	}
	slices.Sort(types)
	return types
}

// Make writes a file that holds the files of dir on a file system. A store holds files and directories only.
func (f FileSystem) Make(ctx context.Context, dir, file string) error {
	m, ok := makers[f.Type]
	switch {
	case !ok:
		return fmt.Errorf("make %q: unknown file system; want one of %s", f.Type, strings.Join(Types(), ", "))
	case f.Label != "" && !m.label:
		return fmt.Errorf("make %s: it has no label; put it on a partition with a name", f.Type)
	case f.UUID != "" && !m.uuid:
		return fmt.Errorf("make %s: it has no UUID that could be chosen", f.Type)
	}
	if err := m.make(ctx, f, dir, file); err != nil {
		return fmt.Errorf("make %s: %w", f.Type, err)
	}
	return nil
}

func (m maker) make(ctx context.Context, f FileSystem, dir, file string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	content, err := contentSize(dir)
	if err != nil {
		return err
	}
	if m.least > 0 {
		if err := truncate(file, content+content/4+m.least); err != nil {
			return err
		}
	}
	if f.Type == "xfs" {
		if err := writeProto(dir, protoFile(file)); err != nil {
			return err
		}
	}
	for _, argv := range m.commands(f, dir, file, names) {
		if err := run(ctx, argv); err != nil {
			return err
		}
	}
	return nil
}

// contentSize is the room that the files below dir take.
func contentSize(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if t := info.Mode().Type(); t != 0 && t != fs.ModeDir && t != fs.ModeNamedPipe {
			return fmt.Errorf("%s is neither a file nor a directory, nor a fifo to try the init with", path)
		}
		total += (info.Size()+grain-1)/grain*grain + grain
		return nil
	})
	return (total + mib - 1) / mib * mib, err
}

// truncate makes a file without content.
func truncate(file string, size int64) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

func protoFile(file string) string { return file + ".proto" }

// writeProto writes the list of files from which mkfs.xfs fills a file system without mounting it, see mkfs.xfs(8).
func writeProto(dir, proto string) error {
	var b bytes.Buffer
	b.WriteString("/\n0 0\n")
	if err := protoDir(&b, "", dir); err != nil {
		return err
	}
	return os.WriteFile(proto, b.Bytes(), 0o644)
}

func protoDir(b *bytes.Buffer, name, dir string) error {
	fmt.Fprintf(b, "%sd--755 0 0\n", prefixSpace(name))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.ContainsAny(path, " \t\n") {
			return fmt.Errorf("%q: mkfs.xfs takes no names with white space in them", path)
		}
		if e.IsDir() {
			if err := protoDir(b, e.Name(), path); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(b, "%s ---644 0 0 %s\n", e.Name(), path)
	}
	b.WriteString("$\n")
	return nil
}

func prefixSpace(name string) string {
	if name == "" {
		return ""
	}
	return name + " "
}

// run runs a program and puts what it said into the error.
func run(ctx context.Context, argv []string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK=1")
	if path, err := exec.LookPath(argv[0]); err == nil {
		cmd.Path = path
	} else if _, err := os.Stat("/usr/sbin/" + argv[0]); err == nil { // which is not on the path of an ordinary user
		cmd.Path, cmd.Err = "/usr/sbin/"+argv[0], nil
	} else {
		return fmt.Errorf("%s is not installed; apt-get install %s", argv[0], packages[argv[0]])
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// words flattens strings and lists of them.
func words(parts ...any) []string {
	var all []string
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			all = append(all, p)
		case []string:
			all = append(all, p...)
		default:
			panic("disks: a word is a string or a list, not " + strconv.Quote(fmt.Sprint(p)))
		}
	}
	return all
}

// option is a flag with its value, or nothing where there is no value.
func option(flag, value string) []string {
	if value == "" {
		return nil
	}
	return []string{flag, value}
}

func prefixed(prefix, value string) string {
	if value == "" {
		return ""
	}
	return prefix + value
}
