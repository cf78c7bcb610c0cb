package build

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/images"
	"veneer/overlay/identity"
)

// smallest is a veneer.toml with nothing in it that has a default.
const smallest = `name = "n"
version = "1"
source = "tree"
keys.secret = "k.key"
`

func TestDefaultsAreThoseOfTheDocumentation(t *testing.T) {
	c, err := ParseConfig("veneer.toml", []byte(smallest))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Name: "n", Version: "1", Source: "tree", Corruption: images.EIO, Store: "LABEL=VENEER", Tools: true, Outputs: []string{"store"},
		FileSystem: FileSystem{Type: "squashfs", blockSize: 131072}, Kernel: KernelConfig{From: "tree", Modules: ModulesConfig{Policy: "generic"}},
		Root: RootConfig{Upper: "tmpfs", Size: "50%", OnFail: "reboot"}, Keys: KeysConfig{Secret: "k.key"},
		State: StateConfig{Place: "none", Missing: "fail", FileSystem: "ext4", Unlock: "none", Warning: 80, Critical: 95}, Trust: TrustConfig{TPM: "none"}}
	if diff := cmp.Diff(want, c, cmp.AllowUnexported(FileSystem{})); diff != "" {
		t.Errorf("ParseConfig() (-want +got):\n%s", diff)
	}
}

