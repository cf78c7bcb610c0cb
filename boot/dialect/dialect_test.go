package dialect

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"veneer/boot"
)

func TestLinesOfOthersBecomeConfig(t *testing.T) {
	label := func(s string) boot.DeviceRef { return boot.DeviceRef{Kind: boot.ByLabel, Value: s} }
	tmpfs := func(s boot.Size) boot.Upper { return boot.Upper{Kind: boot.UpperTmpfs, Size: s} }
	onDevice := func(wait time.Duration) boot.Config {
		path := func(s string) boot.DeviceRef { return boot.DeviceRef{Kind: boot.ByPath, Value: s} }
		return boot.Config{Upper: boot.Upper{Kind: boot.UpperPersistent}, Wait: wait, Larger: "veneer.root=", Root: boot.StoreRef{Device: path("/dev/vda1"), Dir: "."},
			State: boot.Place{Kind: boot.StateOnDevice, On: boot.StoreRef{Device: path("/dev/vdb"), Dir: "veneer"}}}
	}
	cases := []struct {
		name, line string
		want       boot.Config
		means      []string // what each alias came to begins with this
	}{
		{"a line of nobody's says nothing", "root=UUID=12 ro quiet module=x verify=y persistent toro", boot.Config{}, nil},
		{"Fedora's live medium", "root=live:CDLABEL=Fedora-WS-Live-40 rd.live.image rd.live.check quiet rhgb",
			boot.Config{Foreign: &boot.Foreign{Dialect: boot.Dracut, Device: label("Fedora-WS-Live-40"), Dir: "LiveOS"}},
			[]string{"Where the medium is", "root= names", "without effect: a checksum"}},
		{"dracut's legacy form", "rd.live.image root=LABEL=X", boot.Config{Foreign: &boot.Foreign{Dialect: boot.Dracut, Device: label("X"), Dir: "LiveOS"}},
			[]string{"root= names", "Where the medium is"}},
		{"dracut's overlay on a device", "root=live:LABEL=X rd.overlay=LABEL=K:/a/b rd.overlay.readonly",
			boot.Config{Foreign: &boot.Foreign{Dialect: boot.Dracut, Device: label("X"), Dir: "LiveOS",
				Kept: boot.Kept{Asked: true, Device: label("K"), Dir: "a/b", ReadOnly: true}}}, []string{"Where", "The upper", "What is kept"}},
		{"dracut's overlay in memory", "rd.overlay=tmpfs:size=1G", boot.Config{Upper: tmpfs(boot.Size{Bytes: 1 << 30})}, []string{"veneer.upper=tmpfs:size=1G"}},
		{"Debian's live medium", "boot=live components splash persistence persistence-label=mine,other overlay-size=25% --- quiet",
			boot.Config{Upper: tmpfs(boot.Size{Percent: 25}), Foreign: &boot.Foreign{Dialect: boot.LiveBoot, Dir: "live",
				Kept: boot.Kept{Asked: true, Labels: []string{"mine", "other"}}}}, []string{"A medium", "Keep", "What to look for", "veneer.upper=tmpfs:size=25%"}},
		{"nothing is kept where one word says so", "boot=live persistence nopersistence", boot.Config{Foreign: &boot.Foreign{Dialect: boot.LiveBoot, Dir: "live"}},
			[]string{"A medium", "Keep what", "Keep nothing"}},
		{"Ubuntu's live medium", "layerfs-path=minimal.standard.live.squashfs persistent --- quiet splash",
			boot.Config{Foreign: &boot.Foreign{Dialect: boot.Casper, Dir: "casper", Image: "minimal.standard.live.squashfs",
				Kept: boot.Kept{Asked: true, Labels: []string{"writable", "casper-rw"}}}}, []string{"The images", "Keep the whole root"}},
		{"Arch's medium", "archisobasedir=arch archisosearchuuid=2026-01-01-00-00-00-00 cow_spacesize=1G",
			boot.Config{Upper: tmpfs(boot.Size{Bytes: 1 << 30}), Foreign: &boot.Foreign{Dialect: boot.Archiso, Dir: "arch", Marker: "boot/2026-01-01-00-00-00-00.uuid"}},
			[]string{"The directory", "The UUID", "veneer.upper=tmpfs:size=1G"}},
		{"Arch's medium that keeps", "archisolabel=ARCH cow_label=vtoycow cow_directory=x/y",
			boot.Config{Foreign: &boot.Foreign{Dialect: boot.Archiso, Dir: "arch", Device: label("ARCH"),
				Kept: boot.Kept{Asked: true, Device: label("vtoycow"), Dir: "x/y"}}}, []string{"The label", "Keep", "Where on it"}},
		{"overlayroot in memory", "root=LABEL=root overlayroot=tmpfs:swap=1,recurse=0",
			boot.Config{Upper: tmpfs(boot.Size{}), Swap: true, Root: boot.StoreRef{Device: label("root"), Dir: "."}, Larger: "veneer.root="},
			[]string{"Where the medium", "veneer.swap veneer.upper=tmpfs"}},
		{"overlayroot on a device", "overlayroot=device:dev=/dev/vdb,timeout=20 root=/dev/vda1", onDevice(20 * time.Second),
			[]string{"veneer.wait=20 veneer.state=/dev/vdb veneer.upper=persistent", "Where the medium"}},
		{"overlayroot's short form", "overlayroot=vdb,recurse=0 root=/dev/vda1", onDevice(0),
			[]string{"veneer.state=/dev/vdb veneer.upper=persistent", "Where the medium"}},
		{"overlayroot that is off", "overlayroot=disabled root=/dev/vda1", boot.Config{}, []string{"Boot the installed root"}},
		{"Alpine's overlay has one size", "overlaytmpfs overlaytmpfsflags=size=64M root=/dev/vda1",
			boot.Config{Upper: tmpfs(boot.Size{Bytes: 64 << 20}), Root: boot.StoreRef{Device: boot.DeviceRef{Kind: boot.ByPath, Value: "/dev/vda1"}, Dir: "."}, Larger: "veneer.root="},
			[]string{"veneer.upper=tmpfs", "veneer.upper=tmpfs:size=64M", "Where"}},
		{"an ISO that is a file", "iso-scan/filename=/iso/a.iso toram", boot.Config{Medium: boot.MediumRef{Path: "/iso/a.iso"}, ToRAM: boot.ToRAMYes, Larger: "veneer.medium="},
			[]string{"The medium is an ISO", "veneer.toram"}},
		{"systemd's volatile root", "systemd.volatile=overlay", boot.Config{Upper: tmpfs(boot.Size{})}, []string{"veneer.upper=tmpfs"}},
		{"Kairos", "root=LABEL=COS_ACTIVE cos-img/filename=/cOS/active.img rd.immucore.overlay=tmpfs:20% rd.immucore.oemlabel=COS_OEM",
			boot.Config{Upper: tmpfs(boot.Size{Percent: 20}), Foreign: &boot.Foreign{Dialect: boot.COS, Dir: "cOS", Image: "active.img"}},
			[]string{"The image that is the base", "veneer.upper=tmpfs:size=20%", "without effect: the stages"}},
		{"quotes protect spaces", `"root=live:LABEL=MY STICK"`, boot.Config{Foreign: &boot.Foreign{Dialect: boot.Dracut, Device: label("MY STICK"), Dir: "LiveOS"}},
			[]string{"Where"}},
		{"words behind -- are the next init's", "-- boot=live", boot.Config{}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, aliases, err := Parse(boot.Config{}, c.line)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", c.line, diff)
			}
			if len(aliases) != len(c.means) {
				t.Fatalf("Parse(%q) uses %q, want %d aliases", c.line, aliases, len(c.means))
			}
			for i, want := range c.means {
				if !strings.HasPrefix(aliases[i].Means, want) {
					t.Errorf("alias %q, want it to mean %q", aliases[i], want)
				}
			}
		})
	}
}

