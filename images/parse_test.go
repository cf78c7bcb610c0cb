package images

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/overlay/identity"
	"veneer/overlay/rule"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goodManifest has one image of each role.
func goodManifest() Manifest {
	image := func(role Role, digit, name, fs string, blocks int64) Image {
		offset := blocks * blockSize
		return Image{Role: role, Name: name, ID: strings.Repeat(digit, 64), Size: offset + blockSize*(1+treeBlocks(blocks)),
			FileSystem: fs, Verity: Verity{Algorithm: "sha256", BlockSize: blockSize, DataBlocks: blocks, HashOffset: offset}}
	}
	return Manifest{
		Format: 1, Name: "demo", Version: "1.0", Epoch: 7, Architecture: "amd64", Built: 1_700_000_000,
		Kernel:     Kernel{"6.1.0-56-cloud-amd64", File{"vmlinuz", 8212416, strings.Repeat("5e", 32)}},
		Initramfs:  File{"initramfs.cpio.zst", 3300000, strings.Repeat("1f", 32)},
		Root:       Root{Upper: "tmpfs", Size: "50%", OnFail: "reboot"},
		Identity:   []identity.Setting{{Name: identity.MachineID, Mode: identity.PerBoot}, {Name: identity.Hostname, Mode: identity.Generate}},
		Corruption: EIO,
		Images: []Image{image(RoleTools, "a", "tools", "squashfs", 1), image(RoleBase, "b", "base", "squashfs", 25600),
			image(RoleLayer, "c", "extra & <more>", "erofs", 129)},
		Tools: []Tool{{"mksquashfs", "4.5.1"}, {"veneer", "0.1.0"}},
	}
}

func TestManifestIsEncodedInOneWayAndReadBack(t *testing.T) {
	for name, m := range map[string]Manifest{"good-full.json": goodManifest(), "good-base-alone.json": func() Manifest {
		m := goodManifest()
		m.Images, m.Tools, m.Identity = m.Images[1:2], nil, nil
		return m
	}()} {
		t.Run(name, func(t *testing.T) {
			got := m.Encode()
			golden := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("Encode (-want +got):\n%s", diff)
			}
			back, err := ParseManifest(got)
			if err != nil {
				t.Fatal(err)
			}
			if m.Tools == nil {
				m.Tools = []Tool{}
			}
			if m.Identity == nil {
				m.Identity = []identity.Setting{}
			}
			if m.Rules == nil {
				m.Rules = []rule.Rule{}
			}
			if diff := cmp.Diff(m, back); diff != "" {
				t.Errorf("ParseManifest (-want +got):\n%s", diff)
			}
		})
	}
}

