package build

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// elfProgram is the head of an ELF program, which is all that anybody looks at before it is run.
func elfProgram(machine elf.Machine, interpreter string) []byte {
	h := elf.Header64{Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56}
	var b bytes.Buffer
	if interpreter == "" {
		_ = binary.Write(&b, binary.LittleEndian, h) // to memory
		return b.Bytes()
	}
	h.Phnum = 1
	_ = binary.Write(&b, binary.LittleEndian, h)
	size := uint64(len(interpreter) + 1)
	_ = binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 120, Filesz: size, Memsz: size})
	return append(append(b.Bytes(), interpreter...), 0)
}

func linkMember(name, target string) member {
	return member{Header: tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink}}
}

// rootOf stacks trees made of members, the lowest first.
func rootOf(t *testing.T, allowed []Loss, trees ...[]member) *builder {
	t.Helper()
	b := &builder{spec: Spec{Config: Config{Allow: AllowConfig{Losses: allowed}}}}
	for i, members := range trees {
		name := filepath.Join(t.TempDir(), string(rune('a'+i))+".tar")
		write(t, name, string(archiveOf(t, members...)))
		tree, err := scanTar(context.Background(), name, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tree.Close() })
		tree.Source = filepath.Base(name)
		b.jobs = append(b.jobs, &imageJob{name: tree.Source, tree: tree})
	}
	return b
}

func TestAnInitIsFoundAsTheMachineWillFindIt(t *testing.T) {
	static := string(elfProgram(elf.EM_X86_64, ""))
	dynamic := string(elfProgram(elf.EM_AARCH64, "/lib64/ld.so"))
	for _, tt := range []struct {
		name       string
		trees      [][]member
		init, arch string
	}{
		{"a program", [][]member{{fileMember("sbin/init", static)}}, "/sbin/init", "amd64"},
		{"names that are absolute", [][]member{{fileMember("/sbin/init", static)}}, "/sbin/init", "amd64"},
		{"systemd alone", [][]member{{fileMember("usr/lib/systemd/systemd", static)}}, "/usr/lib/systemd/systemd", "amd64"},
		{"a merged /usr", [][]member{{linkMember("sbin", "usr/sbin"), linkMember("lib64", "/usr/lib"), linkMember("lib", "../../usr/./lib/"),
			linkMember("usr/sbin/init", "/lib/systemd/systemd"), fileMember("usr/lib/systemd/systemd", dynamic),
			linkMember("usr/lib/ld.so", "ld-1.so"), fileMember("usr/lib/ld-1.so", string(elfProgram(elf.EM_AARCH64, "")))}}, "/sbin/init", "arm64"},
		{"a script", [][]member{{fileMember("etc/init", "#! /bin/busybox sh\n"), fileMember("bin/busybox", static)}}, "/etc/init", "amd64"},
		{"one that a layer brings", [][]member{{fileMember("etc/hostname", "")}, {fileMember("opt/app", "")}, {fileMember("bin/init", static)}}, "/bin/init", "amd64"},
		{"an interpreter that a layer brings", [][]member{{linkMember("lib64", "usr/lib"), fileMember("sbin/init", dynamic)}, {fileMember("usr/lib/ld.so", static)}}, "/sbin/init", "arm64"},
		{"a later name where the first cannot run", [][]member{{fileMember("sbin/init", "text"), fileMember("bin/init", static)}}, "/bin/init", "amd64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := rootOf(t, nil, tt.trees...)
			if err := b.checkInit(); err != nil || b.init != tt.init || b.initArch != tt.arch {
				t.Errorf("checkInit() = %q for %q, %v; want %q for %q", b.init, b.initArch, err, tt.init, tt.arch)
			}
		})
	}
}

