package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Gauge is a benchmark of one package's tests, natively run on several file systems.
type Gauge struct {
	Part    string // for -only
	Title   string // heading of its section
	Package string
	Bench   string // pattern of go test -bench
	Unit    string // of the benchmark's figures, the one that is shown
	Scale   float64
	Promise string // what docs and README promise
	Place   bool   // run once on each file system; or else the benchmark mounts its own
	Each    string // -test.benchtime
}

// gauges are what the state promises of time, beside that of a boot.
var gauges = []Gauge{
	{Part: "merge", Title: "Merge of an upper, natively", Package: "veneer/overlay/merge", Bench: "^BenchmarkMerge$", Unit: "ns/op", Scale: 1e6, Place: true, Each: "5x",
		Promise: "200 local paths under 100 ms, growing with the upper (`local`) and not with the base's directory (`base`). The two syncs are in it."},
	{Part: "diff", Title: "`veneer diff` of an upper of 10,000 files, natively", Package: "veneer/overlay/changes", Bench: "^BenchmarkChanges$", Unit: "ns/op", Scale: 1e6, Place: true, Each: "5x",
		Promise: "Under 300 ms. The walk and each comparison, of files that are in memory."},
	{Part: "reset", Title: "Reset of an upper of 1,000,000 files, natively", Package: "veneer/overlay/state", Bench: "^BenchmarkReset$", Unit: "reset-ms", Scale: 1, Each: "1x",
		Promise: "Under 200 ms. What the boot's step does, on a file system that was just mounted; starting the keeper comes on top."},
}

// Figure is one line of a gauge: milliseconds, one value a round.
type Figure struct {
	On     string // file system
	Case   string // of the benchmark, may be empty
	Millis []float64
}

// gaugeOn are the file systems; the images lie in the lab.
var gaugeOn = []string{"tmpfs", "ext4", "btrfs", "xfs"}

// Take runs a gauge, rounds times on each file system, and returns its figures in the order of the first round.
func (l *Lab) Take(ctx context.Context, g Gauge, rounds int) ([]Figure, error) {
	program := l.path(g.Part + ".test")
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return nil, err
	}
	if _, err := output(ctx, "go", "test", "-c", "-o", program, g.Package); err != nil {
		return nil, fmt.Errorf("%w; run in the module", err)
	}
	var figures []Figure
	for round := range rounds {
		for _, on := range gaugeOn {
			if !g.Place && on != "ext4" {
				continue
			}
			said, err := l.takeOn(ctx, g, on, program)
			if err != nil {
				return nil, fmt.Errorf("%s on %s: %w", g.Part, on, err)
			}
			taken, err := parseBench(said, g.Unit, g.Scale)
			if err != nil {
				return nil, fmt.Errorf("%s on %s: %w", g.Part, on, err)
			}
			for _, f := range taken {
				if f.On = on; !g.Place {
					f.On, f.Case = f.Case, ""
				}
				figures = addFigure(figures, f)
				fmt.Fprintf(l.Say, "bench: round %d/%d %-5s %-6s %-22s %7.1f ms\n", round+1, rounds, g.Part, f.On, f.Case, f.Millis[0])
			}
		}
	}
	return figures, nil
}

func addFigure(figures []Figure, f Figure) []Figure {
	for i := range figures {
		if figures[i].On == f.On && figures[i].Case == f.Case {
			figures[i].Millis = append(figures[i].Millis, f.Millis...)
			return figures
		}
	}
	return append(figures, f)
}

// takeOn runs the benchmark with its temporary files on a new file system of that kind.
func (l *Lab) takeOn(ctx context.Context, g Gauge, on, program string) (said string, err error) {
	dir := l.path("gauge")
	if g.Place {
		if err := l.mountGauge(ctx, on, dir); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, unix.Unmount(dir, 0), os.RemoveAll(dir+".img")) }()
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, "-test.run", "^$", "-test.bench", g.Bench, "-test.benchtime", g.Each)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.Dir = l.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out[max(0, len(out)-2000):])
	}
	return string(out), nil
}

// mountGauge mounts a new file system; one that a former run has left is taken down first.
func (l *Lab) mountGauge(ctx context.Context, kind, dir string) error {
	_ = unix.Unmount(dir, unix.MNT_DETACH)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if kind == "tmpfs" {
		_, err := output(ctx, "mount", "-t", "tmpfs", "-o", "size=2g", "gauge", dir)
		return err
	}
	image := dir + ".img"
	if err := errors.Join(os.RemoveAll(image), os.WriteFile(image, nil, 0o600), os.Truncate(image, 2<<30)); err != nil {
		return err
	}
	if _, err := output(ctx, "mkfs."+kind, image); err != nil {
		return err
	}
	_, err := output(ctx, "mount", "-o", "loop", image, dir)
	return err
}

// parseBench reads the lines of `go test -bench`: a name, a count, then pairs of value and unit. It fails where there is none, which
// is what a benchmark that was left out looks like.
func parseBench(said, unit string, scale float64) (figures []Figure, err error) {
	for line := range strings.Lines(said) {
		words := strings.Fields(line)
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		for i := 2; i+1 < len(words); i += 2 {
			if words[i+1] != unit {
				continue
			}
			value, err := strconv.ParseFloat(words[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			figures = append(figures, Figure{Case: benchCase(words[0]), Millis: []float64{value / scale}})
		}
	}
	if len(figures) == 0 {
		return nil, fmt.Errorf("the benchmark printed no %s:\n%s", unit, said)
	}
	return figures, nil
}

// benchCase takes the name of the sub-benchmark out of "BenchmarkName/case-2", whose tail is the number of CPUs.
func benchCase(name string) string {
	_, name, _ = strings.Cut(name, "/")
	if i := strings.LastIndexByte(name, '-'); i >= 0 {
		name = name[:i]
	}
	return strings.ReplaceAll(name, "/", ", ")
}

// section returns a gauge as a section of the report.
func (g Gauge) section(figures []Figure, host string, rounds int) Section {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nMedians of %d, %s.\n\n", g.Promise, rounds, host)
	b.WriteString("| file system | case | time |\n|---|---|---:|\n")
	for _, f := range figures {
		fmt.Fprintf(&b, "| %s | %s | %.1f ms |\n", f.On, f.Case, median(f.Millis))
	}
	return Section{g.Title, b.String()}
}

// host describes what native numbers were measured on.
func host() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "on this host"
	}
	return fmt.Sprintf("on Linux %s with %d CPUs; ext4, btrfs and xfs in loop-mounted files", unix.ByteSliceToString(u.Release[:]), runtime.NumCPU())
}
