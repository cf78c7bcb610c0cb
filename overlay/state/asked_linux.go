package state

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"time"

	"veneer/images/canonical"
)

// asked remembers the orders that came from outside the state, one for each source. An order from the kernel's command line, or
// from a variable of the firmware that cannot be deleted, is there again at the next boot, and must not be carried out again.
type asked struct {
	Format int
	Orders []askedOrder
}

type askedOrder struct {
	Source string // "command line", "firmware"
	Word   string // as it was given
	ID     string // of the request that it became
}

func (a *asked) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &a.Format)
	canonical.List(c, "orders", &a.Orders, 16, func(c *canonical.Coder, o *askedOrder) {
		canonical.String(c, "source", &o.Source)
		pathField(c, "word", &o.Word)
		canonical.String(c, "id", &o.ID)
	})
}

// readAsked reads what is remembered. What cannot be read is forgotten: the order is then carried out once more, which loses less
// than a machine that can never be reset.
func (d *Dir) readAsked() asked {
	a := asked{}
	text, err := d.read(askedFile, maxSmall)
	if err != nil || canonical.Read(text, a.walk) != nil {
		return asked{Format: 1}
	}
	return a
}

// Ask makes a request of an order that comes from outside the state, once: an order that is the same word as that of the boot
// before, from the same source, has been taken already, and another word, or the same one after a boot without any, is a new
// order. word "" says that this boot brought none.
//
//	remembered  this boot       what happens
//	nothing     nothing         -
//	nothing     A               A is remembered and filed
//	A           A               nothing (filed again only where a stop came between remembering and filing)
//	A           B               B is remembered and filed
//	A           nothing         A is forgotten
//
// It reports whether a request was filed.
func (d *Dir) Ask(source, word string, r Request, now time.Time) (bool, error) {
	a := d.readAsked()
	i := slices.IndexFunc(a.Orders, func(o askedOrder) bool { return o.Source == source })
	if word == "" {
		if i < 0 {
			return false, nil
		}
		a.Orders = slices.Delete(a.Orders, i, i+1)
		return false, d.saveAsked(a)
	}
	if err := r.Check(); err != nil {
		return false, err
	}
	if i >= 0 && a.Orders[i].Word == word {
		if d.known(a.Orders[i].ID) {
			return false, nil
		}
		r.ID = a.Orders[i].ID
	} else {
		id, err := d.nextID(now)
		if err != nil {
			return false, err
		}
		if i < 0 {
			i = len(a.Orders)
			a.Orders = append(a.Orders, askedOrder{})
		}
		a.Orders[i] = askedOrder{source, word, id}
		if err := d.makeRoom(); err != nil {
			return false, err
		}
		if err := d.saveAsked(a); err != nil {
			return false, err
		}
		r.ID = id
	}
	r.Format, r.From = RequestFormat, source
	if err := d.mkdir(requestsDir); err != nil {
		return false, err
	}
	return true, d.write(requestPath(r.ID), r.Encode())
}

// Remember notes an order as taken without filing anything: on a state that was made anew because of it.
func (d *Dir) Remember(source, word string) error {
	a := d.readAsked()
	a.Orders = slices.DeleteFunc(a.Orders, func(o askedOrder) bool { return o.Source == source })
	a.Orders = append(a.Orders, askedOrder{Source: source, Word: word})
	return d.saveAsked(a)
}

func (d *Dir) saveAsked(a asked) error {
	a.Format = 1
	return d.write(askedFile, canonical.Write(a.walk))
}

// known reports whether a request with this ID was ever filed.
func (d *Dir) known(id string) bool {
	if id == "" {
		return true // remembered, and not to be filed
	}
	if _, there, _ := d.lstat(requestPath(id)); there {
		return true
	}
	if _, there, _ := d.lstat(path.Join(asideDir, id)); there {
		return true
	}
	// IDs only go up: one that is newer than this means that the boot went on behind the filing, whatever the journal has lost.
	entries, _, _ := d.Journal()
	return slices.ContainsFunc(entries, func(e Entry) bool { return e.ID >= id })
}

// reseed lists the bound directories of which a reset took a part: the base has to give that part again.
type reseed struct{ Roots []string }

func (s *reseed) walk(c *canonical.Coder) { pathsField(c, "roots", &s.Roots, maxPlaces) }

// Reseed lists the directories below data/ that lack what the base would have given them. Whoever fills them, without touching
// what is there, calls Reseeded in the end.
func (d *Dir) Reseed() ([]string, error) {
	text, err := d.read(reseedFile, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s reseed
	err = canonical.Read(text, s.walk)
	return s.Roots, d.wrap("read", reseedFile, err)
}

// Reseeded forgets what Reseed lists.
func (d *Dir) Reseeded() error { return d.remove(reseedFile) }

func (d *Dir) addReseed(roots []string) error {
	if len(roots) == 0 {
		return nil
	}
	there, err := d.Reseed()
	if err != nil {
		there = nil // what cannot be read is written anew
	}
	all := append(there, roots...)
	slices.Sort(all)
	all = slices.Compact(all)
	if slices.Equal(all, there) {
		return nil
	}
	s := reseed{all}
	return d.write(reseedFile, canonical.Write(s.walk))
}
