package initramfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/mkuimage/cpio"
)

// spec is an initramfs for the synthetic kernel, with an init of two words.
func spec(t testing.TB) Spec {
	return Spec{
		Kernel:   &Kernel{Release: testRelease, Arch: "amd64", modules: small(t)},
		Policy:   Policy{Kind: List, Modules: []string{"virtio_pci"}},
		Keys:     map[string][]byte{"b": []byte("untrusted comment: b\nRWQ\n"), "a": []byte("untrusted comment: a\nRWQ\n")},
		Defaults: "veneer.store=LABEL=VENEER veneer.on-fail=reboot",
		Init:     []byte("an init"),
		Level:    1,
	}
}

func built(t testing.TB, s Spec) ([]byte, Report) {
	t.Helper()
	var b bytes.Buffer
	r, err := Build(t.Context(), &b, s)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), r
}

// unzstd unpacks all the frames behind each other, as the kernel does.
func unzstd(t testing.TB, packed []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestTheSameSpecGivesTheSameBytes(t *testing.T) {
	first, report := built(t, spec(t))
	second, _ := built(t, spec(t))
	if !bytes.Equal(first, second) {
		t.Error("two builds of one spec differ")
	}
	if report.Compressed != int64(len(first)) || report.Raw != int64(len(unzstd(t, first))) {
		t.Errorf("report %d bytes of %d, want %d of %d", report.Compressed, report.Raw, len(first), len(unzstd(t, first)))
	}
}

func TestTheArchiveHoldsWhatPID1Expects(t *testing.T) {
	s := spec(t)
	s.AllowUnsigned = true
	packed, _ := built(t, s)
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(unzstd(t, packed))))
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for _, r := range records {
		if r.UID != 0 || r.GID != 0 || r.MTime != 0 {
			t.Errorf("%s: owner %d:%d, time %d, want none of them", r.Name, r.UID, r.GID, r.MTime)
		}
		if r.Mode&cpio.S_IFMT != cpio.S_IFREG {
			r.FileSize = 0
		}
		list.WriteString(r.Info.String() + "\n")
	}
	golden(t, "archive.list", []byte(list.String()))
}

func TestCpioReadsTheArchive(t *testing.T) {
	program, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("the cpio program is not installed: apt-get install cpio")
	}
	packed, _ := built(t, spec(t))
	cmd := exec.Command(program, "--quiet", "-itv")
	cmd.Stdin = bytes.NewReader(unzstd(t, packed))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("cpio: %v\n%s", err, &stderr)
	}
	for _, want := range []string{"crw-------", "dev/console", "-rwxr-xr-x", " init\n", "drwxr-xr-x", " lib/modules/dm_verity.ko\n"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("cpio -itv does not show %q:\n%s", want, out)
		}
	}
}

func TestTheReportSaysWhyEachModuleIsThere(t *testing.T) {
	_, report := built(t, spec(t))
	why := map[string]string{}
	for _, m := range report.Modules {
		why[m.Name] = m.Why
	}
	want := map[string]string{"dm_verity": required.why, "dm_bufio": "needed by dm_verity", "virtio_pci": "named", "virtio_ring": "needed by virtio_pci",
		"sha256_ssse3": "crypto-sha256 for dm_verity"}
	for name := range why {
		if _, ok := want[name]; !ok {
			delete(why, name)
		}
	}
	if diff := cmp.Diff(want, why); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
}

func TestASpecThatCannotBootIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"no kernel":                    {func(s *Spec) { s.Kernel = nil }, "no kernel"},
		"no key":                       {func(s *Spec) { s.Keys = nil }, "veneer keygen"},
		"a key with a path":            {func(s *Spec) { s.Keys = map[string][]byte{"../x": nil} }, "file name"},
		"a module nobody has":          {func(s *Spec) { s.Policy.Modules = []string{"nvme"} }, "nvme"},
		"no init for the architecture": {func(s *Spec) { s.Init, s.Kernel.Arch = nil, "riscv64" }, "make build"},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(t)
			tt.change(&s)
			if _, err := Build(t.Context(), io.Discard, s); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Build() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestABuildEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx, io.Discard, spec(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("Build() = %v, want %v", err, context.Canceled)
	}
}

func TestAFullDiskIsReported(t *testing.T) {
	full := errors.New("no space left on device")
	if _, err := Build(t.Context(), failing{full}, spec(t)); !errors.Is(err, full) {
		t.Errorf("Build() = %v, want %v", err, full)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