func TestEachMistakeIsReportedWithItsLine(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"an unknown key", smallest + "nmae = 1\n", `f:5: unknown key nmae`},
		{"an unknown key in a table", smallest + "[root]\n\nsiez = \"1G\"\n", `f:7: unknown key root.siez`},
		{"an unknown key in a list of tables", smallest + "[[layers]]\nname = \"a\"\nsource = \"b\"\npath = \"c\"\n", `f:8: unknown key layers.path`},
		{"a wrong type", smallest + "epoch = \"new\"\n", `f:5:9: epoch: `},
		{"a negative epoch", smallest + "epoch = -1\n", `f:5:9: epoch: `},
		{"text that is not TOML", "name = \n", `f:1:`},
		{"a name of two parts", strings.Replace(smallest, `"n"`, `"a/b"`, 1), `f:1: name: "a/b"`},
		{"no name", strings.Replace(smallest, "name = \"n\"\n", "", 1), `f: name: missing`},
		{"no source", strings.Replace(smallest, "source = \"tree\"\n", "", 1), `f: source: missing`},
		{"no key", strings.Replace(smallest, "keys.secret = \"k.key\"\n", "", 1), `f: keys.secret: missing: make a key with 'veneer keygen'`},
		{"an architecture of the kernel's spelling", smallest + "architecture = \"x86_64\"\n", `f:5: architecture: "x86_64" is neither amd64 nor arm64`},
		{"a corruption policy", smallest + "corruption = \"ignore\"\n", `f:5: corruption: "ignore" is none of`},
		{"a store that is no device", smallest + "store = \"VENEER\"\n", `f:5: store: device reference`},
		{"a store that ends its word", smallest + "store = 'LABEL=a\" veneer.verify=none'\n", `f:5: store: `},
		{"a store of two lines", smallest + "store = \"LABEL=a\\nb\"\n", `f:5: store: `},
		{"a wait that is no time", smallest + "wait = \"long\"\n", `f:5: wait: `},
		{"a wait that ends its word", smallest + "wait = \"1 veneer.verify=none\"\n", `f:5: wait: `},
		{"an output that is none", smallest + "outputs = [\"floppy\"]\n", `f:5: outputs[0]: "floppy" is not an output`},
		{"a file system", smallest + "filesystem.type = \"ext4\"\n", `f:5: filesystem.type: "ext4" is neither`},
		{"a block size", smallest + "filesystem.block-size = \"3K\"\n", `f:5: filesystem.block-size: "3K" is not a power of two`},
		{"a block size that is too large", smallest + "filesystem.block-size = \"2M\"\n", `f:5: filesystem.block-size: "2M" is not`},
		{"a level", smallest + "[filesystem]\ntype = \"erofs\"\nlevel = 13\n", `f:7: filesystem.level: 13: the levels for erofs are 1 to 12`},
		{"modules of a kernel that brings its own", smallest + "kernel.modules-dir = \"m\"\n", `f:5: kernel.modules-dir: the kernel from "tree" brings`},
		{"a list for another policy", smallest + "kernel.modules.list = [\"loop\"]\n", `f:5: kernel.modules.list: is for policy = "list"`},
		{"a policy for modules", smallest + "[kernel]\nmodules = {policy = \"all\"}\n", `f:6: kernel.modules.policy: "all" is neither`},
		{"an upper of no kind", smallest + "root.upper = \"disk\"\n", `f:5: root.upper: "disk" is neither tmpfs nor persistent`},
		{"a persistent upper and no place for it", smallest + "root.upper = \"persistent\"\n", `f:5: root.upper: "persistent" needs a place to be kept in: declare state.place`},
		{"a base change of what never meets one", smallest + "root.base-change = \"keep\"\n", `f:5: root.base-change: is for root.upper`},
		{"a state nowhere", smallest + "state.place = \"disk\"\n", `f:5: state.place: want none, store, or a device`},
		{"a policy for a state that is not there", smallest + "state.create = true\n", `f: state.place: missing`},
		{"a missing state", smallest + "[state]\nplace = \"store\"\nmissing = \"x\"\n", `f:7: state.missing: policy "x" is unknown`},
		{"a file system for the state", smallest + "[state]\nplace = \"store\"\nfilesystem = \"fat\"\n", `f:7: state.filesystem: "fat" is none of`},
		{"encryption of the store", smallest + "[state]\nplace = \"store\"\nunlock = \"tpm2\"\n", `f:7: state.unlock: "tpm2" needs a partition of its own`},
		{"a rule that is none", smallest + "[state]\nplace = \"store\"\n[[rules]]\npath = \"/a\"\naction = \"keep\"\n", `f:9: rules[0].action: "keep" is none of`},
		{"a rule for nothing", smallest + "[[rules]]\npath = \"a\"\naction = \"mask\"\n", `f:6: rules[0].path: "a" is not an absolute path`},
		{"a rule that keeps something nowhere", smallest + "[[rules]]\npath = \"/a\"\naction = \"persist\"\n", `f:7: rules[0].action: "persist" needs a place to keep things`},
		{"an unknown key of a rule", smallest + "[[rules]]\npath = \"/a\"\naction = \"mask\"\ndo = \"mask\"\n", `f:8: unknown key rules.do`},
		{"two rules for one path", smallest + "[[rules]]\npath = \"/a\"\naction = \"mask\"\n[[rules]]\npath = \"/a\"\naction = \"read-only\"\n", `f:9: rules[1].path: a rule for this path says mask already`},
		{"a policy for /etc", smallest + "etc.policy = \"x\"\n", `f:5: etc.policy: "x" is none of merge, keep, allow-list, transient`},
		{"a policy for /etc that keeps it nowhere", smallest + "etc.policy = \"merge\"\n", `f:5: etc.policy: "merge" needs a place`},
		{"an allow-list of nothing", smallest + "[state]\nplace = \"store\"\n[etc]\npolicy = \"allow-list\"\n", `f:8: etc.policy: allow-list needs etc.allow`},
		{"an allow-list of a policy that keeps all", smallest + "[state]\nplace = \"store\"\n[etc]\npolicy = \"keep\"\nallow = [\"a\"]\n", `f:8: etc.policy: etc.allow is for the policy allow-list`},
		{"a policy and a rule for /etc", smallest + "[state]\nplace = \"store\"\n[etc]\npolicy = \"merge\"\n[[rules]]\npath = \"/etc\"\naction = \"merge\"\n", `f:10: rules[0].path: /etc has a policy already`},
		{"a size", smallest + "root.size = \"200%\"\n", `f:5: root.size: `},
		{"a fallback", smallest + "root.on-fail = \"fallback\"\n", `f:5: root.on-fail: policy "fallback" is not supported by this version`},
		{"a shell that is not there", smallest + "root.on-fail = \"shell\"\n", `f:5: root.on-fail: shell needs rescue-shell = true`},
		{"two keys of one name", smallest + "keys.trusted = [\"a/k.pub\", \"b/k.pub\"]\n", `f:5: keys.trusted[1]: two keys named "k"`},
		{"a loss that is none", smallest + "allow.losses = [\"data\"]\n", `f:5: allow.losses[0]: "data" is not a loss; those that can be allowed are acl, `},
		{"a preset that is none", smallest + "[identity]\nmachine-id = \"per-boot\"\nhost-keys = \"generate\"\n", `f:7: unknown key identity.host-keys`},
		{"a mode that is none", smallest + "[identity]\n\nmachine-id = \"generate\"\n", `f:7: identity.machine-id: "generate" is no mode of machine-id; want one of persist, per-boot, derived, inherit`},
		{"what nothing keeps", smallest + "[identity]\nhostname = \"persist\"\n", `f:6: identity.hostname: nothing is kept on this machine: persist needs a state`},
		{"what nobody looks for", smallest + "[identity]\nstrict = true\nallow = [\"passwords\", \"faces\"]\n", `f:7: identity.allow[1]: "faces" is none of what is looked for: credential-secret, `},
		{"a key spelt otherwise", smallest + "[root]\nSize = \"1G\"\n", `f:6: unknown key root.Size: keys are in lower case`},
		{"a layer without a source", smallest + "layers = [{name = \"a\"}]\n", `f:5: layers[0].source: missing`},
		{"a line that asks a smaller init for more", smallest + "variant = \"local\"\nboot.cmdline = \"veneer.toram\"\n", `f:6: boot.cmdline: veneer.toram`},
		{"a line for a network that is not there", smallest + "variant = \"live\"\nboot.cmdline = \"veneer.url=http://h/\"\n", `f:6: boot.cmdline: veneer.url`},
		{"a line without verification", smallest + "boot.cmdline = \"veneer.verify=none\"\n", `f:5: boot.cmdline: veneer.verify=none: needs allow-unsigned`},
		{"a line with a shell that is not there", smallest + "boot.cmdline = \"veneer.on-fail=shell\"\n", `f:5: boot.cmdline: veneer.on-fail=shell`},
		{"a line with an address that is none", smallest + "outputs = [\"netboot\"]\nboot.cmdline = \"ip=junk\"\n", `f:6: boot.cmdline: `},
		{"a state on an ISO", smallest + "outputs = [\"iso\"]\nstate.place = \"store\"\n", `f:6: state.place: an ISO and a server cannot be written to`},
		{"a label that ext4 has no room for", smallest + "store = \"LABEL=ABCDEFGHIJKLMNOPQ\"\n", `f:5: store: label`},
		{"two layers of one name", smallest + "[[layers]]\nname = \"a\"\nsource = \"x\"\n[[layers]]\nname = \"a\"\nsource = \"y\"\n", `f:9: layers[1].name: "a" is taken`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseConfig("f", []byte(tt.text))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("ParseConfig() = %v, want %s…", err, tt.want)
			}
		})
	}
}

