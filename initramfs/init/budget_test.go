package main

// What PID 1 may link, how large it may get, and which package of ours may import which. The lists are in
// docs/dependencies.md (libraries) and below (our own packages, as ARCHITECTURE.md draws them).

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	module = "veneer"
	root   = "../.."
)

// own are our packages in PID 1.
var own = []string{"boot", "boot/switchroot", "images", "images/canonical", "images/devmapper", "images/sha2", "initramfs/machine", "initramfs/machine/probe", "initramfs/machine/tpm", "overlay", "overlay/entry", "overlay/identity", "overlay/mount", "overlay/rule", "overlay/state", "stage"}

// budgets are the most bytes that PID 1 may have, by variant and architecture. An initramfs is read by firmware that may be slow,
// and unpacked into memory that the machine may be short of.
var budgets = map[string]int64{"local amd64": 3_000_000, "local arm64": 3_200_000, "live amd64": 3_600_000, "net amd64": 8_000_000}

func TestPID1StaysWithinItsBudget(t *testing.T) {
	for name, budget := range budgets {
		t.Run(name, func(t *testing.T) {
			variant, arch, _ := strings.Cut(name, " ")
			file := filepath.Join(t.TempDir(), "init")
			// The flags of initramfs/release.
			goTool(t, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch, "GOEXPERIMENT=nogreenteagc"}, "build", "-trimpath", "-buildvcs=false",
				"-tags", "purego,"+variant, "-gcflags=all=-l", "-gcflags=filippo.io/edwards25519/...=", "-ldflags", "-s -w -buildid= -funcalign=4", "-o", file, "./initramfs/init")
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("PID 1 for %s: %d bytes of %d", name, info.Size(), budget)
			if info.Size() > budget {
				t.Errorf("PID 1 for %s has %d bytes, the budget is %d: see with 'go tool nm -size -sort size' what came in", name, info.Size(), budget)
			}
		})
	}
}

func TestPID1LinksOnlyWhatIsArguedFor(t *testing.T) {
	linked := linkedBy(t, "purego", []string{"os/exec", "net", "encoding/json", "regexp", "text/template", "flag", "testing", "C", "crypto/sha256", "crypto/sha512", "crypto/cipher"})
	compareLinked(t, append(arguedFor(t, "## PID 1\n"), ours(own)...), linked)
}

// ownNet are our packages in the variant net beside own.
var ownNet = []string{"boot/dialect", "boot/dialect/persistence", "boot/network", "images/copyin", "images/verity", "initramfs/network", "stage/live", "stage/netboot"}

func TestTheVariantForNetbootLinksOnlyWhatIsArguedFor(t *testing.T) {
	linked := linkedBy(t, "purego,net", []string{"os/exec", "encoding/json", "regexp", "text/template", "flag", "testing", "C"})
	allowed := append(arguedFor(t, "## PID 1\n"), arguedFor(t, "## PID 1 of the variant net\n")...)
	compareLinked(t, append(append(allowed, ours(own)...), ours(ownNet)...), linked)
}

// arguedFor are the libraries in the table below a heading of docs/dependencies.md.
func arguedFor(t *testing.T, heading string) (allowed []string) {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join(root, "docs/dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), heading)
	table, _, _ = strings.Cut(table, "\n## ")
	for _, row := range regexp.MustCompile(`(?m)^\| (\S+/\S+) \|`).FindAllStringSubmatch(table, -1) {
		allowed = append(allowed, row[1])
	}
	return allowed
}

// linkedBy are the packages that PID 1 links with these build tags, on any architecture; never are those of the library that it must do without.
func linkedBy(t *testing.T, tags string, never []string) (linked []string) {
	t.Helper()
	for _, arch := range []string{"amd64", "arm64"} {
		env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch}
		deps := goTool(t, env, "list", "-deps", "-tags", tags, "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./initramfs/init")
		linked = append(linked, strings.Fields(deps)...)
		std := strings.Fields(goTool(t, env, "list", "-deps", "-tags", tags, "-f", "{{if .Standard}}{{.ImportPath}}{{end}}", "./initramfs/init"))
		for _, n := range never {
			if slices.Contains(std, n) {
				t.Errorf("PID 1 for %s links %s, which it must do without", arch, n)
			}
		}
	}
	slices.Sort(linked)
	return slices.DeleteFunc(slices.Compact(linked), func(p string) bool { return p == module+"/initramfs/init" })
}

func ours(packages []string) (paths []string) {
	for _, p := range packages {
		paths = append(paths, module+"/"+p)
	}
	return paths
}

func compareLinked(t *testing.T, allowed, linked []string) {
	t.Helper()
	slices.Sort(allowed)
	if diff := cmp.Diff(allowed, linked); diff != "" {
		t.Errorf("packages in PID 1 differ from the table in docs/dependencies.md (-argued for +linked); argue there for what is new:\n%s", diff)
	}
}

