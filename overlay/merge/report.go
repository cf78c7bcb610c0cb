package merge

import (
	"errors"
	"fmt"

	"veneer/images/canonical"
	"veneer/overlay/entry"
)

// ReportFormat is the version of the form of a report.
const ReportFormat = 1

// MaxReport bounds the size of a report that is read, in bytes.
const MaxReport = 64 << 20

// Limits of a report. Every conflict is kept, of the others so many.
const (
	maxItems  = 1 << 18
	maxOthers = 1000
)

// Report is what a merge did, path by path.
type Report struct {
	Format  int
	From    string // the old base, as the caller names it
	To      string // the new base
	TwoWay  bool   // the old base was not known: every difference is local
	Counts  Counts
	Items   []Item
	Omitted int // items that are counted and not listed
}

// Item is one path of a report.
type Item struct {
	Path    string // relative to the merged directory; "." is the directory itself
	Verdict Verdict
	Note    string
	Side    string // where the base's side lies: a path like Path, empty for nowhere
}

// Counts are the paths for each verdict.
type Counts struct {
	KeptLocal, TookNew, Pruned, DeletedLocal, Merged, Conflict, TypeClash int
}

// of returns the counter of a verdict, nil for what is none.
func (c *Counts) of(v Verdict) *int {
	switch v {
	case KeptLocal:
		return &c.KeptLocal
	case TookNew:
		return &c.TookNew
	case Pruned:
		return &c.Pruned
	case DeletedLocal:
		return &c.DeletedLocal
	case Merged:
		return &c.Merged
	case Conflict:
		return &c.Conflict
	case TypeClash:
		return &c.TypeClash
	}
	return nil
}

// Add counts so many paths.
func (c *Counts) Add(v Verdict, paths int) {
	if n := c.of(v); n != nil {
		*n += paths
	}
}

// Open claims that somebody has to decide: both sides changed, and one lies beside the other.
func (v Verdict) Open() bool { return v == Conflict || v == TypeClash }

// add counts an item, and lists it as far as there is room.
func (r *Report) add(i Item) {
	r.Counts.Add(i.Verdict, 1)
	if n := len(r.Items); n < maxItems && (i.Verdict.Open() || n-r.Counts.Conflict-r.Counts.TypeClash < maxOthers) {
		r.Items = append(r.Items, i)
		return
	}
	r.Omitted++
}

// Encode returns the report as JSON. Paths stand in it as entry.Quote writes them.
func (r *Report) Encode() []byte { return canonical.Write(r.walk) }

// ReadReport reads what Encode wrote.
func ReadReport(text []byte) (*Report, error) {
	if len(text) > MaxReport {
		return nil, fmt.Errorf("read report: %d bytes are too many", len(text))
	}
	r := &Report{}
	if err := canonical.Read(text, r.walk); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	return r, nil
}

var errFormat = errors.New("unknown format: another version of veneer wrote it")

func (r *Report) walk(c *canonical.Coder) {
	if r.Format == 0 {
		r.Format = ReportFormat
	}
	canonical.Number(c, "format", &r.Format)
	if r.Format != ReportFormat {
		c.Fail(errFormat)
	}
	canonical.String(c, "from", &r.From)
	canonical.String(c, "to", &r.To)
	c.Bool("two-way", &r.TwoWay)
	c.Object("counts", r.Counts.Walk)
	canonical.List(c, "items", &r.Items, maxItems, walkItem)
	canonical.Number(c, "omitted", &r.Omitted)
}

// Walk visits the counts under the names of their verdicts, as fields of an object.
func (n *Counts) Walk(c *canonical.Coder) {
	for _, v := range []Verdict{KeptLocal, TookNew, Pruned, DeletedLocal, Merged, Conflict, TypeClash} {
		canonical.Number(c, string(v), n.of(v))
	}
}

func walkItem(c *canonical.Coder, i *Item) {
	quoted(c, "path", &i.Path)
	canonical.String(c, "verdict", &i.Verdict)
	if (&Counts{}).of(i.Verdict) == nil {
		c.Fail(fmt.Errorf("unknown verdict %q", i.Verdict))
	}
	c.Optional("note", &i.Note)
	side := entry.Quote(i.Side)
	c.Optional("side", &side)
	var ok bool
	if i.Side, ok = entry.Unquote(side); !ok {
		c.Fail(fmt.Errorf("%q is no path as veneer writes it", side))
	}
}

// quoted is a field that is a path.
func quoted(c *canonical.Coder, name string, path *string) {
	q := entry.Quote(*path)
	canonical.String(c, name, &q)
	var ok bool
	if *path, ok = entry.Unquote(q); !ok {
		c.Fail(fmt.Errorf("%q is no path as veneer writes it", q))
	}
}
