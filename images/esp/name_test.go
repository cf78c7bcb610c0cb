package esp

import "testing"

func TestNamesOfEntriesTellTheirTries(t *testing.T) {
	for file, want := range map[string]Name{
		"kiosk-1.2.efi":        {"kiosk-1.2", ".efi", false, 0, 0},
		"kiosk-1.2+3.efi":      {"kiosk-1.2", ".efi", true, 3, 0},
		"kiosk-1.2+1-2.efi":    {"kiosk-1.2", ".efi", true, 1, 2},
		"kiosk-1.2+0-3.efi":    {"kiosk-1.2", ".efi", true, 0, 3},
		"kiosk-1.2+rc1.efi":    {"kiosk-1.2+rc1", ".efi", false, 0, 0},
		"kiosk+3":              {"kiosk", "", true, 3, 0},
		"kiosk+3-.efi":         {"kiosk+3-", ".efi", false, 0, 0},
		"kiosk+-1.efi":         {"kiosk+-1", ".efi", false, 0, 0},
		"+3.efi":               {"+3", ".efi", false, 0, 0},
		".efi":                 {".efi", "", false, 0, 0},
		"a+99999999999999.efi": {"a+99999999999999", ".efi", false, 0, 0},
	} {
		got := ParseName(file)
		if got != want || got.String() != file {
			t.Errorf("ParseName(%q) = %+v, which is %q; want %+v", file, got, got, want)
		}
	}
	if n := ParseName("a+0-3.efi"); !n.Bad() || n.Good().String() != "a.efi" || n.Good().Bad() {
		t.Errorf("%v: Bad %v, Good %v", n, n.Bad(), n.Good())
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"a.efi", "a+3.efi", "a+1-2.efi", "a++1-2", "+", "a+03.efi"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := ParseName(s)
		if again := ParseName(n.String()); again != n {
			t.Errorf("ParseName(%q) = %+v, and of what that spells %+v", s, n, again)
		}
		if n.Good().String() == "" && s != "" {
			t.Errorf("%q has no good name", s)
		}
	})
}
