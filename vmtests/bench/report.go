package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Row is the summary of one peer: medians over the rounds.
type Row struct {
	Peer      Peer
	Bytes     int64 // of the initramfs
	Merged    float64
	Ready     float64
	Available float64 // KiB at Merged
}

// Section is a part of bench.md. A run that measures some parts leaves the others as they were.
type Section struct {
	Title string
	Text  string
}

// Report is the outcome of the boots.
type Report struct {
	Machine string
	Rounds  int
	Rows    []Row // the first is the one that ratios refer to
}

func summarize(peers []Peer, samples []Sample) []Row {
	rows := make([]Row, len(peers))
	for i, peer := range peers {
		var merged, ready, available []float64
		for _, s := range samples {
			switch {
			case s.Peer != peer.Name:
			case s.Moment == Merged:
				merged = append(merged, s.Uptime)
				available = append(available, float64(s.Available))
			case s.Moment == Ready:
				ready = append(ready, s.Uptime)
			}
		}
		rows[i] = Row{Peer: peer, Merged: median(merged), Ready: median(ready), Available: median(available)}
		if info, err := os.Stat(peer.Initrd); err == nil {
			rows[i].Bytes = info.Size()
		}
	}
	return rows
}

// median of no values is 0.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

const (
	reportHead = "# Bench\n\nMade by `make bench`; `go run ./vmtests/bench -only PART,...` measures anew what it names and leaves the rest.\n"

	bootTitle  = "Boot"
	buildTitle = "Making the base image"
	stateTitle = "A boot with a state against a volatile one"
)

// sectionTitles are the sections of bench.md in their order.
func sectionTitles() []string {
	titles := []string{bootTitle, buildTitle, diskTitle, stateTitle}
	for _, g := range gauges {
		titles = append(titles, g.Title)
	}
	return titles
}

// place puts sections into the text of bench.md, each in the place of the one of its title. What has no title that is known goes.
func place(text string, sections []Section) string {
	have := map[string]string{}
	for _, part := range strings.Split(text, "\n## ")[1:] {
		title, body, _ := strings.Cut(part, "\n")
		have[title] = strings.Trim(body, "\n") + "\n"
	}
	for _, s := range sections {
		have[s.Title] = strings.Trim(s.Text, "\n") + "\n"
	}
	var b strings.Builder
	b.WriteString(reportHead)
	for _, title := range sectionTitles() {
		if body, ok := have[title]; ok {
			fmt.Fprintf(&b, "\n## %s\n\n%s", title, body)
		}
	}
	return b.String()
}

// write puts sections into bench.md of dir, and writes the picture, if there is one.
func write(dir string, sections []Section, picture string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	name := filepath.Join(dir, "bench.md")
	text, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(name, []byte(place(string(text), sections)), 0o644); err != nil || picture == "" {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "bench.svg"), []byte(picture), 0o644)
}

// section returns the report as a table.
func (r Report) section(title, about string) Section {
	var b strings.Builder
	fmt.Fprintf(&b, "%s Medians of %d boots, rounds interleaved.\n%s.\n\n", about, r.Rounds, r.Machine)
	b.WriteString("Times are the guest's uptime: when the first program of the merged root runs, and when systemd has reached\n" +
		"`multi-user.target` (another boot). Memory is `MemAvailable` at the first of them. The ratio is to the first row.\n\n")
	b.WriteString("| initramfs | verified | size | merged root | ratio | memory then | multi-user | ratio |\n|---|---|---:|---:|---:|---:|---:|---:|\n")
	for _, row := range r.Rows {
		verified := "no"
		if row.Peer.Verified {
			verified = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %.1f MB | %.2f s | %.2f | %.0f MiB | %.1f s | %.2f |\n", row.Peer.Title, verified, float64(row.Bytes)/1e6,
			row.Merged, ratio(row.Merged, r.Rows[0].Merged), row.Available/1024, row.Ready, ratio(row.Ready, r.Rows[0].Ready))
	}
	return Section{title, b.String()}
}

// buildSection returns what making an image takes, as a table.
func buildSection(builds []Build, rounds int) Section {
	var b strings.Builder
	fmt.Fprintf(&b, "Of the bench's Debian tree. Medians of %d, in turns.\n\n| made with | time | ratio |\n|---|---:|---:|\n", rounds)
	for _, build := range builds {
		fmt.Fprintf(&b, "| %s | %.1f s | %.2f |\n", build.Title, median(build.Seconds), ratio(median(build.Seconds), median(builds[0].Seconds)))
	}
	return Section{buildTitle, b.String()}
}

func ratio(value, base float64) float64 {
	if base == 0 {
		return 0
	}
	return value / base
}
