package main

import (
	"errors"
	"fmt"
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

// Report is the outcome of a bench.
type Report struct {
	Machine string
	Rounds  int
	Rows    []Row // the first is the one that ratios refer to
	Builds  []Build
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

// Write writes bench.md and bench.svg to dir.
func (r Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "bench.md"), []byte(r.Markdown()), 0o644),
		os.WriteFile(filepath.Join(dir, "bench.svg"), []byte(r.SVG()), 0o644))
}

// Markdown returns the report as a table.
func (r Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Boot bench\n\nThe same Debian, kernel and virtual machine for every row; medians of %d boots, rounds interleaved.\n%s.\n\n", r.Rounds, r.Machine)
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
	if len(r.Builds) > 0 {
		b.WriteString("\n| making the base image | time | ratio |\n|---|---:|---:|\n")
		for _, build := range r.Builds {
			fmt.Fprintf(&b, "| %s | %.1f s | %.2f |\n", build.Title, median(build.Seconds), ratio(median(build.Seconds), median(r.Builds[0].Seconds)))
		}
	}
	b.WriteString("\nMade by `make bench`.\n")
	return b.String()
}

func ratio(value, base float64) float64 {
	if base == 0 {
		return 0
	}
	return value / base
}
