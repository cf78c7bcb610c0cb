package identity

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/overlay/rule"
)

func TestDefaultsDependOnWhetherThereIsAState(t *testing.T) {
	for name, tt := range map[string]struct {
		persistent bool
		want       string
	}{
		"volatile":   {false, "clock=ephemeral random-seed=ephemeral machine-id=per-boot dbus=generate hostname=inherit ssh-host-keys=ephemeral network-manager=ephemeral bluetooth=ephemeral"},
		"persistent": {true, "clock=persist random-seed=persist machine-id=persist dbus=generate hostname=inherit ssh-host-keys=persist network-manager=inherit bluetooth=inherit"},
	} {
		var got []string
		for _, s := range Complete(nil, tt.persistent) {
			got = append(got, s.Name+"="+string(s.Mode))
			if err := Check(s, tt.persistent); err != nil {
				t.Errorf("%s: the default %+v: %v", name, s, err)
			}
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := Complete([]Setting{{MachineID, Derived}, {Hostname, ""}}, true); got[2].Mode != Derived || got[4].Mode != Inherit {
		t.Errorf("Complete() = %+v, want what was asked for", got)
	}
}

func TestAMistakeNamesWhatThereIs(t *testing.T) {
	for _, tt := range []struct {
		s          Setting
		persistent bool
		want       string
	}{
		{Setting{"machineid", Persist}, true, `"machineid" is no preset; want one of clock, random-seed, machine-id, `},
		{Setting{MachineID, "random"}, true, `"random" is no mode of machine-id; want one of persist, per-boot, derived, inherit`},
		{Setting{Clock, Generate}, true, `"generate" is no mode of clock`},
		{Setting{SSHHostKeys, Persist}, false, ErrNoState.Error()},
		{Setting{SSHHostKeys, Persist}, true, ""},
	} {
		err := Check(tt.s, tt.persistent)
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("Check(%+v, %t) = %v, want %s", tt.s, tt.persistent, err, tt.want)
		}
	}
}

func TestTheDeepestRuleSaysWhatIsKept(t *testing.T) {
	rules := []rule.Rule{
		{Path: "/var", Action: rule.Persist},
		{Path: "/var/lib/bluetooth", Action: rule.Ephemeral},
		{Path: "/etc", Action: rule.Merge, Allow: []string{"hostname", "ssh/**"}},
	}
	for path, want := range map[string]string{
		"/var/lib/NetworkManager": "/var", "/var": "/var", "/variable": "", "/var/lib/bluetooth": "", "/var/lib/bluetooth/x": "",
		"/etc/hostname": "/etc", "/etc/machine-id": "", "/etc/ssh/ssh_host_rsa_key": "/etc", "/home": "",
	} {
		if got := (Kept{Rules: rules}).By(path); got != want {
			t.Errorf("By(%s) = %q, want %q", path, got, want)
		}
	}
	if got := (Kept{Root: true, Rules: rules}).By("/home"); got != "/" {
		t.Errorf("By(/home) = %q with a root that persists", got)
	}
	if got := (Kept{Root: true, Rules: rules}).By("/var/lib/bluetooth"); got != "" {
		t.Errorf("By(/var/lib/bluetooth) = %q, though a rule makes it ephemeral", got)
	}
}

func TestDirectoriesBecomeRulesUnlessTheyAreKept(t *testing.T) {
	settings := []Setting{{NetworkManager, Persist}, {Bluetooth, Persist}, {Hostname, Persist}}
	paths := func(kept Kept) string {
		var list []string
		for _, r := range Rules(settings, kept) {
			list = append(list, r.Path)
			if errs := r.Check(); errs != nil {
				t.Errorf("%s: %v", r.Path, errs)
			}
		}
		return strings.Join(list, " ")
	}
	if got, want := paths(Kept{}), "/etc/NetworkManager/system-connections /var/lib/NetworkManager /var/lib/bluetooth"; got != want {
		t.Errorf("Rules() = %s, want %s", got, want)
	}
	if got, want := paths(Kept{Rules: []rule.Rule{{Path: "/var", Action: rule.Persist}}}), "/etc/NetworkManager/system-connections"; got != want {
		t.Errorf("Rules() = %s, want %s", got, want)
	}
	if got := paths(Kept{Root: true}); got != "" {
		t.Errorf("Rules() = %s, want none where the whole root persists", got)
	}
}

func TestEphemeralContradictsARuleThatKeeps(t *testing.T) {
	kept := Kept{Rules: []rule.Rule{{Path: "/var", Action: rule.Persist}}}
	err := Contradicted([]Setting{{Bluetooth, Ephemeral}, {NetworkManager, Persist}, {Hostname, Ephemeral}, {RandomSeed, Ephemeral}}, kept)
	want := "bluetooth is ephemeral, and the rule for /var keeps /var/lib/bluetooth: add a rule that makes it ephemeral, or say inherit"
	if err == nil || err.Error() != want {
		t.Errorf("Contradicted() = %v, want %s", err, want)
	}
}

func TestErrNoStateCanBeToldApart(t *testing.T) {
	if err := Check(Setting{Clock, Persist}, false); !errors.Is(err, ErrNoState) {
		t.Errorf("Check() = %v", err)
	}
}
