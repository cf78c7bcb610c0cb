package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/images"
	"veneer/stage"
	"veneer/stage/watch"
)

var update = flag.Bool("update", false, "write the golden files")

func ms(n float64) stage.Micros { return stage.Micros(n * 1000) }

// good is a boot as it should be.
func good() *Report {
	id := func(c string) string { return strings.Repeat(c, 64/len(c)) }
	rec := &stage.Record{
		Format: stage.RecordFormat, Veneer: "0.1.0", Cmdline: "console=ttyS0 quiet", Aliases: []string{}, Kernel: "6.1.0-18-cloud-amd64",
		Store:      stage.Store{Reference: "LABEL=VENEER", Device: "/dev/vda1", FileSystem: "ext4", Dir: "veneer"},
		Deployment: stage.Deployment{Serial: "12", Why: "the store's default", Name: "kiosk", Version: "1.4.2", Epoch: 7, Architecture: "amd64", Manifest: id("e")},
		Verified:   stage.Verified{Manifest: true, Images: true, KeyID: "7A3F00C2D91B55E0", KeyFile: "release.pub", Corruption: images.EIO},
		Images: []stage.Attached{
			{Role: images.RoleTools, Name: "tools", ID: id("a1"), FileSystem: "squashfs", Size: 2 << 20, Device: "/dev/dm-0", Mount: "/run/initramfs/veneer/layers/" + id("a1")},
			{Role: images.RoleBase, Name: "debian", ID: id("b2"), FileSystem: "squashfs", Size: 104857600, Device: "/dev/dm-1", Mount: "/run/initramfs/veneer/base"},
		},
		Trust: stage.Trust{Epoch: 6, Store: 6, TPM: stage.TPMRequired, TPMFound: true, TPMKeeps: true, TPMEpoch: 6, Measured: []stage.Measurement{
			{Register: images.TPMRegister, Event: "veneer:manifest:" + id("e"), Digests: []stage.Digest{{Algorithm: "sha256", Value: id("f")}}}}},
		Upper: stage.Upper{Kind: "tmpfs", Size: 512 << 20, Mount: "/run/initramfs/veneer/upper"},
		State: stage.State{Kind: stage.StateNone}, Rules: []stage.Rule{}, Merges: []stage.Merge{}, Requests: []stage.Request{}, Identity: []stage.Identity{},
		Init: "/sbin/init", Degraded: []stage.Degraded{}, Started: ms(1412),
	}
	at := 1415.0
	for i, took := range []float64{1.2, 0.4, 180, 31, 12, 0.08, 2.3, 41, 9, 6, 0.9, 4} {
		rec.Steps = append(rec.Steps, stage.Step{Name: stateless[i], Start: ms(at), Took: ms(took)})
		at += took + 0.2
	}
	return &Report{Record: rec, Live: Live{Levels: []watch.Seen{}, ReadOnly: []string{}}, Space: &Space{Size: 512 << 20, Used: 13 << 20, Files: 131072, FilesUsed: 214}}
}

// kept is a boot of a device that keeps its /etc and /var.
func kept() *Report {
	r := good()
	r.Record.State = stage.State{Kind: stage.StatePersistent, Reference: "LABEL=STATE", Device: "/dev/vda2", FileSystem: "ext4", Dir: "veneer", Mount: "/run/initramfs/veneer/state"}
	r.Rules = []stage.Rule{
		{Path: "/etc", Action: "merge", Form: "overlay", Source: "/run/initramfs/veneer/state/etc/12", Upper: "persistent", Origin: "base"},
		{Path: "/opt", Action: "mask", Origin: "site"},
		{Path: "/var", Action: "persist", Form: "bind", Source: "/run/initramfs/veneer/state/data/var", Origin: "base"},
	}
	r.Merges = []stage.Merge{{Path: "/etc", From: strings.Repeat("a", 64), To: strings.Repeat("b", 64), KeptLocal: 3, TookNew: 12, Conflict: 1, TypeClash: 1}}
	r.Requests = []stage.Request{{ID: "7", Kind: "reset", Outcome: "done"}, {ID: "8", Kind: "undo", Outcome: "refused", Error: "nothing to undo"}}
	r.Identity = []stage.Identity{{Name: "machine-id", Mode: "persist", What: "kept"}}
	r.Record.Boots, r.Record.Watermarks = stage.Boots{Attempts: 2, Tries: 3}, stage.Watermarks{Full: "read-only"}
	no := false
	r.Live = Live{Blessed: &no, Room: &Space{Size: 4 << 30, Used: 1 << 30, Files: 1000, FilesUsed: 970}, ReadOnly: []string{"/var"}, Levels: []watch.Seen{
		{Place: watch.Place{What: watch.Upper}, Level: watch.Good, Percent: 3, Of: "bytes"},
		{Place: watch.Place{What: watch.Data}, Level: watch.Critical, Percent: 97, Of: "files"},
	}}
	r.root = "testdata/system"
	return r
}

