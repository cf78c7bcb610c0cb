package state

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/images/canonical"
)

// Blessing is the last boot that was found good.
type Blessing struct {
	Format     int
	Boot       string
	Deployment string
	When       string // RFC 3339
	Entry      int    // the newest number of the journal then
}

func (b *Blessing) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &b.Format)
	canonical.String(c, "boot", &b.Boot)
	canonical.String(c, "deployment", &b.Deployment)
	canonical.String(c, "when", &b.When)
	canonical.Number(c, "entry", &b.Entry)
}

// Blessed returns the last blessing; one that was never given has no boot.
func (d *Dir) Blessed() (Blessing, error) {
	text, err := d.read(blessedFile, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return Blessing{}, nil
	}
	if err != nil {
		return Blessing{}, err
	}
	var b Blessing
	err = canonical.Read(text, b.walk)
	return b, d.wrap("read", blessedFile, err)
}

// PlanBless lists the operations that a bless would make final.
func (d *Dir) PlanBless() ([]Operation, error) {
	all, _, err := d.Operations()
	if err != nil {
		return nil, err
	}
	var final []Operation
	for _, o := range all {
		if !o.Pending && o.Kind != Quarantine {
			final = append(final, o)
		}
	}
	return final, nil
}

// Bless marks a boot as good: its state is one to return to, the count of attempts begins anew, and what operations moved aside goes
// to the trash, since nobody will undo them. What was quarantined stays: it was never asked to go. A second bless of a boot that
// has nothing to make final changes nothing.
//
// The mark comes first: a stop behind it leaves operations that can still be undone, and the next bless takes them.
func (d *Dir) Bless(boot, deployment string, now time.Time) ([]Operation, error) {
	final, err := d.PlanBless()
	if err != nil {
		return nil, err
	}
	before, err := d.Blessed()
	if err == nil && before.Boot == boot && boot != "" && len(final) == 0 {
		return nil, d.clearAttempts()
	}
	if err := d.makeRoom(); err != nil {
		return nil, err
	}
	var what []string
	for _, o := range final {
		what = append(what, o.What)
	}
	if len(final) > 0 {
		id, err := d.nextID(now)
		if err != nil {
			return nil, err
		}
		text := strings.Join(what, "; ")
		if _, err := d.note(Entry{ID: id, Kind: Bless, From: "command", What: "no longer to be undone: " + text[:min(len(text), maxEntry/8)], Boot: boot, Outcome: Done}, now); err != nil {
			return nil, err
		}
	}
	numbers, _, err := d.entryNumbers()
	if err != nil {
		return nil, err
	}
	b := Blessing{Format: 1, Boot: boot, Deployment: deployment, When: now.UTC().Format(time.RFC3339)}
	if len(numbers) > 0 {
		b.Entry = numbers[len(numbers)-1]
	}
	if err := d.write(blessedFile, canonical.Write(b.walk)); err != nil {
		return nil, err
	}
	if err := d.clearAttempts(); err != nil {
		return nil, err
	}
	for _, o := range final {
		if err := d.discard(path.Join(asideDir, o.ID)); err != nil {
			return nil, err
		}
	}
	return final, nil
}

// attempts is the count of boots with a state that nobody has blessed yet.
type attempts struct {
	Count int
	Boot  string // the last one
}

// attemptsSize is the fixed size of the file of attempts: it is overwritten in place, in one sector, with no block to find.
const attemptsSize = 128

func (d *Dir) readAttempts() attempts {
	text, err := d.read(attemptsFile, attemptsSize)
	var a attempts
	if err != nil || len(text) != attemptsSize {
		return a
	}
	count, boot, ok := strings.Cut(strings.TrimRight(string(text), " \n"), " ")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || n < 0 || n > 1<<20 {
		return a
	}
	return attempts{n, boot}
}

// Attempts returns how many boots have not been blessed, up to the present one.
func (d *Dir) Attempts() int { return d.readAttempts().Count }

// Attempt counts this boot and returns how many there were, with it, since the last bless. The same boot counts once. A count that
// cannot be read begins anew: a state must not be given up for a bad sector.
func (d *Dir) Attempt(boot string) (int, error) {
	a := d.readAttempts()
	if a.Boot == boot && a.Count > 0 {
		return a.Count, nil
	}
	a.Count, a.Boot = a.Count+1, boot
	return a.Count, d.writeAttempts(a)
}

func (d *Dir) clearAttempts() error {
	if d.readAttempts().Count == 0 {
		return nil
	}
	return d.writeAttempts(attempts{0, "-"})
}

func (d *Dir) writeAttempts(a attempts) error {
	text := fmt.Sprintf("%-*s\n", attemptsSize-1, fmt.Sprintf("%d %s", a.Count, cmpOr(a.Boot[:min(len(a.Boot), 64)], "-")))
	st, there, err := d.lstat(attemptsFile)
	if err != nil {
		return err
	}
	if !there || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != attemptsSize {
		return d.write(attemptsFile, []byte(text))
	}
	fd, err := d.openat(attemptsFile, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_DSYNC)
	if err != nil {
		return d.wrap("open", attemptsFile, err)
	}
	defer unix.Close(fd)
	if err := d.change("count"); err != nil {
		return err
	}
	_, err = unix.Pwrite(fd, []byte(text), 0)
	return d.wrap("write", attemptsFile, err)
}

// Health gathers what Decide wants to know.
func (d *Dir) Health() (Health, error) {
	b, err := d.Blessed()
	if err != nil {
		b = Blessing{}
	}
	h := Health{Attempts: d.Attempts(), Blessed: b.Boot != ""}
	all, _, err := d.Snapshots()
	if err != nil {
		return h, err
	}
	for _, s := range slices.Backward(all) {
		if s.Good {
			h.Snapshots = append(h.Snapshots, s.Name)
		}
	}
	entries, _, err := d.Journal()
	for _, e := range entries {
		if e.Number > b.Entry && e.Kind == Restore && e.From == "init" {
			h.Tried = append(h.Tried, e.Why)
		}
	}
	return h, err
}
