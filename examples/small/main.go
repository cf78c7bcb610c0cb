// Command small writes the tiny base of the examples and the VM tests: u-root's shell and everyday commands in one program, an
// init of its own, and nothing else. It needs the Go toolchain, and is run in the root of the module:
//
//	go run ./examples/small [-arch arm64] [-o out/small-arm64.tar]
//
// The same source gives the same bytes.
package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/u-root/mkuimage/cpio"

	"veneer/initramfs/release/busybox"
)

// commands are u-root's; own are those that belong to the init of this base.
var (
	commands = []string{"gosh", "cat", "chmod", "cmp", "cp", "date", "dd", "df", "dmesg", "du", "echo", "false", "find", "free", "grep",
		"head", "hexdump", "hostname", "id", "kill", "ln", "losetup", "ls", "lsmod", "mkdir", "mktemp", "mount", "mv", "printenv", "ps",
		"pwd", "readlink", "rm", "shasum", "sleep", "sort", "sync", "tail", "tee", "touch", "true", "umount", "uname", "uptime", "wc"}
	own = []string{busybox.Shell, "veneer/examples/small/init", "veneer/examples/small/poweroff", "veneer/examples/small/reboot"}
)

// entry is a directory (a path that ends in a slash), a link, or a file of the base.
type entry struct {
	name, link, content string
	mode                int64
}

// skeleton is everything but the commands.
var skeleton = []entry{
	{name: "./", mode: 0o755},
	{name: "bbin", link: "usr/bin"},
	{name: "bin", link: "usr/bin"},
	{name: "dev/", mode: 0o755},
	{name: "etc/", mode: 0o755},
	{name: "etc/group", mode: 0o644, content: "root:x:0:\n"},
	{name: "etc/hostname", mode: 0o644, content: "small\n"},
	{name: "etc/os-release", mode: 0o644, content: "ID=small\nNAME=\"Small\"\nPRETTY_NAME=\"Small, the tiny base of the Veneer examples\"\nVERSION_ID=1\n"},
	{name: "etc/passwd", mode: 0o644, content: "root:x:0:0:root:/root:/bin/sh\n"},
	{name: "home/", mode: 0o755},
	{name: "lib", link: "usr/lib"},
	{name: "mnt/", mode: 0o755},
	{name: "proc/", mode: 0o555},
	{name: "root/", mode: 0o700},
	{name: "run/", mode: 0o755},
	{name: "sbin", link: "usr/bin"},
	{name: "sys/", mode: 0o555},
	{name: "tmp/", mode: 0o1777},
	{name: "usr/", mode: 0o755},
	{name: "usr/bin/", mode: 0o755},
	{name: "usr/lib/", mode: 0o755},
	{name: "usr/lib/modules/", mode: 0o755},
	{name: "var/", mode: 0o755},
	{name: "var/lib/", mode: 0o755},
	{name: "var/log/", mode: 0o755},
	{name: "var/tmp/", mode: 0o1777},
}

func main() {
	arch := flag.String("arch", "amd64", "amd64 or arm64")
	out := flag.String("o", "", "the archive to write (default out/small-ARCH.tar)")
	flag.Parse()
	if *out == "" {
		*out = "out/small-" + *arch + ".tar"
	}
	if err := small(*arch, *out); err != nil {
		fmt.Fprintf(os.Stderr, "small: %v\n", err)
		os.Exit(1)
	}
}

func small(arch, out string) error {
	scratch, err := os.MkdirTemp("", "veneer-small-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	packages := slices.Clone(own)
	for _, c := range commands {
		packages = append(packages, busybox.Core+c)
	}
	tools, err := busybox.Build(arch, scratch, packages)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return writeFile(out, tools)
}

// writeFile makes the archive appear whole.
func writeFile(out string, tools []cpio.Record) (err error) {
	f, err := os.CreateTemp(filepath.Dir(out), ".small-*")
	if err != nil {
		return err
	}
	defer func() {
		if rerr := os.Remove(f.Name()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}()
	b := bufio.NewWriter(f)
	if err := errors.Join(write(b, tools), b.Flush(), f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	return os.Rename(f.Name(), out)
}

func write(w io.Writer, tools []cpio.Record) error {
	t := tar.NewWriter(w)
	for _, e := range skeleton {
		if err := add(t, e); err != nil {
			return err
		}
	}
	for _, r := range tools {
		content, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
		if err != nil {
			return fmt.Errorf("read %s: %w", r.Name, err)
		}
		e := entry{name: "usr/bin/" + filepath.Base(r.Name), mode: 0o755, content: string(content)}
		if r.Mode&cpio.S_IFMT == cpio.S_IFLNK {
			e.link, e.content = e.content, ""
		}
		if err := add(t, e); err != nil {
			return err
		}
	}
	return t.Close()
}

func add(t *tar.Writer, e entry) error {
	h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.content)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg, Uname: "root", Gname: "root"}
	switch {
	case e.link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.link, 0o777
	case strings.HasSuffix(e.name, "/"):
		h.Typeflag = tar.TypeDir
	}
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("archive %s: %w", e.name, err)
	}
	_, err := io.WriteString(t, e.content)
	return err
}