// toram is a boot from an ISO in a file, out of memory.
func toram() *Report {
	r := good()
	r.Record.Store = stage.Store{Reference: "/iso/kiosk.iso", Device: "/dev/loop0", FileSystem: "iso9660", Dir: ".", Medium: stage.Medium{Device: "/dev/sdb1", FileSystem: "exfat", File: "/iso/kiosk.iso"},
		Copy: stage.Copy{Asked: "yes", Images: true, Bytes: 102 << 20, Released: true, Why: "images of 102 MiB, up to 512 MiB for the upper and 96 MiB to work with, and 900 MiB are available"}}
	return r
}

// pulled is a machine whose medium is gone.
func pulled() *Report {
	r := good()
	r.Record.Store.Copy = stage.Copy{Asked: "auto", Why: "the images do not fit"}
	r.MediumLost = "the medium /dev/sda is gone\nfor good"
	return r
}

// lost is the same device without its state.
func lost() *Report {
	r := kept()
	r.Record.State = stage.State{Kind: stage.StateEphemeral, Reference: "LABEL=STATE", Why: "no device answered within 30s"}
	r.Record.Degraded = []stage.Degraded{{What: "nothing is kept", Why: "LABEL=STATE: no device answered within 30s"}}
	r.Merges, r.Requests, r.Identity = []stage.Merge{}, []stage.Request{}, []stage.Identity{}
	r.Live = Live{Levels: []watch.Seen{}, ReadOnly: []string{}}
	return r
}

// bad is a boot in which everything is less than was asked for, with hostile names.
func bad() *Report {
	r := good()
	r.Record.Verified = stage.Verified{Corruption: images.EIO}
	r.Record.Aliases = []string{"toram -> veneer.toram"}
	r.Deployment.Name, r.Deployment.Version = "kiosk\x1b[31m", "<1>&\u202e"
	r.Record.Degraded = []stage.Degraded{
		{What: "not verified", Why: "veneer.verify=none was given"},
		{What: "deployment 12 was booted instead of the default", Why: "the store's default names deployment \"9\x1b[0m\", which is not there"},
	}
	r.Record.Store = stage.Store{Reference: "LABEL=a b", Device: "/dev/sda", FileSystem: "vfat"}
	r.Images = r.Images[1:]
	r.Images[0].Device, r.Images[0].ID = "/dev/loop0", "b2"
	r.Steps = r.Steps[:4]
	r.Steps[3].Error = "no device\nanswered"
	r.Space, r.Unknown = nil, "statfs /run/initramfs/veneer/upper: permission denied"
	return r
}

func TestReportsLookAsTheyDidWhenTheyWereReviewed(t *testing.T) {
	for name, r := range map[string]*Report{"good": good(), "bad": bad(), "kept": kept(), "lost": lost(), "toram": toram(), "pulled": pulled()} {
		forms := map[string]func(w io.Writer) error{
			".txt":            r.Text,
			".json":           r.JSON,
			".svg":            func(w io.Writer) error { _, err := w.Write(r.SVG()); return err },
			".rules":          func(w io.Writer) error { _, err := io.WriteString(w, r.RulesText()); return err },
			"-100.timeline":   func(w io.Writer) error { _, err := io.WriteString(w, r.Timeline(Chart{100, true})); return err },
			"-ascii.timeline": func(w io.Writer) error { _, err := io.WriteString(w, r.Timeline(Chart{})); return err },
		}
		for form, write := range forms {
			t.Run(name+form, func(t *testing.T) {
				var got bytes.Buffer
				if err := write(&got); err != nil {
					t.Fatal(err)
				}
				file := filepath.Join("testdata", name+form)
				if *update {
					if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got.String()); diff != "" {
					t.Errorf("%s differs (-want +got):\n%s", file, diff)
				}
				for _, c := range got.String() {
					if c < ' ' && c != '\n' || c == '\u202e' && form != ".json" {
						t.Errorf("the output holds %q, which steers a terminal", c)
					}
				}
			})
		}
	}
}

