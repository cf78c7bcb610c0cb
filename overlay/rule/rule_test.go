package rule

import (
	"path"
	"strings"
	"testing"
)

func TestRulesThatMeanNothingAreRefused(t *testing.T) {
	good := func() Rule { return Rule{Path: "/var", Action: Persist} }
	for name, c := range map[string]struct {
		bend func(*Rule)
		want string
	}{
		"a relative path":                 {func(r *Rule) { r.Path = "var" }, "not an absolute path"},
		"a path that is not clean":        {func(r *Rule) { r.Path = "/var/../etc" }, `want "/etc"`},
		"a trailing slash":                {func(r *Rule) { r.Path = "/var/" }, `want "/var"`},
		"the root itself":                 {func(r *Rule) { r.Path = "/" }, "root.upper"},
		"a path of the kernel":            {func(r *Rule) { r.Path = "/proc/sys" }, "belongs to the kernel"},
		"a path of the running system":    {func(r *Rule) { r.Path = "/run" }, "new at each boot"},
		"a newline in a path":             {func(r *Rule) { r.Path = "/a\nb" }, "not a clean path"},
		"an unknown action":               {func(r *Rule) { r.Action = "keep" }, "none of persist"},
		"an unknown form":                 {func(r *Rule) { r.Form = "link" }, "neither bind nor overlay"},
		"a form for a merge":              {func(r *Rule) { r.Action, r.Form = Merge, Overlay }, "one form only"},
		"an owner by name":                {func(r *Rule) { r.Owner = "root:root" }, "in numbers"},
		"an owner that chown(2) ignores":  {func(r *Rule) { r.Owner = "4294967295:0" }, "in numbers"},
		"a mode that is not octal":        {func(r *Rule) { r.Mode = "0789" }, "octal"},
		"a mode in decimal":               {func(r *Rule) { r.Mode = "99999" }, "octal"},
		"a mode for what cannot be had":   {func(r *Rule) { r.Action, r.Mode = Mask, "0755" }, "can be written"},
		"an allow list of what is gone":   {func(r *Rule) { r.Action, r.Allow = Ephemeral, []string{"a"} }, "nothing does"},
		"an absolute glob":                {func(r *Rule) { r.Allow = []string{"/etc/x"} }, "below that of the rule"},
		"a glob that climbs":              {func(r *Rule) { r.Deny = []string{"../x"} }, "not clean"},
		"a glob that path.Match refuses":  {func(r *Rule) { r.Deny = []string{"[x"} }, "syntax error"},
		"a base change of a bind":         {func(r *Rule) { r.BaseChange = Keep }, "for an upper"},
		"an unknown base change":          {func(r *Rule) { r.Action, r.BaseChange = Merge, "drop" }, "none of merge"},
		"entries of what is never merged": {func(r *Rule) { r.Action, r.BaseChange, r.Entries = Merge, Keep, []string{"hosts"} }, "are merged"},
		"a site action that is none":      {func(r *Rule) { r.Site = []Action{"anything"} }, "not an action"},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			c.bend(&r)
			if err := r.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Check(%+v) = %v, want a refusal with %q", r, err, c.want)
			}
		})
	}
	if err := good().Check(); err != nil {
		t.Errorf("Check of a plain rule: %v", err)
	}
}

func TestSetsThatContradictThemselvesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		rules    []Rule
		hasState bool
		want     string // "": accepted
	}{
		"one path, two rules":             {[]Rule{{Path: "/a", Action: Mask}, {Path: "/a", Action: ReadOnly}}, true, "says mask already"},
		"a rule below a mask":             {[]Rule{{Path: "/a", Action: Mask}, {Path: "/a/b", Action: Persist}}, true, "is masked"},
		"a mask over a rule":              {[]Rule{{Path: "/a/b", Action: Persist}, {Path: "/a", Action: Mask}}, true, "would hide /a/b"},
		"a name that only looks below":    {[]Rule{{Path: "/a", Action: Mask}, {Path: "/ab", Action: Persist}}, true, ""},
		"something kept without a state":  {[]Rule{{Path: "/a", Action: Persist}}, false, "declare [state]"},
		"nothing kept without a state":    {[]Rule{{Path: "/a", Action: Mask}}, false, ""},
		"an exception below what is kept": {[]Rule{{Path: "/var", Action: Persist}, {Path: "/var/tmp", Action: Ephemeral}}, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckSet(c.rules, c.hasState)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("CheckSet() = %v, want %q", err, c.want)
			}
		})
	}
}

