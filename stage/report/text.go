package report

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"
	"text/tabwriter"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/entry"
	"veneer/stage"
	"veneer/stage/watch"
)

// shortID is how much of an image's ID people see; --json has it all.
const shortID = 12

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	d := r.Deployment
	var b strings.Builder
	if loud := r.Banner(); loud != "" {
		b.WriteString(loud + "\n")
	}
	fmt.Fprintf(&b, "%s %s (epoch %d, %s)\n", plain(d.Name), plain(d.Version), d.Epoch, plain(d.Architecture))
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("Deployment", "%s: %s", plain(d.Serial), plain(d.Why))
	line("Verified", "%s", r.verified())
	for _, a := range r.Record.Aliases {
		line("Alias", "%s", plain(a))
	}
	line("Degraded", "%s", r.degraded())
	if text := r.trust(); text != "" {
		line("Trust", "%s", text)
	}
	line("Kernel", "%s", plain(r.Kernel))
	line("Store", "%s", r.store())
	if c := r.Store.Copy; c.Asked != "" {
		line("Memory", "%s", copied(c))
	}
	if r.MediumLost != "" {
		line("Medium", "GONE: %s", plain(r.MediumLost))
	}
	line("Upper", "%s", r.upper())
	line("State", "%s", r.state())
	if len(r.Rules) > 0 {
		line("Rules", "%s", r.ruleCount())
	}
	if r.kept() {
		line("Blessed", "%s", r.boots())
	}
	line("Watermarks", "%s", r.watermarks())
	line("Init", "%s", plain(r.Init))
	b.WriteString("\nImages, from the bottom of the stack:\n" + r.images())
	b.WriteString(r.changesOfBase() + openConflicts(r.conflicts(context.Background())) + r.done())
	b.WriteString("\n" + r.headline() + ":\n" + r.steps())
	_, err := io.WriteString(w, b.String())
	return err
}

// verified says in plain words who vouches for what.
func (r *Report) verified() string {
	v := r.Record.Verified
	if r.Deployment.Serial == stage.Installed {
		return "NO: unverified: the root is that of an installed system, which nobody signed"
	}
	if v.Pinned != "" {
		return "pinned digest: each image was read whole at boot and is the one that the initramfs names (" + plain(v.Pinned) +
			"); what is read from it later is NOT checked"
	}
	if !v.Manifest && !v.Images {
		return "NO: the manifest's signature was not checked, and what is read from the images is not"
	}
	signed := "NO: the manifest's signature was not checked"
	if v.Manifest {
		signed = "yes, signed with key " + plain(v.KeyID)
		if v.KeyFile != "" {
			signed += " (" + plain(v.KeyFile) + ")"
		}
	}
	if !v.Images {
		return signed + ", but what is read from the images is NOT checked"
	}
	consequence := map[images.Corruption]string{images.EIO: "fails to read", images.Restart: "restarts the machine", images.Panic: "panics the kernel"}[v.Corruption]
	if consequence == "" {
		consequence = plain(string(v.Corruption))
	}
	return signed + "; each block is checked when it is read, and a bad one " + consequence
}

// store says where the set came from.
func (r *Report) store() string {
	s := r.Record.Store
	text := fmt.Sprintf("%s is %s (%s)", plain(s.Reference), plain(s.Device), plain(s.FileSystem))
	if m := s.Medium; m.File != "" {
		text += fmt.Sprintf(", the file %s on %s (%s)", plain(m.File), plain(m.Device), plain(m.FileSystem))
	}
	if s.Copy.Released {
		return text + ", released: it is not used any more"
	}
	return text + ", directory " + plain(path.Join("/", s.Dir))
}

// copied says what became of the copy in memory.
func copied(c stage.Copy) string {
	if !c.Images {
		return "no, the images stay on the medium: " + plain(c.Why)
	}
	medium := "the medium is still in use, for the state"
	if c.Released {
		medium = "the medium may be removed"
	}
	return fmt.Sprintf("yes, %s of images are in memory, %s; %s", Size(c.Bytes), medium, plain(c.Why))
}

