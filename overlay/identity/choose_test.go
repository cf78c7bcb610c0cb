package identity

import (
	"strings"
	"testing"
	"time"
)

const (
	idA         = ID("a0b1c2d3e4f5a0b1c2d3e4f5a0b1c2d3")
	idB         = ID("11112222333344445555666677778888")
	machineUUID = "6b1c2f0e-9d1a-4c62-8a53-7a4f2f1f0a01"
	idC         = ID("cccccccccccc4ccc8ccccccccccccccc")
)

func TestTheMachineIDOfABoot(t *testing.T) {
	fresh, has := idFile{fresh: true}, func(id ID) idFile { return idFile{id: id} }
	for _, tt := range []struct {
		name  string
		facts idFacts
		want  string // id, or "random"; then what else holds
	}{
		{"first boot", idFacts{mode: Persist, etc: fresh, state: true}, "random first keep"},
		{"first boot that was cut off", idFacts{mode: Persist, etc: fresh, state: true, stored: idA, begun: true}, string(idA) + " first keep"},
		{"second boot", idFacts{mode: Persist, etc: fresh, state: true, stored: idA}, string(idA) + " keep"},
		{"an empty file: no first boot", idFacts{mode: Persist, state: true}, "random keep"},
		{"an ID in the base", idFacts{mode: Persist, etc: has(idB), base: idB, state: true}, "random keep"},
		{"an ID in the base, second boot", idFacts{mode: Persist, etc: has(idB), base: idB, state: true, stored: idA}, string(idA) + " keep"},
		{"committed by systemd into a kept /etc", idFacts{mode: Persist, etc: has(idA), kept: true, state: true, stored: idA}, string(idA) + " keep"},
		{"changed by hand in a kept /etc", idFacts{mode: Persist, etc: has(idB), kept: true, state: true, stored: idA}, string(idB) + " keep"},
		{"kept /etc that still shows the base's", idFacts{mode: Persist, etc: has(idB), base: idB, kept: true, state: true, stored: idA}, string(idA) + " keep"},
		{"kept /etc, and the state's identity was reset", idFacts{mode: Persist, etc: has(idB), kept: true, state: true}, string(idB) + " keep"},
		{"/etc was reset, the identity kept", idFacts{mode: Persist, etc: fresh, kept: true, state: true, stored: idA}, string(idA) + " keep"},
		{"the command line", idFacts{mode: Persist, cmdline: string(idC), etc: has(idB), kept: true, state: true, stored: idA}, string(idC) + " keep"},
		{"the command line as a UUID in upper case", idFacts{mode: PerBoot, cmdline: "CCCCCCCC-CCCC-4CCC-8CCC-CCCCCCCCCCCC", etc: fresh}, string(idC) + " first"},
		{"a command line that is none", idFacts{mode: Persist, cmdline: "new", etc: fresh, state: true, stored: idA}, string(idA) + " keep"},
		{"firmware, asked for", idFacts{mode: Persist, cmdline: "firmware", etc: fresh, state: true, stored: idA}, "random left"},
		{"persist without a state", idFacts{mode: Persist, etc: fresh}, "random first"},
		{"per boot", idFacts{mode: PerBoot, etc: fresh}, "random first"},
		{"per boot, with a state", idFacts{mode: PerBoot, etc: fresh, state: true, stored: idA}, "random first"},
		{"per boot, no first boots wanted", idFacts{mode: PerBoot}, "random"},
		{"derived", idFacts{mode: Derived, etc: fresh, state: true, platform: "p"}, string(DeriveID("p")) + " first keep"},
		{"derived, second boot", idFacts{mode: Derived, etc: fresh, state: true, platform: "p", stored: DeriveID("p")}, string(DeriveID("p")) + " keep"},
		{"derived, the disk moved to another machine", idFacts{mode: Derived, etc: fresh, state: true, platform: "q", stored: DeriveID("p")}, string(DeriveID("q")) + " keep"},
		{"derived, from nothing", idFacts{mode: Derived, etc: fresh, state: true}, "random first keep"},
		{"derived, from nothing, second boot", idFacts{mode: Derived, etc: fresh, state: true, stored: idA}, string(idA) + " keep"},
		{"derived, without a state", idFacts{mode: Derived, etc: fresh, platform: "p"}, string(DeriveID("p")) + " first"},
		{"inherit", idFacts{mode: Inherit, etc: has(idB), base: idB, state: true, stored: idA}, string(idB) + " left"},
	} {
		c := tt.facts.choose()
		words := []string{string(c.id)}
		if c.id == "" {
			words[0] = "random"
		}
		for _, w := range []struct {
			holds bool
			word  string
		}{{c.first, "first"}, {c.keep, "keep"}, {c.left, "left"}} {
			if w.holds {
				words = append(words, w.word)
			}
		}
		if got := strings.Join(words, " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		if c.why == "" {
			t.Errorf("%s: nothing says why", tt.name)
		}
	}
}

func TestWhichWayAFileGoes(t *testing.T) {
	for _, tt := range []struct {
		own, kept, stored bool
		want              direction
	}{
		{false, false, false, stay}, {false, false, true, give}, {false, true, false, stay}, {false, true, true, give},
		{true, false, false, stay}, {true, false, true, give}, {true, true, false, adopt}, {true, true, true, adopt},
	} {
		if got := direct(tt.own, tt.kept, tt.stored); got != tt.want {
			t.Errorf("direct(own %t, kept %t, stored %t) = %d, want %d", tt.own, tt.kept, tt.stored, got, tt.want)
		}
	}
}

