package overlay

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/overlay/mount"
	"veneer/overlay/mount/mounttest"
	"veneer/overlay/rule"
)

const state = "/run/veneer/state/"

func placeOf(r rule.Rule, t FileType, lowers ...string) Place {
	name := strings.ReplaceAll(r.Path[1:], "/", "-")
	p := Place{Effective: rule.Effective{Rule: r, Origin: rule.FromBase}, Base: Found{Type: t}, Name: name, Kept: state + "data/" + name}
	for _, l := range lowers {
		p.Base.At = append(p.Base.At, l+r.Path)
	}
	return p
}

func treeOf(upper boot.UpperKind, places ...Place) Tree {
	return Tree{Root: "/sysroot", Upper: upper, Volatile: "/run/veneer/upper", Masks: "/run/veneer/masks", LinkDir: "/run/veneer/lower", Places: places}
}

func TestPlansOfRulesAreTheGoldenOnes(t *testing.T) {
	const base, layer = "/run/veneer/base", "/run/veneer/layers/1"
	etc := placeOf(rule.Rule{Path: "/etc", Action: rule.Merge}, Directory, base, layer)
	etc.Kept = state + "etc/1"
	device := []Place{etc,
		placeOf(rule.Rule{Path: "/home", Action: rule.Persist, Owner: "0:0", Mode: "0755"}, Nothing),
		placeOf(rule.Rule{Path: "/var", Action: rule.Persist}, Directory, base),
		placeOf(rule.Rule{Path: "/var/cache", Action: rule.Persist, Form: rule.Overlay}, Directory, base),
		placeOf(rule.Rule{Path: "/var/tmp", Action: rule.Ephemeral}, Directory, base),
	}
	for name, tree := range map[string]Tree{
		"rules-of-the-usual-device":    treeOf(boot.UpperTmpfs, device...),
		"rules-over-a-kept-root":       treeOf(boot.UpperPersistent, append(device, placeOf(rule.Rule{Path: "/var/tmp/x", Action: rule.Ephemeral, Mode: "1777"}, Nothing))...),
		"rules-that-take-away":         treeOf(boot.UpperTmpfs, placeOf(rule.Rule{Path: "/boot", Action: rule.Mask}, Directory, base), placeOf(rule.Rule{Path: "/etc/shadow-", Action: rule.Mask}, File, base), placeOf(rule.Rule{Path: "/nothing", Action: rule.Mask}, Nothing), placeOf(rule.Rule{Path: "/opt", Action: rule.ReadOnly}, Directory, base, layer), placeOf(rule.Rule{Path: "/usr", Action: rule.ReadOnly}, Directory, base)),
		"rules-for-single-files":       treeOf(boot.UpperTmpfs, placeOf(rule.Rule{Path: "/etc/hostname", Action: rule.Persist}, File, base), placeOf(rule.Rule{Path: "/etc/os-release", Action: rule.ReadOnly}, File, base)),
		"rules-with-nothing-beneath":   treeOf(boot.UpperTmpfs, placeOf(rule.Rule{Path: "/srv/www", Action: rule.Merge}, Nothing)),
		"ephemeral-where-all-of-it-is": treeOf(boot.UpperTmpfs, placeOf(rule.Rule{Path: "/srv", Action: rule.Ephemeral}, Directory, base)),
	} {
		t.Run(name, func(t *testing.T) {
			ops, err := PlanRules(tree)
			if err != nil {
				t.Fatal(err)
			}
			var r mount.Recorder
			for _, op := range ops {
				if err := r.Apply(op); err != nil {
					t.Fatal(err)
				}
			}
			golden := filepath.Join("testdata", name+".sh")
			if *update {
				if err := os.WriteFile(golden, []byte(r.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), r.String()); diff != "" {
				t.Errorf("PlanRules() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRulesThatDoNotFitTheirPathAreRefusedAllAtOnce(t *testing.T) {
	_, err := PlanRules(treeOf(boot.UpperPersistent,
		placeOf(rule.Rule{Path: "/bin", Action: rule.ReadOnly}, Link, "/b"),
		placeOf(rule.Rule{Path: "/etc/fstab", Action: rule.Merge}, File, "/b"),
		placeOf(rule.Rule{Path: "/etc/mtab", Action: rule.Ephemeral}, File, "/b"),
		placeOf(rule.Rule{Path: "/none", Action: rule.ReadOnly}, Nothing)))
	if err == nil {
		t.Fatal("PlanRules accepted four rules that cannot be applied")
	}
	for _, want := range []string{"rule for /bin: the images have a symbolic link", "rule for /etc/fstab: the images have a file there",
		"rule for /etc/mtab: a single file cannot be ephemeral", "rule for /none: the images have nothing there"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("PlanRules() does not say %q:\n%v", want, err)
		}
	}
}

// on makes a merged root with the rules applied, in scratch directories that look like a state and two images.
func on(t *testing.T, dir string, shape func(root string), rules ...rule.Rule) (root string, err error) {
	t.Helper()
	base, layer := filepath.Join(dir, "base"), filepath.Join(dir, "layer")
	lowers := []string{base, layer}
	root = stackAt(t, dir, lowers...)
	if shape != nil {
		shape(root)
	}
	effective, err := rule.InForce(rules, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	tree := Tree{Root: root, Upper: boot.UpperTmpfs, Volatile: filepath.Join(dir, "up:p,e\\r"), Masks: filepath.Join(dir, "masks"), LinkDir: filepath.Join(dir, "links")}
	apply := func(ops ...mount.Op) error {
		for _, op := range ops {
			if err := (mount.Kernel{}).Apply(op); err != nil {
				return err
			}
			if undo := op.Undo(); undo != nil {
				t.Cleanup(func() { _ = (mount.Kernel{}).Apply(undo) })
			}
		}
		return nil
	}
	for _, e := range effective {
		found, err := Look(lowers, e.Path)
		if err != nil {
			return root, err
		}
		p := Place{Effective: e, Base: found, Name: strings.ReplaceAll(e.Path[1:], "/", "-")}
		p.Kept = filepath.Join(dir, "state", p.Name)
		switch {
		case e.Overlaid():
			if err := apply(NewUpper(p.Kept, found)...); err != nil {
				t.Fatal(err)
			}
		case e.Action == rule.Persist && found.Type == File:
			write(t, p.Kept, "kept", 0o600)
		case e.Action == rule.Persist:
			if err := os.MkdirAll(p.Kept, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		tree.Places = append(tree.Places, p)
	}
	ops, err := PlanRules(tree)
	if err != nil {
		return root, err
	}
	return root, apply(ops...)
}

func TestRulesDoWhatTheySay(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	dir := scratch(t)
	base, layer := filepath.Join(dir, "base"), filepath.Join(dir, "layer")
	for name, content := range map[string]string{"etc/hosts": "base", "etc/sub/x": "x", "var/lib/db": "base", "var/tmp/old": "old", "opt/a": "a", "secret/key": "key",
		"etc/only": "only", "usr/bin/x": "x"} {
		write(t, filepath.Join(base, name), content, 0o644)
	}
	write(t, filepath.Join(layer, "etc/hosts"), "layer", 0o644)
	write(t, filepath.Join(layer, "opt/b"), "b", 0o644)
	if err := os.Chmod(filepath.Join(base, "var/tmp"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	root, err := on(t, dir, nil,
		rule.Rule{Path: "/etc", Action: rule.Merge}, rule.Rule{Path: "/etc/only", Action: rule.Persist},
		rule.Rule{Path: "/var", Action: rule.Persist, Form: rule.Overlay}, rule.Rule{Path: "/var/tmp", Action: rule.Ephemeral},
		rule.Rule{Path: "/opt", Action: rule.ReadOnly}, rule.Rule{Path: "/secret", Action: rule.Mask},
		rule.Rule{Path: "/home", Action: rule.Persist, Owner: "12:34", Mode: "0710"}, rule.Rule{Path: "/usr", Action: rule.ReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(root, name) }
	for name, want := range map[string]string{"etc/hosts": "layer", "etc/sub/x": "x", "etc/only": "kept", "var/lib/db": "base", "var/tmp/old": "old", "opt/a": "a", "opt/b": "b"} {
		if got, err := os.ReadFile(in(name)); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v, want %q", name, got, err, want)
		}
	}
	if names, err := os.ReadDir(in("secret")); err != nil || len(names) != 0 {
		t.Errorf("what is masked shows %v, %v", names, err)
	}
	for name, want := range map[string]error{"opt/c": unix.EROFS, "usr/c": unix.EROFS, "secret/c": unix.EROFS, "etc/c": nil, "var/c": nil, "var/tmp/c": nil, "home/c": nil} {
		if err := os.WriteFile(in(name), nil, 0o644); !errors.Is(err, want) {
			t.Errorf("write %s: %v, want %v", name, err, want)
		}
	}
	for name, want := range map[string]bool{"state/etc/fs/c": true, "state/var/fs/c": true, "state/home/c": true, "state/var/fs/tmp/c": false, `up:p,e\r/ephemeral/var-tmp/fs/c`: true} {
		if _, err := os.Lstat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(in("home"), &st); err != nil || st.Uid != 12 || st.Gid != 34 || st.Mode&0o7777 != 0o710 {
		t.Errorf("/home belongs to %d:%d with mode %04o, %v", st.Uid, st.Gid, st.Mode&0o7777, err)
	}
	if info, err := os.Stat(in("var/tmp")); err != nil || info.Mode()&os.ModeSticky == 0 || info.Mode().Perm() != 0o777 {
		t.Errorf("/var/tmp has mode %v, %v, want that of the base", info.Mode(), err)
	}
}

func TestNoRuleIsLedAwayByALink(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	for name, shape := range map[string]func(root string) error{
		"a link in the place of the path": func(root string) error {
			return errors.Join(os.Remove(filepath.Join(root, "srv/data/x")), os.Remove(filepath.Join(root, "srv/data")), os.Symlink("/tmp", filepath.Join(root, "srv/data")))
		},
		"a link on the way to it": func(root string) error {
			return errors.Join(os.RemoveAll(filepath.Join(root, "srv")), os.Symlink("../../tmp", filepath.Join(root, "srv")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := scratch(t)
			write(t, filepath.Join(dir, "base/srv/data/x"), "", 0o644)
			write(t, filepath.Join(dir, "layer/x"), "", 0o644)
			_, err := on(t, dir, func(root string) {
				if err := shape(root); err != nil {
					t.Fatal(err)
				}
			}, rule.Rule{Path: "/srv/data", Action: rule.Persist})
			if !errors.Is(err, mount.ErrLink) {
				t.Errorf("the rule was applied with %v, want ErrLink", err)
			}
		})
	}
}

func TestLookFollowsTheRulesOfOverlayfs(t *testing.T) {
	if !mounttest.InNamespace(t) {
		return
	}
	dir := scratch(t)
	low, mid, top := filepath.Join(dir, "low"), filepath.Join(dir, "mid"), filepath.Join(dir, "top")
	for _, name := range []string{"both/x", "hidden/x", "opaque/x", "file/x", "above/sub/x", "lowonly/x"} {
		write(t, filepath.Join(low, name), "", 0o644)
	}
	for _, name := range []string{"both/y", "opaque/y", "above/sub/y"} {
		write(t, filepath.Join(mid, name), "", 0o644)
	}
	write(t, filepath.Join(mid, "file"), "", 0o644)
	mustLink(t, "elsewhere", filepath.Join(top, "link"))
	for _, p := range []string{"opaque", "above"} {
		if err := unix.Setxattr(filepath.Join(mid, p), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mknod(filepath.Join(mid, "hidden"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]Found{
		"/both":      {Directory, []string{low + "/both", mid + "/both"}},
		"/lowonly":   {Directory, []string{low + "/lowonly"}},
		"/hidden":    {Nothing, nil},
		"/hidden/x":  {Nothing, nil},
		"/opaque":    {Directory, []string{mid + "/opaque"}},
		"/above/sub": {Directory, []string{mid + "/above/sub"}},
		"/file":      {File, []string{mid + "/file"}},
		"/file/x":    {Nothing, nil},
		"/link":      {Link, []string{top + "/link"}},
		"/none":      {Nothing, nil},
	} {
		got, err := Look([]string{low, mid, top}, p)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("Look(%s): %v (-want +got):\n%s", p, err, diff)
		}
	}
	if _, err := Look([]string{low, mid, top}, "/link/x"); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("Look through a link = %v, want a refusal", err)
	}
}