func TestOpenConflictsAreToldWithTheWordsToDecideThem(t *testing.T) {
	many := make([]Conflict, 22)
	for i := range many {
		many[i] = Conflict{Directory: "/opt/a b", Path: "/opt/a\\x20b/x", Verdict: "conflict", Note: "too large to be laid beside"}
	}
	got := openConflicts([]undecided{
		{dir: "/", open: []Conflict{{"/", `/usr/odd\x1b[31m`, "type-clash", `/usr/odd\x1b[31m.new`, ""}}},
		{dir: "/etc", open: []Conflict{{"/etc", "/etc/ssh/sshd_config", "conflict", "/etc/ssh/sshd_config.new", ""}}},
		{dir: "/opt/a b", open: many},
		{dir: "/srv", err: errors.New("no\nway")},
	})
	line := "  conflict    /opt/a b/x; too large to be laid beside\n"
	want := `
Open conflicts under /, of which the local side is in force:
  type-clash  "/usr/odd\x1b[31m"; the base's is "/usr/odd\x1b[31m.new"
  To decide: veneer etc diff --dir /

Open conflicts under /etc, of which the local side is in force:
  conflict    /etc/ssh/sshd_config; the base's is /etc/ssh/sshd_config.new
  To decide: veneer etc diff

Open conflicts under /opt/a b, of which the local side is in force:
` + strings.Repeat(line, maxConflicts) + `  and 2 more
  To decide: veneer etc diff --dir '/opt/a b'

Open conflicts under /srv cannot be told: "no\nway"
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
}

func TestAnUpperIsNotCalledKeptWhereTheStateIsLost(t *testing.T) {
	r := lost()
	r.Record.Upper.Kind = "persistent"
	var text bytes.Buffer
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	if want := "  Upper       in memory, as the state is: what is written is gone after the next boot; 13.0 MiB of 512.0 MiB used"; !strings.Contains(text.String(), want) || strings.Contains(text.String(), "persistent;") {
		t.Errorf("want %q in:\n%s", want, text.String())
	}
	if rules := r.RulesText(); !strings.Contains(rules, "/etc  merge    overlay (in memory)") {
		t.Errorf("rules:\n%s", rules)
	}
}

func TestVerifiedIsToldInPlainWords(t *testing.T) {
	cases := []struct {
		name string
		v    stage.Verified
		want string
	}{
		{"signed and checked, panics", stage.Verified{Manifest: true, Images: true, KeyID: "K", KeyFile: "k.pub", Corruption: images.Panic},
			"yes, signed with key K (k.pub); each block is checked when it is read, and a bad one panics the kernel"},
		{"signed and checked, restarts", stage.Verified{Manifest: true, Images: true, KeyID: "K", Corruption: images.Restart},
			"yes, signed with key K; each block is checked when it is read, and a bad one restarts the machine"},
		{"signed only", stage.Verified{Manifest: true, KeyID: "K"}, "yes, signed with key K, but what is read from the images is NOT checked"},
		{"checked only", stage.Verified{Images: true, Corruption: images.EIO},
			"NO: the manifest's signature was not checked; each block is checked when it is read, and a bad one fails to read"},
		{"pinned", stage.Verified{Pinned: "sha256:12"}, "pinned digest: each image was read whole at boot and is the one that the initramfs names (sha256:12); what is read from it later is NOT checked"},
		{"neither", stage.Verified{}, "NO: the manifest's signature was not checked, and what is read from the images is not"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := good()
			r.Record.Verified = c.v
			if got := r.verified(); got != c.want {
				t.Errorf("verified() = %q, want %q", got, c.want)
			}
		})
	}
}

func TestReadTakesTheRecordAndAsksTheUpperForItsSpace(t *testing.T) {
	root := t.TempDir()
	want := good().Record
	text := want.Encode()
	place(t, root, text)
	r, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, r.Record); diff != "" {
		t.Errorf("Read() (-want +got):\n%s", diff)
	}
	if r.Space != nil || !strings.Contains(r.Unknown, "upper: no such file") {
		t.Errorf("Space = %v, %q; want none and the reason", r.Space, r.Unknown)
	}
	if err := os.MkdirAll(filepath.Join(root, want.Upper.Mount), 0o755); err != nil {
		t.Fatal(err)
	}
	if r, err = Read(root); err != nil || r.Space == nil || r.Space.Size <= 0 || r.Space.Used > r.Space.Size {
		t.Errorf("Read() = %+v, %v; want space", r, err)
	}
	var buf bytes.Buffer
	if err := r.JSON(&buf); err != nil {
		t.Fatal(err)
	}
	if again, err := parseRecord(buf.Bytes()); err != nil || cmp.Diff(want, again) != "" {
		t.Errorf("the JSON is not a record: %v", err)
	}
}

func TestReadRefusesWhatNoInitWrote(t *testing.T) {
	cases := []struct{ name, text, says string }{
		{"junk", "junk", "state.json: parse record"},
		{"a newer format", `{"format":99}`, "format 99"},
		{"too long", strings.Repeat(" ", stage.MaxRecord+1), "larger than 1048576 bytes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			place(t, root, []byte(c.text))
			if _, err := Read(root); err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, ErrNotBooted) {
				t.Errorf("Read() = %v, want an error that says %q", err, c.says)
			}
		})
	}
	if _, err := Read(t.TempDir()); !errors.Is(err, ErrNotBooted) {
		t.Errorf("Read() without a record = %v, want ErrNotBooted", err)
	}
}

// stateless are the steps of a boot that keeps nothing, by the local init, and asks no TPM.
var stateless = slices.DeleteFunc(slices.Clone(stage.Steps), func(step string) bool {
	besides := []string{stage.StepTPM, stage.StepNetwork, stage.StepFindMedium, stage.StepCopyImages, stage.StepFindState, stage.StepPrepareState, stage.StepRequests, stage.StepUppers, stage.StepRules, stage.StepIdentity}
	return slices.Contains(besides, step)
})

func place(t *testing.T, root string, record []byte) {
	t.Helper()
	path := filepath.Join(root, stage.RecordPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, record, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheTimelineFitsItsTerminal(t *testing.T) {
	for _, width := range []int{60, 80, 133, 200} {
		for _, line := range strings.Split(good().Timeline(Chart{width, true}), "\n")[2:] {
			if n := len([]rune(line)); n > width {
				t.Errorf("a line of %d columns in a terminal of %d: %q", n, width, line)
			}
		}
	}
}

func TestAnEmptyRecordIsDrawnWithoutHarm(t *testing.T) {
	r := &Report{Record: &stage.Record{}}
	if got := r.Timeline(Chart{Width: 1}); !strings.Contains(got, "Kernel 0s") {
		t.Errorf("Timeline() = %q", got)
	}
	if err := r.Text(io.Discard); err != nil {
		t.Error(err)
	}
	if err := xml.Unmarshal(r.SVG(), new(struct{})); err != nil {
		t.Errorf("SVG() is no XML: %v", err)
	}
}

func TestThePictureIsXMLAndTheJSONIsJSON(t *testing.T) {
	if err := xml.Unmarshal(bad().SVG(), new(struct{})); err != nil {
		t.Errorf("SVG() is no XML: %v", err)
	}
	var buf bytes.Buffer
	if err := bad().JSON(&buf); err != nil || !json.Valid(buf.Bytes()) {
		t.Errorf("JSON() = %v, %s", err, buf.Bytes())
	}
}

func TestTheRecordIsWrittenAsItsTagsSay(t *testing.T) {
	for name, rec := range map[string]*stage.Record{"good": good().Record, "bad": bad().Record, "kept": kept().Record} {
		want, err := json.MarshalIndent(rec, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		var got, tagged any
		if err := errors.Join(json.Unmarshal(rec.Encode(), &got), json.Unmarshal(want, &tagged)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tagged, got); diff != "" {
			t.Errorf("%s: Encode (-tags +got):\n%s", name, diff)
		}
	}
}

func FuzzAnyRecordIsShownOrRefused(f *testing.F) {
	for _, r := range []*Report{good(), bad(), kept(), lost()} {
		f.Add(r.Record.Encode())
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		rec, err := parseRecord(text)
		if err != nil {
			return
		}
		r := &Report{Record: rec, root: t.TempDir()}
		r.Live = live(r.root, rec)
		var out bytes.Buffer
		if err := errors.Join(r.Text(&out), r.JSON(io.Discard)); err != nil {
			t.Error(err)
		}
		out.WriteString(r.RulesText())
		for _, c := range out.String() {
			if c < ' ' && c != '\n' || c == 0x7f {
				t.Fatalf("the text holds %q, which steers a terminal", c)
			}
		}
	})
}