func TestManifestThatIsNotCanonicalIsRefusedWithItsPlace(t *testing.T) {
	m := goodManifest()
	good := string(m.Encode())
	cases := []struct{ name, old, new, want string }{
		{"a newer format, whatever else it holds", `"format": 1,`, `"format": 2, "colour": "red",`, "format 2 is newer than what this veneer reads, 1: update"},
		{"no format", `"format": 1,`, ``, `line 2: want the field "format"`},
		{"a negative format", `"format": 1,`, `"format": -1,`, `format: -1 is not 1`},
		{"a format that is no number", `"format": 1,`, `"format": "1",`, "line 2: "},
		{"an unknown field", `"epoch": 7,`, `"epoch": 7,` + "\n" + `  "colour": "red",`, `line 6: want the field "architecture", found "\"colour\": \"red\","`},
		{"a doubled field", `"epoch": 7,`, `"epoch": 7,` + "\n" + `  "epoch": 8,`, `line 6: want the field "architecture"`},
		{"another case", `"epoch"`, `"Epoch"`, `line 5: want the field "epoch"`},
		{"another order", "  \"name\": \"demo\",\n  \"version\": \"1.0\",", "  \"version\": \"1.0\",\n  \"name\": \"demo\",", `line 3: want the field "name"`},
		{"another indentation", "\n  \"epoch\"", "\n\t\"epoch\"", `line 5: want 2 spaces`},
		{"an escape that needs none", `"demo"`, `"dem\u006f"`, `line 3: want text in quotes`},
		{"a number with a fraction", `"epoch": 7`, `"epoch": 7.0`, "line 5: "},
		{"a negative epoch", `"epoch": 7`, `"epoch": -7`, "line 5: "},
		{"a size beyond 64 bits", `"size": 8212416`, `"size": 82124160000000000000`, "line 11: "},
		{"a wrong type", `"images": [`, `"images": {`, "line "},
		{"no list at all", `"tools": [`, `"tools": null, "x": [`, "line "},
		{"null for a list", good[strings.Index(good, `"tools": [`):], "\"tools\": null\n}\n", `want "[", found "null"`},
		{"text behind the end", "\n}\n", "\n}\n{}\n", `want the end, found "{}"`},
		{"no newline at the end", "\n}\n", "\n}", `want a new line, found the end`},
		{"a cut", good[strings.Index(good, `"images": [`):], "", `found the end`},
		{"a name of bytes that are no text", `"demo"`, "\"de\xffmo\"", `line 3: want text in quotes`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			i := strings.LastIndex(good, c.old)
			if i < 0 {
				t.Fatalf("%q is not in the manifest", c.old)
			}
			if strings.Count(good, c.old) > 1 && c.old != "\n}\n" {
				i = strings.Index(good, c.old)
			}
			_, err := ParseManifest([]byte(good[:i] + c.new + good[i+len(c.old):]))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ParseManifest = %v, want %q", err, c.want)
			}
		})
	}
	if _, err := ParseManifest(make([]byte, MaxManifest+1)); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("ParseManifest of too much = %v", err)
	}
}

