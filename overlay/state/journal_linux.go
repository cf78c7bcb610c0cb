package state

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"veneer/images/canonical"
)

// Limits of the journal: what is kept, and what is looked at.
const (
	keptEntries = 256
	maxJournal  = 8192
	maxEntry    = 16 << 10
)

// EntryFormat is the version of a journal entry's JSON form.
const EntryFormat = 1

// Outcomes of an operation.
const (
	Done      = "done"
	Nothing   = "nothing to do" // what was asked for is how it is
	Refused   = "refused"       // it cannot be done, and nothing was changed; it is not tried again
	Failed    = "failed"        // it could not be finished; the next boot goes on with it
	Destroyed = "destroyed"     // the key of the state is gone, and with it everything
)

// An Entry of the journal is an operation that was carried out. Entries are written once and never changed.
type Entry struct {
	Format  int
	Number  int // counts up; the name of its file
	ID      string
	Kind    Kind
	From    string // who asked
	What    string // what was done, for people
	When    string // RFC 3339
	Boot    string // ID of the boot
	Outcome string
	Of      string // the operation that this one undid
	Why     string // of a refusal or failure, or what the request said
}

func (e *Entry) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &e.Format)
	canonical.Number(c, "number", &e.Number)
	canonical.String(c, "id", &e.ID)
	canonical.String(c, "kind", &e.Kind)
	canonical.String(c, "from", &e.From)
	canonical.String(c, "what", &e.What)
	canonical.String(c, "when", &e.When)
	canonical.String(c, "boot", &e.Boot)
	canonical.String(c, "outcome", &e.Outcome)
	canonical.String(c, "of", &e.Of)
	canonical.String(c, "why", &e.Why)
}

// ParseEntry reads an entry of the journal.
func ParseEntry(text []byte) (Entry, error) {
	var e Entry
	if err := canonical.Read(text, e.walk); err != nil {
		return Entry{}, err
	}
	if e.Format != EntryFormat {
		return Entry{}, fmt.Errorf("entry has format %d, this veneer knows %d", e.Format, EntryFormat)
	}
	return e, checkID(e.ID)
}

// Journal lists what was done, oldest first.
func (d *Dir) Journal() ([]Entry, []Problem, error) {
	numbers, problems, err := d.entryNumbers()
	if err != nil {
		return nil, nil, err
	}
	if len(numbers) > keptEntries {
		numbers = numbers[len(numbers)-keptEntries:]
	}
	var entries []Entry
	for _, n := range numbers {
		rel := entryPath(n)
		text, err := d.read(rel, maxEntry)
		if err != nil {
			problems = append(problems, Problem{rel, err})
			continue
		}
		e, err := ParseEntry(text)
		if err == nil && e.Number != n {
			err = fmt.Errorf("it is number %d", e.Number)
		}
		if err != nil {
			problems = append(problems, Problem{rel, err})
			continue
		}
		entries = append(entries, e)
	}
	return entries, problems, nil
}

func entryPath(n int) string { return path.Join(journalDir, strconv.Itoa(n)+".json") }

// entryNumbers lists the numbers of the entries in order.
func (d *Dir) entryNumbers() ([]int, []Problem, error) {
	names, err := d.names(journalDir, maxJournal)
	if err != nil {
		return nil, nil, err
	}
	var numbers []int
	var problems []Problem
	for _, name := range names {
		text, ok := strings.CutSuffix(name, ".json")
		n, err := strconv.Atoi(text)
		if !ok || err != nil || n < 1 || strconv.Itoa(n) != text {
			problems = append(problems, Problem{path.Join(journalDir, name), errNotOurs})
			continue
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers, problems, nil
}

// note appends an entry, unless the operation has one already: whoever was stopped behind it comes here again. The oldest entries
// go when there are too many.
func (d *Dir) note(e Entry, now time.Time) (Entry, error) {
	entries, _, err := d.Journal()
	if err != nil {
		return e, err
	}
	for _, old := range entries {
		if old.ID == e.ID && old.Kind == e.Kind {
			return old, nil
		}
	}
	if err := d.mkdir(journalDir); err != nil {
		return e, err
	}
	numbers, _, err := d.entryNumbers()
	if err != nil {
		return e, err
	}
	e.Format, e.Number, e.When = EntryFormat, 1, now.UTC().Format(time.RFC3339)
	if len(numbers) > 0 {
		e.Number = numbers[len(numbers)-1] + 1
	}
	if err := d.create(entryPath(e.Number), canonical.Write(e.walk)); err != nil {
		return e, err
	}
	for len(numbers) >= keptEntries {
		if err := d.remove(entryPath(numbers[0])); err != nil {
			return e, err
		}
		numbers = numbers[1:]
	}
	return e, nil
}

// noted reports whether the journal has an operation.
func (d *Dir) noted(id string) bool {
	entries, _, _ := d.Journal()
	for _, e := range entries {
		if e.ID == id {
			return true
		}
	}
	return false
}
