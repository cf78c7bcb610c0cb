package initramfs

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// IndexHeader is the first line of the module index. PID 1 refuses any other.
const IndexHeader = "veneer-modules 1"

// index writes what PID 1 reads instead of modules.dep and modules.alias, one fact a line:
//
//	veneer-modules 1
//	release RELEASE         as uname -r prints it
//	builtin NAME            the kernel has it in itself
//	module NAME [DEP ...]   NAME.ko; each DEP stands further up, or is built in
//	optional NAME FOR       try NAME before FOR; it may refuse this CPU
//	alias PATTERN NAME      NAME drives devices whose modalias matches
func (s *selection) index(release string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nrelease %s\n", IndexHeader, release)
	for _, name := range slices.Sorted(maps.Keys(s.builtin)) {
		fmt.Fprintf(&b, "builtin %s\n", name)
	}
	for _, m := range s.order {
		name := moduleName(m.path)
		fmt.Fprintln(&b, strings.Join(append([]string{"module", name}, s.deps[name]...), " "))
	}
	for _, v := range s.optional {
		fmt.Fprintf(&b, "optional %s %s\n", v.name, v.before)
	}
	for _, m := range s.order {
		for _, pattern := range deviceAliases(m.Aliases) {
			fmt.Fprintf(&b, "alias %s %s\n", pattern, moduleName(m.path))
		}
	}
	return b.Bytes()
}

// deviceAliases returns the patterns that the modalias of a device can match, in the form that PID 1 looks them up by: BUS:REST.
// Names of file systems, algorithms and device nodes have no modalias; CPU features and board names have one, but what they
// bring is not what a boot waits for.
func deviceAliases(aliases []string) []string {
	var patterns []string
	for _, a := range aliases {
		bus, rest, ok := strings.Cut(a, ":")
		if _, err := path.Match(a, ""); !ok || err != nil {
			continue
		}
		switch bus {
		case "cpu", "devname", "dmi", "dmi*":
			continue
		case "acpi*":
			// The star stands for the identifiers before this one: acpi:HID:CID:.
			a = "acpi:*" + strings.TrimPrefix(rest, "*")
		}
		patterns = append(patterns, a)
	}
	return patterns
}