func TestValidateNamesEachProblem(t *testing.T) {
	cases := []struct {
		name string
		bend func(*Manifest)
		want string
	}{
		{"a build of the far future", func(m *Manifest) { m.Built = 1 << 33 }, "built: 8589934592 lies outside 1970 to 2106"},
		{"a preset that is none", func(m *Manifest) { m.Identity[0].Name = "soul" }, `identity[0]: "soul" is no preset`},
		{"a mode that is none", func(m *Manifest) { m.Identity[1].Mode = "derived" }, `identity[1]: "derived" is no mode of hostname`},
		{"an identity that nothing keeps", func(m *Manifest) { m.Identity[0].Mode = identity.Persist }, `identity[0]: nothing is kept on this machine`},
		{"a preset that is there twice", func(m *Manifest) { m.Identity[1] = m.Identity[0] }, `identity[1]: machine-id is there twice`},
		{"another format", func(m *Manifest) { m.Format = 3 }, "format: 3 is not 1"},
		{"no name", func(m *Manifest) { m.Name = "" }, "name: "},
		{"a name with a slash", func(m *Manifest) { m.Name = "a/b" }, "slash"},
		{"a name that plays with the console", func(m *Manifest) { m.Name = "a\x1b[2J" }, "cannot be printed"},
		{"a name that turns the writing around", func(m *Manifest) { m.Name = "a\u202eb" }, "cannot be printed"},
		{"a version that leads upwards", func(m *Manifest) { m.Version = ".." }, "version: "},
		{"a long release", func(m *Manifest) { m.Kernel.Release = strings.Repeat("r", 256) }, "kernel.release: "},
		{"an unknown architecture", func(m *Manifest) { m.Architecture = "vax" }, `architecture: "vax"`},
		{"an empty kernel", func(m *Manifest) { m.Kernel.Size = 0 }, "kernel.size: "},
		{"a kernel elsewhere", func(m *Manifest) { m.Kernel.Name = "../vmlinuz" }, "kernel.name: "},
		{"one name for two files", func(m *Manifest) { m.Kernel.Name = m.Initramfs.Name }, "initramfs.name: "},
		{"a digest that is none", func(m *Manifest) { m.Initramfs.SHA256 = "abc" }, "initramfs.sha256: "},
		{"a digest in capitals", func(m *Manifest) { m.Initramfs.SHA256 = strings.Repeat("A", 64) }, "initramfs.sha256: "},
		{"an unknown upper", func(m *Manifest) { m.Root.Upper = "floppy" }, "root: "},
		{"a size of the upper that is none", func(m *Manifest) { m.Root.Size = "a lot" }, "root: "},
		{"an unknown policy", func(m *Manifest) { m.Root.OnFail = "pray" }, "root.on-fail: "},
		{"fallback", func(m *Manifest) { m.Root.OnFail = "fallback" }, "not supported by this version"},
		{"an unknown policy for another base", func(m *Manifest) { m.Root.BaseChange = "hope" }, "root.base-change: "},
		{"an upper to keep, and no place for it", func(m *Manifest) { m.Root.Upper = "persistent" }, "needs a state"},
		{"a rule that keeps something, and no place for it", func(m *Manifest) { m.Rules = []rule.Rule{{Path: "/var", Action: rule.Persist}} }, "declare [state]"},
		{"rules that contradict each other", func(m *Manifest) {
			m.Rules = []rule.Rule{{Path: "/a", Action: rule.Mask}, {Path: "/a", Action: rule.ReadOnly}}
		}, "says mask already"},
		{"a state nowhere in particular", func(m *Manifest) { m.State.Place = "disk" }, "state.place: "},
		{"an unknown policy for a missing state", func(m *Manifest) { m.State = State{Place: "store", Missing: "cry"} }, "state.missing: "},
		{"a state on an unknown file system", func(m *Manifest) { m.State = State{Place: "store", FileSystem: "vfat"} }, "state.filesystem: "},
		{"a state as large as a share of RAM", func(m *Manifest) { m.State = State{Place: "store", Size: "50%"} }, "state.size: "},
		{"an encrypted store", func(m *Manifest) { m.State = State{Place: "store", Unlock: "tpm2"} }, "partition of its own"},
		{"an unknown way to unlock", func(m *Manifest) { m.State = State{Place: "LABEL=S", Unlock: "sesame"} }, "state.unlock: "},
		{"a key file without a file", func(m *Manifest) { m.State = State{Place: "LABEL=S", Unlock: "key-file"} }, "state.key-file: "},
		{"a key file for a passphrase", func(m *Manifest) { m.State = State{Place: "LABEL=S", Unlock: "passphrase", KeyFile: "LABEL=K:/k"} }, "state.key-file: "},
		{"a negative number of tries", func(m *Manifest) { m.State = State{Place: "store", Tries: -1} }, "state.tries: "},
		{"more than all the room", func(m *Manifest) { m.State = State{Place: "store", Critical: 101} }, "state.critical: "},
		{"a warning after the fact", func(m *Manifest) { m.State = State{Place: "store", Warning: 90, Critical: 80} }, "state.warning: "},
		{"an unknown end of the room", func(m *Manifest) { m.State = State{Place: "store", Full: "delete"} }, "state.full: "},
		{"a relative path for rules of the site", func(m *Manifest) { m.State = State{Place: "store", RulePaths: []string{"srv"}} }, "state.rule-paths: "},
		{"a policy for a state that is not there", func(m *Manifest) { m.State = State{Create: true} }, "state.place: "},
		{"an unknown corruption policy", func(m *Manifest) { m.Corruption = "ignore" }, `corruption: "ignore"`},
		{"no images", func(m *Manifest) { m.Images = nil }, "images: 0 of them"},
		{"too many images", func(m *Manifest) { m.Images = make([]Image, 501) }, "images: 501 of them"},
		{"no base", func(m *Manifest) { m.Images = m.Images[:1] }, "0 bases"},
		{"two bases", func(m *Manifest) { m.Images[2].Role = RoleBase }, "2 bases"},
		{"a layer under the base", func(m *Manifest) { m.Images[1], m.Images[2] = m.Images[2], m.Images[1] }, "images[2]: base is out of order"},
		{"tools on top", func(m *Manifest) { m.Images[2].Role = RoleTools }, "images[2]: tools is out of order"},
		{"two tools", func(m *Manifest) { m.Images = append(m.Images[:1:1], m.Images...) }, "images[1]: tools is out of order"},
		{"an unknown role", func(m *Manifest) { m.Images[2].Role = "hat" }, `images[2].role: "hat"`},
		{"an ID that is none", func(m *Manifest) { m.Images[0].ID = "../../etc/passwd" }, "is not an image ID"},
		{"one image twice", func(m *Manifest) { m.Images[2].ID = m.Images[1].ID }, "images[2].id"},
		{"an unknown file system", func(m *Manifest) { m.Images[0].FileSystem = "ntfs" }, `filesystem: "ntfs"`},
		{"another hash", func(m *Manifest) { m.Images[0].Verity.Algorithm = "md5" }, "verity.algorithm"},
		{"another block size", func(m *Manifest) { m.Images[0].Verity.BlockSize = 512 }, "verity.block-size"},
		{"no data", func(m *Manifest) { m.Images[0].Verity.DataBlocks = 0 }, "verity.data-blocks"},
		{"data that would overflow", func(m *Manifest) { m.Images[0].Verity.DataBlocks = 1 << 62 }, "verity.data-blocks"},
		{"hashes within the data", func(m *Manifest) { m.Images[1].Verity.HashOffset = 4096 }, "verity.hash-offset"},
		{"hashes before the data", func(m *Manifest) { m.Images[1].Verity.HashOffset = -4096 }, "verity.hash-offset"},
		{"hashes between blocks", func(m *Manifest) { m.Images[1].Verity.HashOffset++ }, "verity.hash-offset"},
		{"hashes that would overflow", func(m *Manifest) { m.Images[1].Verity.HashOffset = 1<<63 - 4096 }, "verity.hash-offset"},
		{"no room for the tree", func(m *Manifest) { m.Images[1].Size -= blockSize }, "size: "},
		{"a salt that is none", func(m *Manifest) { m.Images[1].Verity.Salt = "salt" }, "verity.salt"},
		{"a salt beyond the superblock", func(m *Manifest) { m.Images[1].Verity.Salt = strings.Repeat("00", 257) }, "verity.salt"},
		{"too many tools", func(m *Manifest) { m.Tools = make([]Tool, 65) }, "tools: 65"},
		{"a tool that plays with the console", func(m *Manifest) { m.Tools[0].Version = "\r" }, "tools[0].version"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := goodManifest()
			c.bend(&m)
			if err := m.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Validate() = %v, want %q", err, c.want)
			}
		})
	}
	if m := goodManifest(); m.Validate() != nil {
		t.Errorf("Validate() of a good manifest = %v", m.Validate())
	}
}

func TestValidateReportsAllProblemsAtOnce(t *testing.T) {
	m := goodManifest()
	m.Name, m.Corruption, m.Images[1].Size = "", "ignore", 1
	err := m.Validate()
	for _, want := range []string{"name: ", "corruption: ", "images[1]: size: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate() = %v, want %q in it", err, want)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	files, _ := filepath.Glob("testdata/good-*.json")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			return
		}
		if again := m.Encode(); string(again) != string(text) {
			t.Errorf("accepted a manifest that is not canonical")
		}
		if err := m.Validate(); err != nil {
			t.Errorf("accepted a manifest that is not valid: %v", err)
		}
	})
}

func TestATPMMayHaveAKeyFileBesideIt(t *testing.T) {
	for _, file := range []string{"", "LABEL=KEYS:/state.key"} {
		if err := (State{Place: "PARTLABEL=state", Unlock: UnlockTPM2, KeyFile: file}).Check(); err != nil {
			t.Errorf("Check() with the key file %q = %v", file, err)
		}
	}
}