func TestTheSiteSaysOnlyWhatTheBaseAllows(t *testing.T) {
	base := []Rule{{Path: "/etc", Action: Merge}, {Path: "/srv", Action: Ephemeral, Site: []Action{Persist, Mask}}, {Path: "/opt", Action: Mask}}
	paths := []string{"/data/*", "/opt/**"}
	for name, c := range map[string]struct {
		site []Rule
		want string // the rule in force as PATH=ACTION/ORIGIN, or
		no   string // the refusal
	}{
		"nothing at all":                      {nil, "/etc=merge/base", ""},
		"an action that is allowed":           {[]Rule{{Path: "/srv", Action: Persist}}, "/srv=persist/site", ""},
		"an action that is not allowed":       {[]Rule{{Path: "/srv", Action: ReadOnly}}, "/srv=ephemeral/base", "it allows persist, mask"},
		"a rule of the base that is fixed":    {[]Rule{{Path: "/etc", Action: Persist}}, "/etc=merge/base", "nothing but its own rule"},
		"a new path that is open":             {[]Rule{{Path: "/data/x", Action: Persist}}, "/data/x=persist/site", ""},
		"a new path that is not open":         {[]Rule{{Path: "/home", Action: Persist}}, "", "state.rule-paths"},
		"a new path below a mask of the base": {[]Rule{{Path: "/opt/x", Action: Persist}}, "/opt=mask/base", "hide one another"},
		"two for one path":                    {[]Rule{{Path: "/data/x", Action: Persist}, {Path: "/data/x", Action: Mask}}, "/data/x=persist/site", "there are two"},
		"one that is broken":                  {[]Rule{{Path: "/srv", Action: "x"}}, "/srv=ephemeral/base", "none of persist"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := InForce(base, c.site, paths)
			if c.no == "" && err != nil || c.no != "" && (err == nil || !strings.Contains(err.Error(), c.no)) {
				t.Errorf("InForce() = %v, want a refusal with %q", err, c.no)
			}
			var all []string
			for _, e := range got {
				all = append(all, e.Path+"="+string(e.Action)+"/"+string(e.Origin))
			}
			if line := strings.Join(all, " "); !strings.Contains(" "+line+" ", " "+c.want+" ") && c.want != "" {
				t.Errorf("InForce() = %s, want %s among them", line, c.want)
			}
		})
	}
}

func TestDirectoriesComeBeforeWhatLiesInThem(t *testing.T) {
	got, err := InForce([]Rule{{Path: "/a-b", Action: Mask}, {Path: "/a/b", Action: Persist}, {Path: "/a", Action: Persist}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, e := range got {
		order = append(order, e.Path)
	}
	if line := strings.Join(order, " "); line != "/a /a/b /a-b" {
		t.Errorf("InForce orders %s", line)
	}
}

func TestWhatSurvives(t *testing.T) {
	for name, c := range map[string]struct {
		rule Rule
		path string
		want bool
	}{
		"everything, where nothing is said":     {Rule{}, "a/b", true},
		"what is allowed":                       {Rule{Allow: []string{"ssh/*_key"}}, "ssh/host_key", true},
		"not what is not":                       {Rule{Allow: []string{"ssh/*_key"}}, "ssh/config", false},
		"what lies in an allowed directory":     {Rule{Allow: []string{"NetworkManager"}}, "NetworkManager/a/b", true},
		"not its neighbour":                     {Rule{Allow: []string{"NetworkManager"}}, "NetworkManagers", false},
		"at any depth":                          {Rule{Allow: []string{"**/*.conf"}}, "a/b/c.conf", true},
		"at depth zero":                         {Rule{Allow: []string{"**/*.conf"}}, "c.conf", true},
		"deny wins over allow":                  {Rule{Allow: []string{"a"}, Deny: []string{"a/b"}}, "a/b", false},
		"what deny does not name":               {Rule{Deny: []string{"**/core"}}, "a/score", true},
		"what deny names at any depth":          {Rule{Deny: []string{"**/core"}}, "a/b/core", false},
		"a directory that leads to the allowed": {Rule{Allow: []string{"a/b/c"}}, "a/b", false}, // the sweep keeps it while it holds something
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.rule.Survives(c.path); got != c.want {
				t.Errorf("%+v.Survives(%q) = %v", c.rule, c.path, got)
			}
		})
	}
}

// plain is Match by the definition, in exponential time.
func plain(glob, name []string) bool {
	if len(glob) == 0 {
		return true
	}
	if glob[0] == "**" {
		for i := range len(name) + 1 {
			if plain(glob[1:], name[i:]) {
				return true
			}
		}
		return false
	}
	if len(name) == 0 {
		return false
	}
	ok, _ := path.Match(glob[0], name[0])
	return ok && plain(glob[1:], name[1:])
}

func FuzzMatchIsItsDefinition(f *testing.F) {
	f.Add("a/**/b*/**", "a/x/y/bc/d")
	f.Add("**/**", "a")
	f.Fuzz(func(t *testing.T, glob, name string) {
		if CheckGlob(glob) != nil || len(glob) > 24 || len(name) > 24 {
			return
		}
		want := plain(strings.Split(glob, "/"), strings.Split(name, "/"))
		if got := Match(glob, name); got != want {
			t.Errorf("Match(%q, %q) = %v, want %v", glob, name, got, want)
		}
	})
}