// The document tells how to compute it: printf 'veneer machine-id\0%s' UUID | sha256sum
func TestADerivedIDIsWhatTheDocumentSays(t *testing.T) {
	if got, want := DeriveID("6b1c2f0e-9d1a-4c62-8a53-7a4f2f1f0a01"), ID("503fb03f4d204551960529f0c91530e2"); got != want {
		t.Errorf("DeriveID() = %s, want %s", got, want)
	}
}

func TestWhatIsNoPlatformID(t *testing.T) {
	for text, want := range map[string]string{
		"6B1C2F0E-9D1A-4C62-8A53-7A4F2F1F0A01\n": "6b1c2f0e-9d1a-4c62-8a53-7a4f2f1f0a01",
		"10000000abcdef01\x00":                   "10000000abcdef01",
		"00000000-0000-0000-0000-000000000000\n": "", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF": "",
		"03000200-0400-0500-0006-000700080009\n": "", "To be filled by O.E.M.": "", "": "", "1234": "", "abcdef\x01ghijk": "",
	} {
		if got := platformID([]byte(text)); got != want {
			t.Errorf("platformID(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestTheClockIsNeverEarlierThan(t *testing.T) {
	built := time.Unix(1_700_000_000, 0)
	day := 24 * time.Hour
	for _, tt := range []struct {
		name         string
		built, stamp time.Time
		want         time.Time
	}{
		{"the build", built, time.Time{}, built},
		{"the stamp", built, built.Add(day), built.Add(day)},
		{"the build, of an old stamp", built, built.Add(-day), built},
		{"the build, of a stamp of a clock gone wrong", built, built.Add(40 * 365 * day), built},
		{"anything", time.Time{}, time.Time{}, time.Time{}},
		{"the stamp alone", time.Time{}, built, built},
	} {
		if got, why := floor(tt.built, tt.stamp); !got.Equal(tt.want) || got.IsZero() != (why == "") {
			t.Errorf("%s: floor() = %v, %q", tt.name, got, why)
		}
	}
}

func TestGeneratedHostnames(t *testing.T) {
	for system, want := range map[string]string{
		"kiosk": "kiosk-a0b1c2", "My Shop's TV_1": "my-shop-s-tv-1-a0b1c2", "Ünï": "n-a0b1c2", "---": "veneer-a0b1c2",
		strings.Repeat("long", 40): strings.Repeat("long", 12) + "lo-a0b1c2",
	} {
		got := GeneratedHostname(system, idA)
		if got != want || CheckHostname(got) != nil {
			t.Errorf("GeneratedHostname(%q) = %q (%v), want %q", system, got, CheckHostname(got), want)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{string(idA) + "\n", "uninitialized\n", "", strings.Repeat("0", 32), "CCCCCCCC-CCCC-4CCC-8CCC-CCCCCCCCCCCC", string(idA) + "\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		id, err := ParseID(text)
		if err != nil {
			return
		}
		if again, err := ParseID([]byte(id + "\n")); err != nil || again != id || len(id) != 32 {
			t.Errorf("ParseID(%q) = %q, and of that %q, %v", text, id, again, err)
		}
	})
}

func FuzzPlatformID(f *testing.F) {
	for _, s := range []string{machineUUID + "\n", "10000000abcdef01\x00", "None", "\x00\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if id := platformID(text); id != "" && (platformID([]byte(id)) != id || len(id) < 8) {
			t.Errorf("platformID(%q) = %q, and of that %q", text, id, platformID([]byte(id)))
		}
	})
}

func FuzzParseHostname(f *testing.F) {
	for _, s := range []string{"kiosk\n", "# comment\na.b\n", "", "-a", "a..b", "a b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		name, err := parseHostname(text)
		if err == nil && (name == "" || len(name) > 64 || strings.ContainsAny(name, "/ \n\x00") || name[0] == '-' || name[0] == '.') {
			t.Errorf("parseHostname(%q) = %q", text, name)
		}
	})
}

func FuzzHostKey(f *testing.F) {
	for _, s := range []string{"ssh_host_rsa_key", "ssh_host_ed25519_key.pub", "ssh_host_ed25519_key-cert.pub", "ssh_host_../x_key", "ssh_host__key"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if hostKey(name) && (strings.ContainsAny(name, "/\x00 \n") || !strings.HasPrefix(name, "ssh_host_")) {
			t.Errorf("hostKey(%q)", name)
		}
	})
}

func FuzzClockFloor(f *testing.F) {
	f.Add(int64(1_700_000_000), int64(1_800_000_000))
	f.Add(int64(0), int64(-1))
	f.Add(int64(1), int64(1<<62))
	f.Fuzz(func(t *testing.T, built, stamp int64) {
		at, _ := floor(time.Unix(built, 0), time.Unix(stamp, 0))
		if at.Before(time.Unix(built, 0)) || at.Sub(time.Unix(built, 0)) > lifetime {
			t.Errorf("floor(%d, %d) = %v", built, stamp, at)
		}
	})
}