func TestMistakesInOthersDialectsAreToldAtOnce(t *testing.T) {
	cases := []struct {
		line string
		want []string
	}{
		{"boot=live live-media=x live-media-path=/../y overlay-size=lots persistence-storage=cloud",
			[]string{`word 2, "live-media=x"`, `word 3, "live-media-path=/../y"`, `word 4`, `word 5, "persistence-storage=cloud": want filesystem, file, directory`}},
		{"boot=live read-only todisk=/dev/sda", []string{"disks are not set read-only", "no disk is written to"}},
		{"boot=live archisolabel=X", []string{"live-boot and of archiso at once"}},
		{"rd.live.image", []string{"give root=live:LABEL="}},
		{"overlayroot=tmpfs", []string{"give root=UUID="}},
		{"overlayroot=crypt:dev=/dev/vdb root=/dev/vda", []string{"veneer.state="}},
		{"root=live:http://h/x.iso", []string{"nothing signs it"}},
		{"root=live:nfs:h:/x", []string{"only HTTP"}},
		{"archisolabel=A verify=y", []string{"pins ="}},
		{"rd.overlay=none", []string{"ro makes it read-only"}},
		{"rd.overlay=LABEL=X", []string{"veneer.state=LABEL=X"}},
		{"roothash=00 perch", []string{"signed manifest", "sessions of Slax"}},
		{"systemd.volatile=yes", []string{"/usr alone"}},
		{"rd.overlay=tmpfs:size=1G rd.cos.overlay=tmpfs:2G", []string{"contradicts"}},
		{`boot="live`, []string{"closing one"}},
	}
	for _, c := range cases {
		_, _, err := Parse(boot.Config{}, c.line)
		if err == nil {
			t.Errorf("Parse(%q) refuses nothing", c.line)
			continue
		}
		at := 0
		for _, want := range c.want {
			i := strings.Index(err.Error()[at:], want)
			if i < 0 {
				t.Errorf("Parse(%q) = %v, want %q in it, in this order", c.line, err, want)
				break
			}
			at += i
		}
	}
}

func TestTheTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rows() {
		if seen[r.Name] {
			t.Errorf("%s stands twice", r.Name)
		}
		seen[r.Name] = true
		switch {
		case r.Doc == "" || r.Dialect == "":
			t.Errorf("%s has no sentence, or is nobody's", r.Name)
		case r.Effect == Taken && r.set == nil, r.Effect != Taken && r.set != nil:
			t.Errorf("%s is %s, and what it does does not fit", r.Name, r.Effect)
		case r.Effect == Taken && !strings.HasSuffix(r.Doc, "."), r.Effect != Taken && strings.HasSuffix(r.Doc, "."):
			t.Errorf("%s: %q: a sentence where it is taken, a reason without its full stop else", r.Name, r.Doc)
		case strings.HasPrefix(r.Name, "veneer."):
			t.Errorf("%s is our own", r.Name)
		}
		for _, p := range boot.Params() {
			if p.Name == r.Name {
				t.Errorf("%s is in our own table too", r.Name)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, r := range rows {
		f.Add("boot=live boot=casper archisolabel=x root=live:LABEL=X " + r.Name + "=tmpfs:size=1G")
		f.Add(r.Name)
	}
	f.Add("overlayroot=device:dev=x,swap=1 root=UUID=1 fromiso=/dev/disk/by-label/x/y.iso persistence-label=a,b")
	f.Fuzz(func(t *testing.T, line string) {
		c, aliases, err := Parse(boot.Config{}, line)
		if err != nil {
			return
		}
		if words, err := boot.Words(line); err != nil || len(aliases) > len(words) {
			t.Fatalf("Parse(%q) = %q, more aliases than words (%v)", line, aliases, err)
		}
		if f := c.Foreign; f != nil {
			for _, p := range []string{f.Dir, f.Image, f.List, f.Marker, f.Kept.Dir, f.Kept.Path} {
				if strings.HasPrefix(p, "/") || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsRune(p, 0) {
					t.Fatalf("Parse(%q) = %+v, which leads out", line, f)
				}
			}
		}
		if _, err := boot.ParseCmdline(c, line); err != nil && !strings.Contains(err.Error(), "word ") && !strings.Contains(err.Error(), "longer") {
			t.Fatalf("our own words on %q: %v", line, err)
		}
	})
}