func (r *Report) degraded() string {
	if len(r.Record.Degraded) == 0 {
		return "no"
	}
	var all []string
	for _, d := range r.Record.Degraded {
		all = append(all, fmt.Sprintf("YES: %s: %s", plain(d.What), plain(d.Why)))
	}
	return strings.Join(all, "\n"+strings.Repeat(" ", len("  Degraded    ")))
}

func (r *Report) upper() string {
	kind := plain(r.Record.Upper.Kind)
	if kind == string(boot.UpperTmpfs) {
		kind += ", volatile: what is written is gone after the next boot"
		if r.kept() && len(r.Rules) > 0 {
			kind = string(boot.UpperTmpfs) + ", volatile: what is written outside the rules' paths is gone after the next boot"
		}
	}
	if kind == string(boot.UpperPersistent) && r.lost() {
		kind = inMemory + ", as the state is: what is written is gone after the next boot"
	}
	if kind == string(boot.UpperPersistent) && r.kept() {
		kind += ": what is written is kept, but where a rule says otherwise"
	}
	s := r.Space
	if s == nil {
		return fmt.Sprintf("%s; %s, use unknown: %s", kind, Size(r.Record.Upper.Size), plain(r.Unknown))
	}
	return kind + "; " + s.use() + r.level(watch.Upper)
}

// use is how full a file system is, for people.
func (s *Space) use() string {
	use := fmt.Sprintf("%s of %s used", Size(s.Used), Size(s.Size))
	if s.Size > 0 {
		use += fmt.Sprintf(" (%d%%)", int64(float64(s.Used)/float64(s.Size)*100))
	}
	if s.Files > 0 {
		use += fmt.Sprintf(", %d of %d files", s.FilesUsed, s.Files)
	}
	return use
}

func (r *Report) images() string {
	return table(func(row func(cells ...string)) {
		for _, i := range r.Images {
			row(string(i.Role), i.Name, i.ID[:min(shortID, len(i.ID))], i.FileSystem, Size(i.Size), i.Device)
		}
	})
}

func (r *Report) steps() string {
	return table(func(row func(cells ...string)) {
		for _, s := range r.Steps {
			row(s.Name, took(s), s.Error)
		}
	})
}

// headline sums the boot up.
func (r *Report) headline() string {
	start, end := span(r.Record)
	return fmt.Sprintf("Kernel %s, then %s to the merged root", duration(start), duration(end-start))
}

// span is the kernel uptime when PID 1 began and when the last step ended.
func span(r *stage.Record) (start, end time.Duration) {
	start = r.Started.Duration()
	end = start
	for _, s := range r.Steps {
		start = min(start, s.Start.Duration())
		end = max(end, s.Start.Duration()+s.Took.Duration())
	}
	return start, end
}

func table(fill func(row func(cells ...string))) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fill(func(cells ...string) {
		for i, c := range cells {
			cells[i] = plain(c)
		}
		fmt.Fprintln(t, "  "+strings.Join(cells, "\t"))
	})
	t.Flush()
	lines := strings.SplitAfter(b.String(), "\n")
	for i, l := range lines {
		if l != "" {
			lines[i] = strings.TrimRight(l, " \n") + "\n"
		}
	}
	return strings.Join(lines, "")
}

// plain makes a string harmless on a terminal: whatever is not printed as itself is quoted.
func plain(s string) string { return entry.Plain(s) }

func took(s stage.Step) string {
	d := duration(s.Took.Duration())
	if s.Error != "" {
		d += " FAILED"
	}
	return d
}

// duration shortens a time span to three digits or so.
func duration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// Size spells an amount with one digit behind the point, in powers of 1024.
func Size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f := float64(n)
	for f >= 1023.95 && len(units) > 1 {
		f, units = f/1024, units[1:]
	}
	if units[0] == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[0])
}