// importers says who may import a package of ours; a trailing slash stands for everything below. A package that is not
// listed may be imported by any that lies above it.
var importers = map[string][]string{
	"cmd/":                       {},
	"initramfs/init":             {},
	"initramfs/machine":          {"initramfs/init", "vmtests/diskinit"},
	"initramfs/machine/firmware": {"stage/keeper"},
	"initramfs/machine/tpm":      {"initramfs/machine", "cmd/veneer"},
	"initramfs/machine/":         {"initramfs/machine", "initramfs/machine/", "stage/keeper/disk", "images/build", "images/esp", "images/device"},
	"images/esp":                 {"images/build", "cmd/veneer"},
	"initramfs/release":          {},
	"initramfs/release/":         {"initramfs/release", "examples/"},
	"initramfs":                  {"cmd/veneer", "initramfs/installed", "images/build", "initramfs/release", "examples/"},
	"images/build":               {"cmd/veneer", "vmtests"},
	"images/device":              {"cmd/veneer"},
	"initramfs/installed":        {"cmd/veneer"},
	"images/disk":                {"images/build", "vmtests", "vmtests/disks"},
	"images/devmapper":           {"images", "boot/switchroot", "initramfs/machine", "stage/keeper/disk"},
	"images/copyin":              {"stage/live", "stage/netboot", "stage/paper", "cmd/veneer"},
	"images/verity":              {"images/build", "images/copyin", "images/verity/veritytest", "cmd/veneer"},
	"images/verity/veritytest":   {},
	"vmtests":                    {},
	"vmtests/":                   {"cmd/veneer", "vmtests/"},
	"stage/live":                 {"initramfs/init", "stage/paper", "cmd/veneer"},
	"initramfs/network":          {"initramfs/init"},
	"boot/dialect":               {"initramfs/init", "cmd/veneer", "initramfs/installed"},
	"boot/dialect/persistence":   {"stage/live", "stage/paper"},
	"boot/network":               {"initramfs/init", "initramfs/network", "stage/netboot", "images/build", "cmd/veneer"},
	"stage/netboot":              {"initramfs/init", "cmd/veneer"},
	"stage/keeper":               {"cmd/veneer", "vmtests/diskinit"},
	"stage/keeper/":              {"stage/keeper"},
	"stage/report":               {"cmd/veneer"},
	"stage/watch":                {"cmd/veneer", "stage/report"},
	"overlay/changes":            {"cmd/veneer", "stage/report"},
	"stage":                      {"stage/", "cmd/veneer", "initramfs/init", "initramfs/machine", "initramfs/installed", "vmtests/identityinit", "vmtests/diskinit"},
	"boot/switchroot":            {"initramfs/init"},
	"initramfs/machine/disktest": {},
	"overlay/mount/mounttest":    {"initramfs/machine/disktest"},
	"overlay/merge/live":         {"cmd/veneer", "stage/report"},
	"overlay":                    {"stage", "stage/", "initramfs/machine", "cmd/veneer"},
}

// folders hold our packages; what else lies in the root of the module may be the scratch of a build.
var folders = []string{"boot", "cmd", "images", "initramfs", "overlay", "stage", "vmtests"}

// leaves import nothing of ours.
var leaves = []string{"boot", "images/canonical", "images/devmapper", "overlay/entry", "overlay/mount", "images/disk", "images/sha2", "images/verity", "initramfs/machine/probe", "initramfs/machine/tpm", "vmtests/qemu"}

func TestOurPackagesImportOnlyDownwards(t *testing.T) {
	args := []string{"list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`}
	for _, dir := range folders {
		args = append(args, "./"+dir+"/...")
	}
	list := goTool(t, nil, args...)
	edges := 0
	for _, line := range strings.Split(strings.TrimSpace(list), "\n") {
		words := strings.Fields(line)
		from := strings.TrimPrefix(words[0], module+"/")
		for _, word := range words[1:] {
			to, ours := strings.CutPrefix(word, module+"/")
			if !ours {
				continue
			}
			edges++
			if slices.Contains(leaves, from) {
				t.Errorf("%s imports %s, but is a leaf and imports nothing of ours", from, to)
			}
			if by, listed := allowedImporters(to); listed && !slices.ContainsFunc(by, func(p string) bool { return covers(p, from) }) {
				t.Errorf("%s imports %s, which only %q may", from, to, by)
			}
		}
	}
	if edges < 10 {
		t.Errorf("'go list' showed only %d imports of ours: this test looks at the wrong tree", edges)
	}
}

func TestOverlayAndImagesNeverMeet(t *testing.T) {
	for from, to := range map[string]string{"overlay": "images", "images": "overlay"} {
		deps := strings.Fields(goTool(t, nil, "list", "-deps", "./"+from))
		if slices.Contains(deps, module+"/"+to) {
			t.Errorf("%s reaches %s; stage joins the two with plain values", from, to)
		}
	}
}

// allowedImporters finds the row for a package: its own, or the longest prefix.
func allowedImporters(pkg string) (by []string, listed bool) {
	best := ""
	for row := range importers {
		if covers(row, pkg) && len(row) > len(best) {
			best = row
		}
	}
	by, listed = importers[best]
	return by, listed
}

// covers claims that a row, a package or a prefix with a trailing slash, stands for pkg.
func covers(row, pkg string) bool {
	return row == pkg || strings.HasSuffix(row, "/") && strings.HasPrefix(pkg, row)
}

// goTool runs the go command in the root of the module and returns what it prints.
func goTool(t *testing.T, env []string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, complaints.String())
	}
	return out.String()
}