func TestARootWithoutAnInitIsAnErrorWithItsRemedy(t *testing.T) {
	static := string(elfProgram(elf.EM_X86_64, ""))
	mode := func(m member, mode int64) member {
		m.Mode = mode
		return m
	}
	whiteout := member{Header: tar.Header{Name: "sbin/init", Typeflag: tar.TypeChar}}
	opaque := member{Header: tar.Header{Name: "sbin", Typeflag: tar.TypeDir, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}}}
	for _, tt := range []struct {
		name  string
		trees [][]member
		want  []string
	}{
		{"nothing of the kind", [][]member{{fileMember("etc/hostname", "")}}, []string{
			"a.tar has no init that could run:\n  /sbin/init: file does not exist\n", "  /bin/init: file does not exist\n", "apt-get install systemd-sysv", `add "no-init" to allow.losses`}},
		{"a shell alone", [][]member{{fileMember("bin/sh", static)}}, []string{"/bin/init: file does not exist"}},
		{"a base and a layer", [][]member{{fileMember("a", "")}, {fileMember("b", "")}}, []string{"a.tar, with the layers b.tar, has no init"}},
		{"a tree in a directory of the archive", [][]member{{fileMember("./srv/rootfs/sbin/init", static)}}, []string{"in the directory srv/rootfs of the archive", "tar -C srv/rootfs "}},
		{"a merged /usr without its links", [][]member{{fileMember("usr/sbin/init", static)}}, []string{"needs the links sbin -> usr/sbin"}},
		{"a link to nowhere", [][]member{{linkMember("sbin/init", "../lib/systemd/systemd")}}, []string{"/sbin/init: file does not exist"}},
		{"links in a circle", [][]member{{linkMember("sbin", "bin"), linkMember("bin", "sbin")}}, []string{"/sbin/init: too many levels of symbolic links"}},
		{"a file on the way", [][]member{{fileMember("sbin", "")}}, []string{"/sbin/init: not a directory"}},
		{"a directory", [][]member{{dirMember("sbin/init")}}, []string{"/sbin/init: is a directory"}},
		{"a device", [][]member{{{Header: tar.Header{Name: "sbin/init", Typeflag: tar.TypeFifo}}}}, []string{"/sbin/init is not a regular file"}},
		{"a program that is not executable", [][]member{{mode(fileMember("sbin/init", static), 0o644)}}, []string{"/sbin/init is not executable (mode 0644)"}},
		{"text", [][]member{{fileMember("sbin/init", "text")}}, []string{"/sbin/init cannot be run: neither an ELF program nor a script"}},
		{"a script of nobody", [][]member{{fileMember("sbin/init", "#!sh\n")}}, []string{"script whose first line names no interpreter"}},
		{"a script without its interpreter", [][]member{{fileMember("sbin/init", "#!/bin/sh\n")}}, []string{"/sbin/init needs /bin/sh: /bin/sh: file does not exist"}},
		{"a program without its loader", [][]member{{fileMember("sbin/init", string(elfProgram(elf.EM_X86_64, "/lib64/ld.so")))}}, []string{"/sbin/init needs /lib64/ld.so: "}},
		{"a program for another machine", [][]member{{fileMember("sbin/init", string(elfProgram(elf.EM_RISCV, "")))}}, []string{"program for EM_RISCV: want one for amd64 or arm64"}},
		{"a torn program", [][]member{{fileMember("sbin/init", static[:20])}}, []string{"/sbin/init cannot be run: "}},
		{"one that a layer whites out", [][]member{{fileMember("sbin/init", static)}, {whiteout}}, []string{"/sbin/init: file does not exist"}},
		{"one below an opaque directory of a layer", [][]member{{fileMember("sbin/init", static)}, {opaque}}, []string{"/sbin/init: file does not exist"}},
		{"one below a directory that a layer makes a file", [][]member{{fileMember("sbin/init", static)}, {fileMember("sbin", "")}}, []string{"/sbin/init: not a directory"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := rootOf(t, nil, tt.trees...).checkInit()
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("checkInit() = %v, want …%s…", err, want)
				}
			}
			allowed := rootOf(t, []Loss{LossInit}, tt.trees...)
			if err := allowed.checkInit(); err != nil || len(allowed.jobs[0].losses) != 1 || allowed.jobs[0].losses[0].Loss != LossInit {
				t.Errorf("where it is allowed checkInit() = %v, and reports %v", err, allowed.jobs[0].losses)
			}
		})
	}
}

func TestATreeWithoutAnInitIsBuiltOnlyByName(t *testing.T) {
	p := newProject(t, "")
	if err := os.Remove(filepath.Join(p.dir, "tree/usr/bin/init")); err != nil {
		t.Fatal(err)
	}
	spec := p.spec(t, filepath.Join(t.TempDir(), "out"))
	if _, err := Build(context.Background(), spec); err == nil || !strings.Contains(err.Error(), "has no init that could run") {
		t.Errorf("Build() = %v", err)
	}
	if _, err := DryRun(context.Background(), spec); err == nil || !strings.Contains(err.Error(), "has no init that could run") {
		t.Errorf("DryRun() = %v", err)
	}
	spec.Config.Allow.Losses = []Loss{LossInit}
	report, err := Build(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := report.WriteText(&text); err != nil || !strings.Contains(text.String(), "no-init in base, 1 time, first /sbin/init: file does not exist: no machine boots it") {
		t.Errorf("the report says nothing of it (%v):\n%s", err, text.String())
	}
}

func TestAnInitForAnotherMachineThanTheKernelIsRefused(t *testing.T) {
	p := newProject(t, "")
	write(t, filepath.Join(p.dir, "tree/usr/bin/init"), string(elfProgram(elf.EM_AARCH64, "")))
	_, err := Build(context.Background(), p.spec(t, filepath.Join(t.TempDir(), "out")))
	if err == nil || !strings.Contains(err.Error(), "/sbin/init is a program for arm64, and kernel 6.1.0-test is for amd64: ") {
		t.Errorf("Build() = %v", err)
	}
}

// The build may not depend on overlay, so that the two lists are kept alike here.
func TestTheMachineLooksForAnInitInTheSamePlaces(t *testing.T) {
	list := regexp.MustCompile(`var initPaths = \[\]string\{(.*)\}`).FindSubmatch(read(t, "../../overlay/check_linux.go"))
	if list == nil {
		t.Fatal("overlay has no initPaths any more")
	}
	if diff := cmp.Diff(`"`+strings.Join(initPaths, `", "`)+`"`, string(list[1])); diff != "" {
		t.Errorf("initPaths (-build +overlay):\n%s", diff)
	}
}
