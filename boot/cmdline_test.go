package boot

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCommandLineBecomesConfig(t *testing.T) {
	ten := 10
	minus := -1
	cases := []struct {
		name, line string
		want       Config
	}{
		{"an empty line says nothing", "", Config{}},
		{"words of others are left alone", "console=ttyS0 root=/dev/sda1 systemd.unit=rescue.target foo", Config{}},
		{"a store by label lives in veneer", "veneer.store=LABEL=KIOSK", Config{Store: StoreRef{DeviceRef{ByLabel, "KIOSK"}, "veneer"}}},
		{"a store has a directory of its own", `veneer.store=UUID=AB-12:/a/b:c,d\e`, Config{Store: StoreRef{DeviceRef{ByUUID, "ab-12"}, `a/b:c,d\e`}}},
		{"a store may be the root of its device", "veneer.store=/dev/vda:/", Config{Store: StoreRef{DeviceRef{ByPath, "/dev/vda"}, "."}}},
		{"quotes protect spaces in a value", `veneer.store="LABEL=MY STICK" quiet`, Config{Store: StoreRef{DeviceRef{ByLabel, "MY STICK"}, "veneer"}}},
		{"quotes protect spaces in a word", `"veneer.store=LABEL=MY STICK"`, Config{Store: StoreRef{DeviceRef{ByLabel, "MY STICK"}, "veneer"}}},
		{"udev's names are the references that they stand for", `veneer.store=/dev/disk/by-label/MY\x20STICK`, Config{Store: StoreRef{DeviceRef{ByLabel, "MY STICK"}, "veneer"}}},
		{"an upper has a size", "veneer.upper=tmpfs:size=25%", Config{Upper: Upper{UpperTmpfs, Size{Percent: 25}}}},
		{"an upper that is kept", "veneer.upper=persistent", Config{Upper: Upper{Kind: UpperPersistent}}},
		{"a state in the store", "veneer.state=store", Config{State: Place{Kind: StateInStore}}},
		{"a state on a device, in a directory", "veneer.state=PARTLABEL=state:/kiosk", Config{State: Place{StateOnDevice, StoreRef{DeviceRef{ByPartLabel, "state"}, "kiosk"}}}},
		{"a machine-id is taken as it stands", "systemd.machine_id=x", Config{MachineID: "x"}},
		{"a missing state may be made up for", "veneer.missing-upper=ephemeral", Config{Missing: MissingEphemeral}},
		{"a deadline is in seconds", "veneer.wait=5", Config{Wait: 5 * time.Second}},
		{"a deadline may have a unit", "veneer.wait=250ms", Config{Wait: 250 * time.Millisecond}},
		{"a step's name may be written with hyphens", "veneer.break=stack-root", Config{Break: "stack root"}},
		{"the last of ro and rw counts", "ro rw ro", Config{ReadOnly: true}},
		{"rw takes ro back", "ro rw", Config{}},
		{"a check of the state is asked for as systemd's", "fsck.mode=force fsck.repair=yes", Config{FsckMode: FsckForce, FsckRepair: FsckYes}},
		{"usual parameters keep their meaning", "quiet panic=10 rootdelay=3 init=/bin/sh", Config{Panic: &ten, RootDelay: 3 * time.Second, Init: "/bin/sh"}},
		{"panic may be negative", "panic=-1", Config{Panic: &minus}},
		{"a usual parameter may be given twice", "panic=1 panic=10", Config{Panic: &ten}},
		{"words after -- belong to the next init", "veneer.debug -- veneer.nonsense quiet", Config{Debug: true}},
		{"the same value twice is no contradiction", "veneer.debug=1 veneer.debug=1", Config{Debug: true}},
		{"a policy is a word", "veneer.on-fail=poweroff", Config{OnFail: Poweroff}},
		{"a reset has a scope", "veneer.reset=etc", Config{Reset: Reset{Word: "etc", Scope: ScopeEtc}}},
		{"a reset keeps what it is told to", "veneer.reset=/var/lib/app,keep=identity,keep=/etc/x,secure,token=7",
			Config{Reset: Reset{Word: "/var/lib/app,keep=identity,keep=/etc/x,secure,token=7", Scope: "/var/lib/app", Keep: []string{"identity", "/etc/x"}, Secure: true}}},
		{"systemd's word for a reset", "systemd.factory_reset=1", Config{Reset: Reset{Word: "systemd.factory_reset", Scope: ScopeAll}}},
		{"systemd's word against a reset", "systemd.factory_reset=0", Config{Reset: Reset{Off: true}}},
		{"dracut's word for a reset", "rd.overlay.reset", Config{Reset: Reset{Word: "rd.overlay.reset", Scope: ScopeUpper}}},
		{"ours before theirs, in any order", "veneer.reset=etc systemd.factory_reset", Config{Reset: Reset{Word: "etc", Scope: ScopeEtc}}},
		{"theirs, and then ours", "systemd.factory_reset veneer.reset=etc", Config{Reset: Reset{Word: "etc", Scope: ScopeEtc}}},
		{"the images go to memory", "veneer.toram", Config{ToRAM: ToRAMYes, Larger: "veneer.toram"}},
		{"the images go to memory, and the tray opens", "veneer.toram=auto,eject", Config{ToRAM: ToRAMAuto, Eject: true, Larger: "veneer.toram"}},
		{"the images stay where they are", "veneer.toram=0", Config{ToRAM: ToRAMNo}},
		{"a medium is a file somewhere", "veneer.medium=/iso/x.iso", Config{Medium: MediumRef{Path: "/iso/x.iso"}, Larger: "veneer.medium="}},
		{"a medium is a file on a device", `"veneer.medium=LABEL=MY DISK:/a:b.iso"`, Config{Medium: MediumRef{DeviceRef{ByLabel, "MY DISK"}, "/a:b.iso"}, Larger: "veneer.medium="}},
		{"a medium that goes away", "veneer.medium-lost=poweroff", Config{MediumLost: MediumPoweroff, Larger: "veneer.medium-lost="}},
		{"a deployment is a serial", "veneer.deployment=12", Config{Deployment: "12"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseCmdline(Config{}, c.line)
			if err != nil {
				t.Fatalf("ParseCmdline(%q): %v", c.line, err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("ParseCmdline(%q) (-want +got):\n%s", c.line, diff)
			}
		})
	}
}

func TestMistakesOnTheCommandLineAreRefused(t *testing.T) {
	cases := []struct{ name, line, want string }{
		{"a check that is none", "fsck.mode=always", `want auto, force, skip, not "always"`},
		{"a repair that is none", "fsck.repair=", `want preen, yes, no, not ""`},
		{"an unknown parameter of ours", "veneer.onfail=reboot", `word 1, "veneer.onfail=reboot": no such parameter`},
		{"a policy that does not exist", "veneer.on-fail=explode", "unknown"},
		{"a policy of a later version", "veneer.on-fail=fallback", "not supported by this version"},
		{"an upper that is a place", "veneer.upper=LABEL=STATE", "is said by veneer.state="},
		{"a state nowhere in particular", "veneer.state=disk", "want none, store, or a device"},
		{"an unknown policy for a missing state", "veneer.missing-upper=panic", "want wait, fail, ephemeral or create"},
		{"a reset of nothing", "veneer.reset", "want all, etc, data, upper or a clean absolute path"},
		{"a reset of an unknown scope", "veneer.reset=everything", `scope "everything"`},
		{"a reset that keeps nonsense", "veneer.reset=all,keep=passwords,explode", `"explode": want keep=, secure or token=`},
		{"a copy to nowhere in particular", "veneer.toram=maybe", `want auto, yes, no, not "maybe"`},
		{"a copy that does something else", "veneer.toram=yes,spin", `want eject behind the comma, not "spin"`},
		{"a medium that is a directory", "veneer.medium=/", "the clean absolute path of a file"},
		{"a medium that leads upwards", "veneer.medium=LABEL=A:/../x.iso", "the clean absolute path of a file"},
		{"a medium without a path", "veneer.medium=LABEL=A", "the clean absolute path of a file"},
		{"a medium on nothing known", "veneer.medium=disk:/x.iso", `device reference "disk"`},
		{"a policy for a lost medium", "veneer.medium-lost=panic", `want ignore, poweroff, reboot, not "panic"`},
		{"a contradiction", "veneer.wait=1 veneer.wait=2", `word 2, "veneer.wait=2": contradicts "1" before it`},
		{"a negative deadline", "veneer.wait=-1s", "outside"},
		{"a deadline for ever", "veneer.wait=100000h", "outside"},
		{"an open quote", `veneer.store="LABEL=A`, "without its closing one"},
		{"a relative init", "init=sh", "not an absolute path"},
		{"a store that leads upwards", "veneer.store=LABEL=A:/../etc", "not a clean absolute path"},
		{"a device outside /dev", "veneer.store=/etc/passwd", "does not lie below /dev"},
		{"a device that leads upwards", "veneer.store=/dev/../etc/passwd", "not clean"},
		{"an upper of nothing", "veneer.upper=tmpfs:size=0", "least useful size"},
		{"an upper of more than all", "veneer.upper=tmpfs:size=101%", "percentage"},
		{"a serial with a slash", "veneer.deployment=../1", "not the serial"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseCmdline(Config{}, c.line)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ParseCmdline(%q) = %v, want an error with %q", c.line, err, c.want)
			}
		})
	}
}

