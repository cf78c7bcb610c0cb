package main

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// Geometry of the picture, in pixels.
const (
	svgWidth  = 800
	svgLabels = 310 // width of the titles
	svgRoom   = 60  // right of the longest bar, for its number
	svgTop    = 64
	svgBar    = 13
	svgRow    = 40
)

// svgStyle makes the picture readable on a light page and on a dark one.
const svgStyle = `text{font:13px sans-serif;fill:#1f2328}.small{font-size:11px}.title{font-weight:bold}` +
	`.merged{fill:#0969da}.ready{fill:#8c959f}` +
	`@media(prefers-color-scheme:dark){text{fill:#e6edf3}.merged{fill:#58a6ff}.ready{fill:#6e7681}}`

// SVG returns the report as bars: for each peer the uptime at the merged root and at multi-user.target, on one scale.
func (r Report) SVG() string {
	longest := 1.0
	for _, row := range r.Rows {
		longest = max(longest, row.Merged, row.Ready)
	}
	height := svgTop + svgRow*len(r.Rows)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n", svgWidth, height, svgWidth, height)
	fmt.Fprintf(&b, "<title>Guest uptime at the merged root and at multi-user.target, in seconds</title>\n<style>%s</style>\n", svgStyle)
	b.WriteString(`<text class="title" x="8" y="20">Seconds from power on, less is better</text>` + "\n")
	legend(&b, 8, "merged", "first program of the merged root")
	legend(&b, svgLabels, "ready", "multi-user.target")
	for i, row := range r.Rows {
		y := svgTop + svgRow*i
		title := row.Peer.Title
		if row.Peer.Verified {
			title += " ✓"
		}
		fmt.Fprintf(&b, `<text x="8" y="%d">%s</text>`+"\n", y+svgBar+4, escapeXML(title))
		bar(&b, "merged", y, row.Merged, longest)
		bar(&b, "ready", y+svgBar+2, row.Ready, longest)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func legend(b *strings.Builder, x int, class, text string) {
	fmt.Fprintf(b, `<rect class="%s" x="%d" y="34" width="12" height="12"/><text class="small" x="%d" y="44">%s</text>`+"\n", class, x, x+18, text)
}

func bar(b *strings.Builder, class string, y int, value, longest float64) {
	width := value / longest * (svgWidth - svgLabels - svgRoom)
	fmt.Fprintf(b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`, class, svgLabels, y, width, svgBar)
	fmt.Fprintf(b, `<text class="small" x="%.1f" y="%d">%.1f</text>`+"\n", svgLabels+width+5, y+svgBar-2, value)
}

func escapeXML(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}
