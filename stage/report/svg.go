package report

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"
)

// Measures of the picture, in pixels.
const (
	svgWidth = 800
	svgNames = 150 // room for the names of the steps
	svgTimes = 90  // room for a duration behind the last bar
	svgHead  = 54
	svgRow   = 24
	svgBar   = 14
	svgFoot  = 34
	svgAxis  = 18 // from the last bar down to the numbers
	svgTicks = 8  // at most
)

// SVG draws the timeline as a picture that needs no script, font or style from elsewhere.
func (r *Report) SVG() []byte {
	start, end := span(r.Record)
	total := max(end-start, time.Microsecond)
	height := svgHead + svgRow*len(r.Steps) + svgFoot
	x := func(d time.Duration) float64 {
		return svgNames + float64(d)/float64(total)*(svgWidth-svgNames-svgTimes)
	}
	var b strings.Builder
	title := escape(fmt.Sprintf("Boot of %s %s", plain(r.Deployment.Name), plain(r.Deployment.Version)))
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" font-family="sans-serif" font-size="12">`+"\n",
		svgWidth, height, svgWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n", title)
	fmt.Fprintf(&b, `<text x="10" y="22" font-size="15" font-weight="bold" fill="#222">%s</text>`+"\n", title)
	fmt.Fprintf(&b, `<text x="10" y="42" fill="#555">%s</text>`+"\n", escape(r.headline()))
	bottom := svgHead + svgRow*len(r.Steps)
	for step, at := tick(total), time.Duration(0); at <= total; at += step {
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#ddd"/>`, x(at), svgHead, bottom)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#555">%s</text>`+"\n", x(at), bottom+svgAxis, at)
	}
	for i, s := range r.Steps {
		from, to := x(s.Start.Duration()-start), x((s.Start+s.Took).Duration()-start)
		y, fill := svgHead+svgRow*i, "#3b7dd8"
		if s.Error != "" {
			fill = "#c0392b"
		}
		text := y + svgRow/2 + 4
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end" fill="#222">%s</text>`, svgNames-8, text, escape(plain(s.Name)))
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>`, from, y+(svgRow-svgBar)/2, max(1.5, to-from), svgBar, fill)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" fill="#555">%s</text>`+"\n", max(from+1.5, to)+5, text, escape(took(s)))
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// tick is the distance between the marks on the axis: 1, 2 or 5 times a power of ten.
func tick(total time.Duration) time.Duration {
	for unit := time.Microsecond; ; unit *= 10 {
		for _, n := range []time.Duration{1, 2, 5} {
			if total/(n*unit) < svgTicks {
				return n * unit
			}
		}
	}
}

func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		panic(err) // a Builder takes everything
	}
	return b.String()
}
