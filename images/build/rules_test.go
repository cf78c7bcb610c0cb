package build

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/overlay/rule"
)

// treeOf makes a tree of paths: one that ends in a slash is a directory, one with an arrow a link, others are files with a content.
func treeOf(files map[string]string) *Tree {
	t := &Tree{Source: "a tree", content: memory{}, Root: Entry{Path: ".", Mode: unix.S_IFDIR | 0o755}}
	dirs := map[string]bool{}
	var dir func(p string)
	dir = func(p string) {
		if i := strings.LastIndexByte(p, '/'); i > 0 {
			dir(p[:i])
		}
		if !dirs[p] {
			dirs[p] = true
			t.Entries = append(t.Entries, &Entry{Path: p, Mode: unix.S_IFDIR | 0o755})
		}
	}
	for p, text := range files {
		if d, ok := strings.CutSuffix(p, "/"); ok {
			dir(d)
			continue
		}
		if i := strings.LastIndexByte(p, '/'); i > 0 {
			dir(p[:i])
		}
		e := &Entry{Path: p, Mode: unix.S_IFREG | 0o644, Size: int64(len(text)), data: []byte(text)}
		if to, ok := strings.CutPrefix(text, "-> "); ok {
			e = &Entry{Path: p, Mode: unix.S_IFLNK | 0o777, Target: to}
		}
		t.Entries = append(t.Entries, e)
	}
	t.finish()
	return t
}

// gather is gatherRules for a veneer.toml and the trees of a base and, perhaps, one layer.
func gather(t *testing.T, toml string, base, layer map[string]string) ([]rule.Rule, *builder, error) {
	t.Helper()
	c, err := ParseConfig("veneer.toml", []byte(smallest+toml))
	if err != nil {
		t.Fatal(err)
	}
	b := &builder{spec: Spec{Config: c}, jobs: []*imageJob{{role: images.RoleBase, tree: treeOf(base)}}}
	if layer != nil {
		b.jobs = append(b.jobs, &imageJob{role: images.RoleLayer, tree: treeOf(layer)})
	}
	rules, err := b.gatherRules()
	return rules, b, err
}

func asText(rules []rule.Rule) string {
	var words []string
	for _, r := range rules {
		words = append(words, r.Path+"="+string(r.Action))
	}
	return strings.Join(words, " ")
}

const inStore = "[state]\nplace = \"store\"\n"

func ruleText(path, action, more string) string {
	return "[[rules]]\npath = \"" + path + "\"\naction = \"" + action + "\"\n" + more
}

func TestTheRulesOfABuild(t *testing.T) {
	debian := map[string]string{"etc/": "", "var/lib/dpkg/": "", "var/tmp/": ""}
	for _, c := range []struct {
		name, toml  string
		base, layer map[string]string
		want        string
	}{
		{"none, where nothing is said", "", debian, nil, ""},
		{"/etc is merged where there is a state", inStore, debian, nil, "/etc=merge"},
		{"/etc is as volatile as the root where that is asked for", inStore + "[etc]\npolicy = \"transient\"\n", debian, nil, ""},
		{"/etc is ephemeral in a root that is kept", "root.upper = \"persistent\"\n" + inStore + "[etc]\npolicy = \"transient\"\n", debian, nil, "/etc=ephemeral"},
		{"a package database does not outlive its packages", inStore + ruleText("/var", "persist", ""), debian, nil, "/etc=merge /var=persist /var/lib/dpkg=ephemeral"},
		{"unless somebody has said so", inStore + ruleText("/var", "persist", "") + ruleText("/var/lib/dpkg", "persist", ""), debian, nil, "/etc=merge /var=persist /var/lib/dpkg=persist"},
		{"or the packages are kept too", "root.upper = \"persistent\"\n" + inStore + ruleText("/var", "persist", ""), debian, nil, "/etc=merge /var=persist"},
		{"the tree brings rules along", inStore, map[string]string{"etc/": "", "usr/lib/veneer/rules.d/10-app.toml": ruleText("/srv", "persist", "")}, nil, "/etc=merge /srv=persist"},
		{"a layer's file hides that of the base", inStore, map[string]string{"usr/lib/veneer/rules.d/a.toml": ruleText("/srv", "persist", "")},
			map[string]string{"usr/lib/veneer/rules.d/a.toml": ruleText("/opt", "mask", "")}, "/etc=merge /opt=mask"},
		{"the veneer.toml may replace one", inStore + ruleText("/srv", "mask", "replace = true\n"), map[string]string{"usr/lib/veneer/rules.d/a.toml": ruleText("/srv", "persist", "")}, nil, "/etc=merge /srv=mask"},
		{"the tree's word on /etc replaces the default", inStore, map[string]string{"etc/": "", "usr/lib/veneer/rules.d/a.toml": ruleText("/etc", "read-only", "")}, nil, "/etc=read-only"},
		{"other files there are no rules", inStore, map[string]string{"usr/lib/veneer/rules.d/README": "hello"}, nil, "/etc=merge"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules, _, err := gather(t, c.toml, c.base, c.layer)
			if err != nil || asText(rules) != c.want {
				t.Errorf("gatherRules() = %s, %v, want %s", asText(rules), err, c.want)
			}
		})
	}
}

