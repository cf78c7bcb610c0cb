package build

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/images"
	"veneer/initramfs"
)

func TestInspectionIsWrittenForPeople(t *testing.T) {
	dir := t.TempDir()
	man, err := os.ReadFile("../testdata/good-full.json")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, images.ManifestName), string(man))
	write(t, filepath.Join(dir, initramfsFile), string(goodInitramfs()))
	write(t, filepath.Join(dir, "image"), string(testSquashfs()))
	for name, path := range map[string]string{"inspect-output.txt": dir, "inspect-image.txt": filepath.Join(dir, "image")} {
		i, err := Inspect(path)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := i.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.String())
	}
}

func TestVerificationIsWrittenForPeopleAndForPrograms(t *testing.T) {
	o := newOutput(t)
	flipByte(t, o.image(1), 0)
	v, err := Verify(context.Background(), VerifySpec{Path: o.dir})
	if err != nil {
		t.Fatal(err)
	}
	var human bytes.Buffer
	if err := v.WriteText(&human); err != nil {
		t.Fatal(err)
	}
	machine, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"verify-bad.txt": human.String(), "verify-bad.json": string(machine) + "\n"} {
		// What differs from run to run: the directory, the key, the the initramfs that holds it, and images by the version of mksquashfs.
		got = strings.NewReplacer(o.dir, "OUT", o.key.ID, "KEYID", o.man.Initramfs.SHA256, "DIGEST", FormatBytes(o.man.Initramfs.Size), "SIZE",
			o.man.Images[0].ID, "TOOLS", o.man.Images[1].ID, "BASE").Replace(got)
		golden(t, name, got)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *updateVerify {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, got)
	}
	if diff := cmp.Diff(string(read(t, path)), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestNumbersOfOneAreSingular(t *testing.T) {
	for want, got := range map[string]string{
		"0 blocks": count(0, "block"), "1 block": count(1, "block"), "2 blocks": count(2, "block"), "1 entry": count(1, "entry"), "2 entries": count(2, "entry"),
		"0 bytes": FormatBytes(0), "1 byte": FormatBytes(1), "1023 bytes": FormatBytes(1023), "1.0 KiB": FormatBytes(1024),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	one := Check{What: "image", Detail: "x"}
	reports := map[string]interface{ WriteText(io.Writer) error }{
		"the check passed":    Verification{Checks: []Check{one}},
		"1 of 1 check failed": Verification{Checks: []Check{{What: "image", Error: "bad"}}},
		"all 2 checks passed": Verification{Checks: []Check{one, one}},
		"1 module\n":          Report{Initramfs: initramfs.Report{Modules: make([]initramfs.ModuleReport, 1)}},
		", 1 time, first a":   Report{Losses: []ImageLosses{{"base", []LossReport{{Count: 1, First: []string{"a"}}}}}},
		": 1 name, 1 byte":    Plan{Images: []ImagePlan{{Files: 1, Bytes: 1}}},
		"1 inode\n":           Inspection{Image: &ImageFile{FileSystem: Superblock{Inodes: 1}}},
		"1 entry\n":           Inspection{Initramfs: &Initramfs{Entries: 1}},
	}
	for want, report := range reports {
		var b strings.Builder
		if err := report.WriteText(&b); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("WriteText() = %v, want %q in:\n%s", err, want, b.String())
		}
	}
}