func TestAllMistakesAreReportedInTheOrderOfTheText(t *testing.T) {
	_, err := ParseConfig("f", []byte("name = \"\"\nfoo = 1\nversion = \"1\"\n[root]\nsize = \"x\"\nbar = 2\n[filesystem]\ntype = \"fat\"\n"))
	if err == nil {
		t.Fatal("ParseConfig() = nil")
	}
	var got []string
	for _, line := range strings.Split(err.Error(), "\n") {
		got = append(got, regexp.MustCompile(`^f(:\d+)?: (unknown key )?[a-z.-]+`).FindString(line))
	}
	want := []string{"f: source", "f: keys.secret", "f:1: name", "f:2: unknown key foo", "f:5: root.size", "f:6: unknown key root.bar", "f:8: filesystem.type"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mistakes (-want +got):\n%s", diff)
	}
}

func TestPathsAreRelativeToTheFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "veneer.toml"), smallest+"keys.trusted = [\"/abs.pub\", \"rel.pub\"]\n")
	c, err := Load(filepath.Join(dir, "veneer.toml"))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.Source, c.Keys.Secret, c.Keys.Trusted[0], c.Keys.Trusted[1], c.Kernel.From, c.Previous}
	want := []string{filepath.Join(dir, "tree"), filepath.Join(dir, "k.key"), "/abs.pub", filepath.Join(dir, "rel.pub"), "tree", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

// The documentation names each key, and the examples say nothing that would be refused.
func TestDocumentationAndExamplesAreTrue(t *testing.T) {
	doc := string(read(t, "../../docs/veneer-toml.md"))
	for _, key := range []string{"name", "version", "epoch", "architecture", "source", "previous", "corruption", "store", "wait", "rescue-shell", "allow-unsigned", "tools", "variant", "pins",
		"outputs", "filesystem.type", "filesystem.block-size", "filesystem.level", "kernel.from", "kernel.modules-dir", "kernel.modules.policy", "kernel.modules.list",
		"root.upper", "root.size", "root.on-fail", "keys.secret", "keys.trusted", "allow.losses", "allow.strict", "identity.strict", "identity.allow", "root.base-change", "state.place", "state.missing", "state.create", "state.grow", "state.filesystem", "state.size", "state.unlock", "state.key-file", "state.tries",
		"state.warning", "state.critical", "state.full", "state.rule-paths", "etc.policy", "etc.allow", "etc.deny", "etc.entries", "etc.site",
		"rules.path", "rules.action", "rules.form", "rules.owner", "rules.mode", "rules.allow", "rules.deny", "rules.base-change", "rules.entries", "rules.site", "rules.replace",
		"layers.name", "layers.source", "layers.allow"} {
		if !strings.Contains(doc, "| `"+key+"` |") {
			t.Errorf("docs/veneer-toml.md has no row for %s", key)
		}
	}
	media := string(read(t, "../../docs/boot-media.md"))
	for i := range reflect.TypeFor[BootConfig]().NumField() {
		if key := "boot." + reflect.TypeFor[BootConfig]().Field(i).Tag.Get("toml"); !strings.Contains(media, "| `"+key+"` |") {
			t.Errorf("docs/boot-media.md has no row for %s", key)
		}
	}
	for name := range losses {
		if !strings.Contains(doc, "| `"+string(name)+"` |") {
			t.Errorf("docs/veneer-toml.md has no row for the loss %s", name)
		}
	}
	for kind := range baked {
		if !strings.Contains(doc, "| `"+string(kind)+"` |") {
			t.Errorf("docs/veneer-toml.md has no row for %s, which is looked for", kind)
		}
	}
	for _, name := range identity.Names() {
		if !strings.Contains(doc, "| `identity."+name+"` |") {
			t.Errorf("docs/veneer-toml.md has no row for the preset %s", name)
		}
	}
	examples, err := filepath.Glob("../../examples/*/veneer.toml")
	more, merr := filepath.Glob("../../examples/*.toml")
	if err != nil || merr != nil || len(examples) == 0 || len(more) == 0 {
		t.Fatalf("examples: %v %v, %v %v", examples, more, err, merr)
	}
	for _, path := range append(examples, more...) {
		if _, err := Load(path); err != nil {
			t.Error(err)
		}
	}
}

// The document of identities shows what the examples have: the files are the source, the document quotes them whole.
func TestTheDocumentOfIdentitiesQuotesTheExamples(t *testing.T) {
	text, err := os.ReadFile("../../docs/identity.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	for _, name := range []string{"kiosk", "live-stick", "cloud-vm", "device"} {
		example, err := os.ReadFile("../../examples/" + name + ".toml")
		if err != nil {
			t.Fatal(err)
		}
		_, section, found := strings.Cut(string(example), "\n[identity]")
		section, _, _ = strings.Cut(section, "\n\n")
		if !found {
			t.Errorf("examples/%s.toml has no [identity]", name)
		}
		_, quoted, _ := strings.Cut(doc, "(../examples/"+name+".toml)")
		_, quoted, _ = strings.Cut(quoted, "```toml\n[identity]")
		quoted, _, _ = strings.Cut(quoted, "\n```")
		if diff := cmp.Diff(section, quoted); diff != "" {
			t.Errorf("docs/identity.md against examples/%s.toml (-example +document):\n%s", name, diff)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(smallest))
	f.Add([]byte(smallest + "[[layers]]\nname = \"a\"\nsource = \"x\"\nallow = [\"acl\"]\n[kernel]\nmodules = {policy = \"list\", list = [\"loop\"]}\n"))
	f.Add([]byte("a.b.c = [[{d = 1}], 2, \"\"\"x\ny\"\"\"]\n\"\" = 'z'\n[x.\"y\"]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig("f", text)
		if err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				if line == "" {
					t.Errorf("an empty line in %q", err)
				}
			}
			return
		}
		if c.Name == "" || c.Source == "" || c.FileSystem.blockSize < 4096 || c.Keys.Secret == "" && !c.AllowUnsigned {
			t.Errorf("accepted: %+v", c)
		}
	})
}

func TestAConfigThatIsNotThereNamesTheFlag(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "veneer.toml"))
	if !os.IsNotExist(err) && (err == nil || !strings.Contains(err.Error(), "-f")) {
		t.Errorf("Load() = %v", err)
	}
}

func TestTheLineOfTheKernelRaisesTheVariantAndTheStoreNamesItsFileSystem(t *testing.T) {
	c, err := ParseConfig("f", []byte(smallest+"store = \"LABEL=MYSTORE\"\nboot.cmdline = \"veneer.toram\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.variant() != "live" || c.label() != "MYSTORE" {
		t.Errorf("variant %s, label %s", c.variant(), c.label())
	}
}