func TestRulesThatDoNotFitTheTreeAreRefused(t *testing.T) {
	for _, c := range []struct {
		name, toml string
		base       map[string]string
		want       string
	}{
		{"two of one path", inStore + ruleText("/srv", "persist", ""), map[string]string{"usr/lib/veneer/rules.d/a.toml": ruleText("/srv", "mask", "")}, "with replace = true"},
		{"two of one path in the tree", inStore, map[string]string{"usr/lib/veneer/rules.d/a.toml": ruleText("/srv", "mask", ""), "usr/lib/veneer/rules.d/b.toml": ruleText("/srv", "persist", "")}, "two rules for /srv: in "},
		{"one with an unknown key", inStore, map[string]string{"usr/lib/veneer/rules.d/a.toml": "[[rules]]\npaht = \"/x\"\n"}, "a.toml: line 2: unknown key rules.paht"},
		{"a link in the place of the path", inStore + ruleText("/home", "persist", ""), map[string]string{"home": "-> /var/home"}, "/home is a symbolic link to /var/home"},
		{"a link on the way", inStore + ruleText("/home/me", "persist", ""), map[string]string{"home": "-> var/home"}, "/home is a symbolic link"},
		{"a file on the way", inStore + ruleText("/home/me", "persist", ""), map[string]string{"home": "x"}, "/home is no directory"},
		{"an overlay over a file", inStore + ruleText("/f", "merge", ""), map[string]string{"f": "x"}, "persist keeps a file"},
		{"an ephemeral file", ruleText("/f", "ephemeral", ""), map[string]string{"f": "x"}, "make its directory ephemeral"},
		{"nothing that could be read-only", ruleText("/f", "read-only", ""), map[string]string{"g": "x"}, "nothing there that could be read"},
		{"a rule that masks what another keeps", inStore + ruleText("/a", "mask", ""), map[string]string{"usr/lib/veneer/rules.d/a.toml": ruleText("/a/b", "persist", "")}, "is masked"},
		{"an fstab that mounts over it", inStore + ruleText("/home", "persist", ""), map[string]string{"etc/fstab": "# /home\nUUID=1 /home ext4 defaults 0 2\n"}, "/etc/fstab of the tree, line 2: mounts /home"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules, _, err := gather(t, c.toml, c.base, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("gatherRules() = %s, %v, want a refusal with %q", asText(rules), err, c.want)
			}
		})
	}
}

func TestARuleThatIsAddedIsTold(t *testing.T) {
	_, b, err := gather(t, inStore+ruleText("/var", "persist", ""), map[string]string{"var/lib/dpkg/": ""}, nil)
	if err != nil || len(b.report.Notes) != 1 || !strings.Contains(b.report.Notes[0], "/var/lib/dpkg is ephemeral") {
		t.Errorf("notes %q, %v", b.report.Notes, err)
	}
}
