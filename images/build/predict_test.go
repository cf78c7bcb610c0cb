package build

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/images/disk"
)

// The rule itself, in other words: each event's digest is hashed behind the value before.
func extended(events ...string) string {
	value := make([]byte, sha256.Size)
	for _, e := range events {
		d := sha256.Sum256([]byte(e))
		v := sha256.Sum256([]byte(string(value) + string(d[:])))
		value = v[:]
	}
	return hex.EncodeToString(value)
}

func TestAUKIIsPredictedAsTheVersionOfItsStubMeasuresIt(t *testing.T) {
	parts := func(sdmagic string, more ...disk.Section) []disk.Section {
		return append([]disk.Section{{Name: ".sdmagic", Content: []byte(sdmagic)}, {Name: ".osrel", Content: []byte("ID=x\n")}, {Name: ".cmdline", Content: []byte("quiet")},
			{Name: ".uname", Content: []byte("6.1")}, {Name: ".initrd", Content: []byte("initrd")}, {Name: ".linux", Content: []byte("linux")}}, more...)
	}
	common := []string{".linux\x00", "linux", ".osrel\x00", "ID=x\n", ".cmdline\x00", "quiet", ".initrd\x00", "initrd"}
	for stub, want := range map[string]string{
		"#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####": extended(common...),
		"#### LoaderInfo: systemd-stub 257.13-1~deb13u1 ####": extended(append(common, ".uname\x00", "6.1")...),
	} {
		if r, err := predictUKI(parts(stub)); err != nil || r.Number != 11 || r.SHA256 != want {
			t.Errorf("%s: register %+v, %v; want %s", stub, r, err, want)
		}
	}
	for name, sections := range map[string][]disk.Section{
		"another's stub":              parts("somebody's stub"),
		"a stub of a version between": parts("#### LoaderInfo: systemd-stub 253 ####"),
		"profiles":                    parts("#### LoaderInfo: systemd-stub 257 ####", disk.Section{Name: ".profile", Content: []byte("x")}),
	} {
		if r, err := predictUKI(sections); err == nil {
			t.Errorf("%s: register %+v, want an error", name, r)
		}
	}
}

func TestEachUKIOfAnOutputIsPredictedWhereverItLies(t *testing.T) {
	p := isoProject(t, "")
	out := p.build(t, nil)
	want := func(program []byte, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		sections, _, err := disk.Sections(program)
		if err != nil {
			t.Fatal(err)
		}
		r, err := predictUKI(sections)
		if err != nil {
			t.Fatal(err)
		}
		return r.SHA256
	}
	iso := want(ukiOfISO(t.Context(), filepath.Join(out, outISO)))
	got, err := Predict(t.Context(), out)
	if err != nil || len(got.Registers) != 1 || got.Registers[0].SHA256 != iso || !strings.HasSuffix(got.Registers[0].What, "of disk.iso") {
		t.Errorf("an ISO alone: %+v, %v", got, err)
	}
	out = p.build(t, func(s *Spec) { s.Config.Outputs = []string{"iso", "disk"} })
	if _, err := os.Stat(filepath.Join(out, outUKI)); err == nil {
		t.Fatal("there is a UKI beside them")
	}
	own := want(outputUKI(t.Context(), out))
	got, err = Predict(t.Context(), out)
	if err != nil || len(got.Registers) != 2 || own == iso || got.Registers[0].SHA256 != own || got.Registers[1].SHA256 != iso {
		t.Errorf("with a disk: %+v, %v; want %s and %s", got, err, own, iso)
	}
	net, err := Predict(t.Context(), p.build(t, func(s *Spec) {
		s.Config.Outputs, s.Config.Variant, s.Config.Boot.URL = []string{"disk", "netboot"}, "net", "http://boot.example/"
	}))
	if err != nil || len(net.Registers) != 2 || net.Registers[0].SHA256 == net.Registers[1].SHA256 || !strings.HasSuffix(net.Registers[1].What, "of netboot/uki.efi") {
		t.Errorf("for a server: %+v, %v", net, err)
	}
	if _, err := Predict(t.Context(), filepath.Join(out, outDisk)); err == nil || !strings.Contains(err.Error(), "name the directory") {
		t.Errorf("of a file: %v", err)
	}
	out = newProject(t, "").build(t, nil)
	if got, err = Predict(t.Context(), out); err == nil || !strings.Contains(err.Error(), "nothing can be predicted") {
		t.Errorf("nothing is predicted: %+v, %v", got, err)
	}
}

func TestATPMLimitsTheEpoch(t *testing.T) {
	const head = "name = \"n\"\nversion = \"1\"\nsource = \"tree\"\nkeys.secret = \"k\"\n"
	for _, c := range []struct{ text, complaint string }{
		{"epoch = 257\n", ""},
		{"epoch = 256\ntrust.tpm = \"wanted\"\n", ""},
		{"epoch = 257\ntrust.tpm = \"required\"\n", "epoch: 257: with trust.tpm it is at most 256"},
		{"trust.tpm = \"yes\"\n", `trust.tpm: "yes" is none of none, wanted, required`},
	} {
		_, err := ParseConfig("veneer.toml", []byte(head+c.text))
		if c.complaint == "" && err != nil || c.complaint != "" && (err == nil || !strings.Contains(err.Error(), c.complaint)) {
			t.Errorf("%q: %v, want %q", c.text, err, c.complaint)
		}
	}
}
