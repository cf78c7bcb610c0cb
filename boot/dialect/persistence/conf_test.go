package persistence

import (
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPersistenceConfIsReadAsLiveBootReadsIt(t *testing.T) {
	cases := []struct {
		name, text string
		want       []Mount
		skipped    []string
	}{
		{"an empty file keeps nothing", "", nil, nil},
		{"comments and empty lines say nothing", "# all\n\n   # of it\n", nil, nil},
		{"the whole root", "/ union\n", []Mount{{"/", Union, "."}}, nil},
		{"the whole root, in a directory", "/ union,source=root", []Mount{{"/", Union, "root"}}, nil},
		{"a directory is bound where no word says else", "/home", []Mount{{"/home", Bind, "home"}}, nil},
		{"the last word counts", "/home union,bind", []Mount{{"/home", Bind, "home"}}, nil},
		{"options may be set apart by spaces, as live-boot takes them", "/home union source=h", []Mount{{"/home", Union, "h"}}, nil},
		{"by destination, links last", "/var/b\n/home/u link,source=dot\n/var\tunion\n/etc union",
			[]Mount{{"/etc", Union, "etc"}, {"/var", Union, "var"}, {"/var/b", Bind, "var/b"}, {"/home/u", Link, "dot"}}, nil},
		{"slashes are trimmed", "//home//u/", []Mount{{"/home/u", Bind, "home/u"}}, nil},
		{"the root of the medium as a source", "/data source=.", []Mount{{"/data", Bind, "."}}, nil},
		{"what is unsafe is skipped", "home\n/a/../b\n/lib/x\n/run/live/x\n/x source=/abs\n/y source=a/../b\n/z nonsense\n/ bind\n/ok",
			[]Mount{{"/ok", Bind, "ok"}}, []string{`line 1, "home"`, "line 2", "line 3", "line 4", "line 5", "line 6", `"nonsense" is unknown`, "union alone"}},
		{"a destination counts once", "/home\n/home union", []Mount{{"/home", Bind, "home"}}, []string{"stands there twice"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, skipped, err := Parse([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", c.text, diff)
			}
			if len(skipped) != len(c.skipped) {
				t.Fatalf("Parse(%q) skips %q, want %d lines", c.text, skipped, len(c.skipped))
			}
			for i, want := range c.skipped {
				if !strings.Contains(skipped[i], want) {
					t.Errorf("Parse(%q) skips for %q, want %q in it", c.text, skipped[i], want)
				}
			}
		})
	}
}

func TestSourcesInOneAnotherAreRefused(t *testing.T) {
	for _, text := range []string{"/a source=x\n/b source=x", "/a source=x\n/b source=x/y", "/a source=.\n/b", "/ union\n/b source=rw/x",
		strings.Repeat("/a\n", 40<<10)} {
		if got, _, err := Parse([]byte(text)); err == nil {
			t.Errorf("Parse(%.40q) = %v, want a refusal", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"/ union", "/home bind,source=h\n/etc union\n/x link", "# \n/a/../b x", "/lib\x00 source=."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		mounts, _, err := Parse([]byte(text))
		if err != nil {
			return
		}
		for _, m := range mounts {
			if path.Clean(m.Dest) != m.Dest || m.Dest[0] != '/' || path.Clean(m.Source) != m.Source || m.Source[0] == '/' ||
				m.Source == ".." || strings.HasPrefix(m.Source, "../") || strings.ContainsRune(m.Dest+m.Source, 0) {
				t.Fatalf("Parse(%q) = %+v, which leads out", text, m)
			}
		}
	})
}
