package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// example is a report with numbers that are easy to check by hand.
func example(t *testing.T) Report {
	t.Helper()
	initrd := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(initrd, make([]byte, 2_500_000), 0o644); err != nil {
		t.Fatal(err)
	}
	peers := []Peer{
		{Name: "floor", Title: "floor", Initrd: initrd},
		{Name: "slow", Title: "slow & <verified>", Verified: true, Initrd: initrd},
	}
	samples := []Sample{
		{"floor", Merged, 2, 900 * 1024}, {"slow", Merged, 9, 800 * 1024}, {"floor", Ready, 10, 0}, {"slow", Ready, 30, 0},
		{"floor", Merged, 100, 0}, {"slow", Merged, 8, 700 * 1024}, {"floor", Ready, 12, 0}, {"slow", Ready, 20, 0},
		{"floor", Merged, 1, 900 * 1024}, {"slow", Merged, 8, 800 * 1024},
	}
	return Report{Machine: "A machine", Rounds: 3, Rows: summarize(peers, samples)}
}

func TestReportIsTablesOfMedians(t *testing.T) {
	gauge := gauges[0].section([]Figure{{"ext4", "local=200, base=1000", []float64{9, 8, 30}}, {"xfs", "", []float64{1}}}, "on a host", 3)
	builds := buildSection([]Build{{"bare", []float64{10, 20, 30}}, {"full", []float64{21, 22, 23}}}, 3)
	golden(t, "bench.md", place("", []Section{gauge, builds, example(t).section(bootTitle, "Boots.")}))
}

func TestAPartThatIsMeasuredAnewTakesItsOwnPlace(t *testing.T) {
	build, state := Section{buildTitle, "slow\n"}, Section{stateTitle, "a table\n\nand more\n"}
	text := place("# An older head\n\n## Forgotten\n\nx\n", []Section{state, build})
	text = place(text, []Section{{buildTitle, "quick\n"}})
	want := reportHead + "\n## " + buildTitle + "\n\nquick\n\n## " + stateTitle + "\n\na table\n\nand more\n"
	if diff := cmp.Diff(want, text); diff != "" {
		t.Errorf("place() (-want +got):\n%s", diff)
	}
}

func TestFiguresComeOutOfTheWordsOfABenchmark(t *testing.T) {
	said := "goos: linux\nBenchmarkMerge/local=200/base=1000-2 \t 5\t 12500000 ns/op\t 3.5 plan-ms\nBenchmarkReset/ext4-2 1 91.5 reset-ms\nPASS\n"
	for unit, want := range map[string][]Figure{
		"ns/op":    {{Case: "local=200, base=1000", Millis: []float64{12.5}}},
		"reset-ms": {{Case: "ext4", Millis: []float64{91.5 / 1e6}}},
	} {
		got, err := parseBench(said, unit, 1e6)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", unit, diff)
		}
	}
	if _, err := parseBench("--- SKIP: BenchmarkReset\nPASS\n", "ns/op", 1); err == nil {
		t.Error("a benchmark that was skipped has figures")
	}
}

func TestEachPartIsAWordThatIsUnderstood(t *testing.T) {
	for _, g := range gauges {
		if got, err := wantedParts(g.Part); err != nil || len(got) != 1 {
			t.Errorf("wantedParts(%q) = %v, %v", g.Part, got, err)
		}
	}
	if _, err := wantedParts("merge,speed"); err == nil {
		t.Error("a part that is not there is not refused")
	}
}

func TestReportIsAPictureThatIsWellFormed(t *testing.T) {
	svg := example(t).SVG()
	golden(t, "bench.svg", svg)
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestMedian(t *testing.T) {
	cases := []struct {
		name   string
		values []float64
		want   float64
	}{
		{"of nothing is zero", nil, 0},
		{"of one is itself", []float64{3}, 3},
		{"of an odd number is the middle one", []float64{9, 1, 5}, 5},
		{"of an even number is between the middle ones", []float64{9, 1, 5, 2}, 3.5},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := median(c.values); got != c.want {
				t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
			}
		})
	}
}

func TestMachineIsTheSameForAllPeers(t *testing.T) {
	lab := Lab{Dir: "/lab", release: "6.1"}
	a := lab.machineFor(Peer{Append: []string{"a"}, Initrd: "a"}, Merged, "tcg")
	b := lab.machineFor(Peer{Append: []string{"b"}, Initrd: "b"}, Merged, "tcg")
	if diff := cmp.Diff([]string{"console=ttyS0", "quiet", "panic=-1", "a", "init=/bench-init"}, a.Append); diff != "" {
		t.Errorf("command line (-want +got):\n%s", diff)
	}
	a.Append, a.Initrd, b.Append, b.Initrd = nil, "", nil, ""
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("machines differ:\n%s", diff)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run 'go test ./vmtests/bench -update' and review the file", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