func TestAllMistakesAreReportedAtOnceInTheirOrder(t *testing.T) {
	_, err := ParseCmdline(Config{}, "veneer.a veneer.wait=x quiet veneer.on-fail=y")
	if err == nil {
		t.Fatal("ParseCmdline accepted three mistakes")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "word 1,") || !strings.HasPrefix(lines[1], "word 2,") || !strings.HasPrefix(lines[2], "word 4,") {
		t.Errorf("ParseCmdline reported:\n%v\nwant the words 1, 2 and 4", err)
	}
}

func TestTheCommandLineWinsOverTheDefaults(t *testing.T) {
	base, err := ParseCmdline(Config{}, "veneer.store=LABEL=VENEER veneer.on-fail=reboot veneer.wait=30")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseCmdline(base, "veneer.on-fail=halt")
	want := Config{Store: StoreRef{DeviceRef{ByLabel, "VENEER"}, "veneer"}, OnFail: Halt, Wait: 30 * time.Second}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("ParseCmdline over defaults: %v (-want +got):\n%s", err, diff)
	}
}

func FuzzParseCmdline(f *testing.F) {
	f.Add(`console=ttyS0 quiet veneer.store="LABEL=A B":/x veneer.upper=tmpfs:size=10% ro -- x`)
	f.Add(`"veneer.store=/dev/disk/by-uuid/\x41" panic=-1`)
	f.Fuzz(func(t *testing.T, line string) {
		cfg, err := ParseCmdline(Config{}, line)
		if err != nil {
			return
		}
		if d := cfg.Store.Dir; strings.HasPrefix(d, "/") || strings.HasPrefix(d, "..") {
			t.Errorf("store directory %q leads out of its device", d)
		}
		if cfg.Wait < 0 || cfg.Wait > maxWait || cfg.RootDelay < 0 || cfg.RootDelay > maxWait {
			t.Errorf("deadline %v, delay %v: out of bounds", cfg.Wait, cfg.RootDelay)
		}
		if ref := cfg.Store.Device; ref.Kind != "" {
			if again, err := ParseDeviceRef(ref.String()); err != nil || again != ref {
				t.Errorf("reference %+v does not survive its own spelling: %+v, %v", ref, again, err)
			}
		}
	})
}

func TestWhatNeedsANetworkIsKeptForTheInitThatHasOne(t *testing.T) {
	c, err := ParseCmdline(Config{}, "veneer.url=http://h/ ip=eth0:dhcp ip=dhcp BOOTIF=01-52-54-00-12-34-56")
	if want := "[veneer.url=http://h/ ip=eth0:dhcp ip=dhcp BOOTIF=01-52-54-00-12-34-56]"; err != nil || fmt.Sprint(c.Network) != want || c.Networked != "veneer.url=" {
		t.Errorf("%q, %q, %v, want %s", c.Network, c.Networked, err, want)
	}
	if c, err = ParseCmdline(c, "veneer.url="); err != nil || c.Networked != "" {
		t.Errorf("an empty veneer.url= leaves %q, %v", c.Networked, err)
	}
	if c, err = ParseCmdline(Config{}, "ip=dhcp"); err != nil || c.Networked != "" {
		t.Errorf("ip=dhcp alone needs %q, %v: any boot may have it", c.Networked, err)
	}
}
