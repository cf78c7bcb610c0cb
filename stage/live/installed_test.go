package live

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/boot"
	"veneer/boot/dialect"
	"veneer/stage"
)

func TestOverlayrootIsReadAsOurOwnParameters(t *testing.T) {
	label := boot.DeviceRef{Kind: boot.ByLabel, Value: "UP"}
	for line, want := range map[string]struct {
		upper   boot.UpperKind
		state   boot.DeviceRef
		swap    bool
		recurse string
	}{
		"overlayroot=tmpfs":                                       {boot.UpperTmpfs, boot.DeviceRef{}, false, "1"},
		"overlayroot=tmpfs:swap=1,recurse=0,debug=1":              {boot.UpperTmpfs, boot.DeviceRef{}, true, "0"},
		"overlayroot=LABEL=UP":                                    {boot.UpperPersistent, label, false, "1"},
		"overlayroot=LABEL=UP,recurse=0":                          {boot.UpperPersistent, label, false, "0"},
		"overlayroot=device:dev=LABEL=UP,timeout=20,recurse=0":    {boot.UpperPersistent, label, false, "0"},
		"overlayroot=/dev/vdb":                                    {boot.UpperPersistent, boot.DeviceRef{Kind: boot.ByPath, Value: "/dev/vdb"}, false, "1"},
		"overlayroot=device:dev=vdb":                              {boot.UpperPersistent, boot.DeviceRef{Kind: boot.ByPath, Value: "/dev/vdb"}, false, "1"},
		"overlayroot=tmpfs:swap=1 veneer.swap=0":                  {boot.UpperTmpfs, boot.DeviceRef{}, false, "1"},
		"veneer.root=LABEL=R overlayroot=tmpfs root=UUID=nothing": {boot.UpperTmpfs, boot.DeviceRef{}, false, "1"},
	} {
		line += " root=LABEL=R ro"
		settings, err := stage.Configure("", line, dialect.Strings)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		got := settings.Config
		a, err := howAsked(&got, line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got.Upper.Kind != want.upper || got.State.On.Device != want.state || got.Swap != want.swap || a.recurse != want.recurse || got.Root.Device.Value != "R" {
			t.Errorf("%s: upper %q, state %+v, swap %v, recurse %s, root %+v", line, got.Upper.Kind, got.State, got.Swap, a.recurse, got.Root)
		}
	}
}

func FuzzOverlayroot(f *testing.F) {
	for _, line := range []string{"overlayroot=tmpfs root=UUID=1", `root="LABEL=a b" overlayroot=device:dev=LABEL=x,swap=1 rootflags=subvol=@`, "overlayroot=:,=", "veneer.root=/dev/x:/y -- overlayroot=tmpfs"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		settings, err := stage.Configure("veneer.store=LABEL=X", line, dialect.Strings)
		if err != nil {
			return
		}
		c := settings.Config
		before := c.Root.Device
		if _, err := howAsked(&c, line); err == nil && c.Root.Device != before {
			t.Errorf("%q: the root became another: %s", line, c.Root.Device)
		}
	})
}

const fstab = `# /etc/fstab
UUID=1 / ext4 errors=remount-ro 0 1
UUID=2	/home	ext4	defaults	0	2
UUID=3 /boot/efi vfat umask=0077 0 1
UUID=4 none swap sw 0 0
/swapfile none swap sw 0 0
UUID=5 /media/archive ext4 ro 0 2
/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0
tmpfs /tmp tmpfs defaults 0 0
server:/srv /srv nfs defaults 0 0
`

func TestFstabLosesItsRootAndSwapAndTellsOfTheRest(t *testing.T) {
	got, others := protectFstab(fstab, false)
	want := strings.NewReplacer("UUID=1 ", "#veneer: UUID=1 ", "UUID=4", "#veneer: UUID=4", "/swapfile", "#veneer: /swapfile").Replace(fstab)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("without swap (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/home", "/boot/efi", "/srv"}, others); diff != "" {
		t.Errorf("what is mounted from elsewhere (-want +got):\n%s", diff)
	}
	if again, _ := protectFstab(got, false); again != got {
		t.Errorf("a second time it is\n%s", again)
	}
	back, _ := protectFstab(got, true)
	if want := strings.Replace(fstab, "UUID=1 ", "#veneer: UUID=1 ", 1); back != want {
		t.Errorf("with swap it is\n%s", back)
	}
}

func TestFstabIsNotLookedForOutsideTheRoot(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "fstab")
	if err := errors.Join(os.WriteFile(outside, []byte(fstab), 0o644), os.Mkdir(filepath.Join(dir, "etc"), 0o755), os.Symlink(outside, filepath.Join(dir, "etc/fstab"))); err != nil {
		t.Fatal(err)
	}
	if err := editFstab(dir, fstab, "", false); err == nil {
		t.Error("a link that leads out of the root was followed")
	}
	if got, err := os.ReadFile(outside); err != nil || string(got) != fstab {
		t.Errorf("and written to (%v)", err)
	}
}
