package state

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Orders is what CarryOut has to know of the boot.
type Orders struct {
	Places []Place           // where the parts of the merged root are kept; nil: as the layout says, for Serial
	Serial string            // of the deployment that boots
	Boot   string            // ID of this boot
	Now    time.Time         // as good as the clock is
	Secure Secure            // what a secure reset comes to here
	Remake func() error      // why an encrypted state could not be made anew, before its key goes; nil: not asked
	Log    func(line string) // what is done, line by line; nil: nobody listens
}

func (o *Orders) log(format string, args ...any) {
	if o.Log != nil {
		o.Log(fmt.Sprintf(format, args...))
	}
}

// An Outcome is what became of one request.
type Outcome struct {
	Request Request
	What    string // was done
	Outcome string // Done, Nothing, Refused, Failed or Destroyed
	Err     error  // of Refused and Failed
}

// ErrDestroy means that a secure reset is to destroy the key of the state: it stands in the last outcome, and is still on file. The
// caller takes what Leave returns, closes the state, destroys the key, makes the state anew, and calls Inherit on the new one.
var ErrDestroy = errors.New("the key of the state is to be destroyed")

// CarryOut does what the requests say, before anything is stacked on the state:
//
//   - gives the ballast back when the disk is full
//   - ends the operations that a stop interrupted
//   - carries out each request, oldest first; behind one that destroys the key nothing is left to do
//   - writes down what was done, in the journal, and removes the request, in this order
//   - puts the ballast by again
//
// A request that makes no sense, or that cannot be read, is refused, noted and removed. One that could not be finished stays, and so does the record of how
// far it came: the next boot goes on. An error is that of the state as a whole; each request's own is in its outcome.
func (d *Dir) CarryOut(ctx context.Context, orders Orders) ([]Outcome, error) {
	requests, problems, err := d.Requests()
	if err != nil {
		return nil, err
	}
	unfinished, more, err := d.unfinished()
	if err != nil {
		return nil, err
	}
	for _, p := range more {
		orders.log("%s", p)
	}
	outcomes, err := d.dropUnreadable(problems, &orders)
	if err != nil {
		return outcomes, err
	}
	if len(requests)+len(unfinished) == 0 {
		if d.hasBallast() {
			return outcomes, nil
		}
		return outcomes, d.KeepBallast()
	}
	if err := d.makeRoom(); err != nil {
		return outcomes, err
	}
	for _, o := range unfinished {
		if slices.ContainsFunc(requests, func(r Request) bool { return r.ID == o.ID }) {
			continue // its turn comes below
		}
		r := o.request()
		outcomes = append(outcomes, d.conclude(ctx, &r, o, &orders))
	}
	for i := range requests {
		out := d.carryOut(ctx, &requests[i], &orders)
		outcomes = append(outcomes, out)
		if errors.Is(out.Err, ErrDestroy) {
			return outcomes, ErrDestroy
		}
	}
	return outcomes, d.KeepBallast()
}

// dropUnreadable refuses what lies in requests/ and is none that can be read: somebody may have asked for something, and is to hear
// that it was not done. It goes to the trash once that is noted; a stop in between notes it twice.
func (d *Dir) dropUnreadable(problems []Problem, orders *Orders) ([]Outcome, error) {
	if len(problems) == 0 {
		return nil, nil
	}
	if err := d.makeRoom(); err != nil {
		return nil, err
	}
	var outcomes []Outcome
	for _, p := range problems {
		id, err := d.nextID(orders.Now)
		if err != nil {
			return outcomes, err
		}
		out := Outcome{Request: Request{ID: id, Kind: Unreadable}, What: "read " + quote(clip(p.Name)), Outcome: Refused,
			Err: fmt.Errorf("%s cannot be read, whatever it asked for: %w", quote(clip(p.Name)), p.Err)}
		_, err = d.note(Entry{ID: id, Kind: Unreadable, From: "somebody", What: out.What, Boot: orders.Boot, Outcome: Refused, Why: clipEntry(out.Err.Error())}, orders.Now)
		if err == nil {
			err = d.discard(p.Name)
		}
		if errors.Is(err, errStopped) {
			return outcomes, err
		}
		out.Err = errors.Join(out.Err, err)
		outcomes = append(outcomes, out)
	}
	return outcomes, nil
}

// fromInit is who asks for what Run carries out.
const fromInit = "init"

// Run carries out one order of the init itself, without a request on file: a quarantine, or the return to a snapshot after boots
// that failed. A stop leaves either nothing or an operation that CarryOut ends.
func (d *Dir) Run(ctx context.Context, r Request, orders Orders) (Outcome, error) {
	r.Format, r.From = RequestFormat, fromInit
	if err := r.Check(); err != nil {
		return Outcome{}, err
	}
	if err := d.makeRoom(); err != nil {
		return Outcome{}, err
	}
	id, err := d.nextID(orders.Now)
	if err != nil {
		return Outcome{}, err
	}
	r.ID = id
	if r.Kind == Restore {
		r.Why = r.Snapshot // Health looks for it
	}
	return d.carryOut(ctx, &r, &orders), d.KeepBallast()
}

// makeRoom gives the ballast back when there is less left than an operation may need.
func (d *Dir) makeRoom() error {
	enough, err := d.roomy()
	if err != nil || enough {
		return err
	}
	return d.ReleaseBallast()
}

// unfinished lists the operations that a stop interrupted: those that are not done, and those that are and are not yet in the
// journal.
func (d *Dir) unfinished() ([]*operation, []Problem, error) {
	all, problems, err := d.operations()
	if err != nil || len(all) == 0 {
		return nil, problems, err
	}
	entries, _, err := d.Journal()
	if err != nil {
		return nil, problems, err
	}
	return slices.DeleteFunc(all, func(o *operation) bool {
		forgotten := len(entries) >= keptEntries && entries[0].ID > o.ID
		return o.Phase == phaseDone && (forgotten || slices.ContainsFunc(entries, func(e Entry) bool { return e.ID == o.ID }))
	}), problems, nil
}

// request is what an operation was asked for by, as far as it is still known.
func (o *operation) request() Request {
	return Request{Format: RequestFormat, ID: o.ID, Kind: o.Kind, From: o.From, Of: o.Of, Snapshot: o.Snapshot, Secure: o.Secure, Why: o.Why}
}

// carryOut does one request, from wherever a stop left it.
func (d *Dir) carryOut(ctx context.Context, r *Request, orders *Orders) Outcome {
	if d.noted(r.ID) { // the stop was behind the journal
		return Outcome{Request: *r, What: "was carried out before", Outcome: Done, Err: d.remove(requestPath(r.ID))}
	}
	o, err := d.operation(r.ID)
	if err != nil {
		return r.failed("", err)
	}
	if o == nil {
		if destroys, err := r.destroys(orders); err != nil {
			return d.close(r, r.What(), Refused, err, orders)
		} else if destroys {
			return Outcome{Request: *r, What: r.What(), Outcome: Destroyed, Err: ErrDestroy}
		}
		if o, err = d.plan(r, orders); err != nil {
			return d.close(r, "", Refused, err, orders)
		}
		if len(o.Moves) == 0 && !o.Secure {
			return d.close(r, o.What, Nothing, nil, orders)
		}
		if err := d.begin(o); err != nil {
			return r.failed(o.What, err)
		}
	}
	return d.conclude(ctx, r, o, orders)
}

func (r *Request) failed(what string, err error) Outcome {
	return Outcome{Request: *r, What: what, Outcome: Failed, Err: err}
}

// begin writes an operation down. Until that is durable nothing has been moved, after it everything will be.
func (d *Dir) begin(o *operation) error {
	for _, dir := range []string{asideDir, o.dir()} {
		if err := d.mkdir(dir); err != nil {
			return err
		}
	}
	first := phaseAway
	if o.Kind == Restore {
		first = phaseStage
	}
	return d.save(o, first)
}

// conclude takes an operation from whatever phase it is in to its end.
func (d *Dir) conclude(ctx context.Context, r *Request, o *operation, orders *Orders) Outcome {
	if err := d.run(ctx, o, orders); err != nil {
		return r.failed(o.What, err)
	}
	return d.close(r, o.What, Done, nil, orders)
}

// run is the order of phases; see type phase for the stop that each mark guards against.
func (d *Dir) run(ctx context.Context, o *operation, orders *Orders) error {
	if o.Phase == phaseStage {
		if err := d.stage(ctx, o, orders); err != nil {
			return err
		}
		if err := d.save(o, phaseAway); err != nil {
			return err
		}
	}
	if o.Phase == phaseAway {
		for i, m := range o.Moves {
			if err := ctx.Err(); err != nil {
				return err
			}
			orders.log("%s", m)
			if err := d.takeAway(o, i); err != nil {
				return err
			}
		}
		next := phaseBack
		if o.Secure {
			next = phaseDestroy
		}
		if err := d.save(o, next); err != nil {
			return err
		}
	}
	switch o.Phase {
	case phaseBack:
		for i, m := range o.Moves {
			if kind, _, under := strings.Cut(m.From, "/"); under {
				if err := d.mkdir(kind); err != nil {
					return err
				}
			}
			if err := d.bringBack(o, i); err != nil {
				return err
			}
		}
		if err := d.takeBack(o); err != nil {
			return err
		}
		if err := d.dropSource(o); err != nil {
			return err
		}
	case phaseDestroy:
		if err := d.destroy(ctx, o); err != nil {
			return err
		}
	case phaseDone:
		return nil
	}
	if err := d.addReseed(o.Reseed); err != nil {
		return err
	}
	if err := d.tighten(o); err != nil {
		return err
	}
	return d.save(o, phaseDone)
}

// dropSource puts what an undo or restore has emptied into the trash: the record of the operation that was undone, or what is left
// of the copy of a snapshot.
func (d *Dir) dropSource(o *operation) error {
	switch {
	case o.Of != "":
		return d.discard(path.Join(asideDir, o.Of))
	case o.Kind == Restore:
		return d.discard(stagePath(o.ID))
	}
	return nil
}

// close notes an outcome and removes the request, in this order: a stop in between finds the note and only removes.
func (d *Dir) close(r *Request, what, outcome string, err error, orders *Orders) Outcome {
	out := Outcome{Request: *r, What: what, Outcome: outcome, Err: err}
	e := Entry{ID: r.ID, Kind: r.Kind, From: r.From, What: what, Boot: orders.Boot, Outcome: outcome, Of: r.Of, Why: clipEntry(r.Why)}
	if err != nil {
		e.Why = clipEntry(err.Error())
	}
	if o, oerr := d.operation(r.ID); oerr == nil && o != nil {
		e.Of = o.Of
	}
	if _, nerr := d.note(e, orders.Now); nerr != nil {
		// Not to be tried again for this: the request goes all the same.
		out.Err = errors.Join(out.Err, nerr)
		if errors.Is(nerr, errStopped) {
			return out
		}
	}
	out.Err = errors.Join(out.Err, d.remove(requestPath(r.ID)))
	return out
}

// errStopped is the power cut of the tests.
var errStopped = errors.New("stopped")

func clipEntry(s string) string { return s[:min(len(s), maxEntry/8)] }

func (m move) String() string {
	s := "move " + quote(m.From)
	if m.Children {
		s = "move what is in " + quote(m.From)
	}
	if len(m.Except) > 0 {
		s += " but " + quoteAll(m.Except)
	}
	s += " aside"
	if m.Back != "" {
		s += ", " + quote(m.Back) + " takes its place"
	}
	return s
}

// plan makes the operation of a request. It changes nothing.
func (d *Dir) plan(r *Request, orders *Orders) (*operation, error) {
	o := &operation{Format: OperationFormat, ID: r.ID, Kind: r.Kind, From: r.From, Why: r.Why, Snapshot: r.Snapshot, Secure: r.Secure, What: r.What()}
	switch r.Kind {
	case Reset:
		places, err := d.placesFor(orders)
		if err != nil {
			return nil, err
		}
		p, err := d.planReset(r, places)
		if err != nil {
			return nil, err
		}
		for _, n := range p.notes {
			orders.log("%s", n)
		}
		slices.Sort(p.reseed)
		o.Moves, o.Reseed, o.All = p.moves, slices.Compact(p.reseed), r.Scope == ScopeAll
		return o, nil
	case Undo:
		return o, d.planUndo(o, r.Of)
	case Restore:
		return o, d.planRestore(o, orders.Serial)
	case Quarantine:
		if _, there, err := d.lstat(r.Place); err != nil || !there {
			return o, err
		}
		o.Moves = []move{{From: r.Place}}
		return o, nil
	}
	return nil, fmt.Errorf("no such kind of request: %q", clip(string(r.Kind)))
}

func (d *Dir) placesFor(orders *Orders) ([]Place, error) {
	if orders.Places != nil {
		return orders.Places, nil
	}
	places, junk, err := d.Places(orders.Serial)
	for _, j := range junk {
		orders.log("%s", Problem{j, errNotOurs})
	}
	return places, err
}

// What says in plain words what a request asks for.
func (r *Request) What() string {
	switch r.Kind {
	case Reset:
		s := "reset " + quote(r.Scope)
		if len(r.Keep) > 0 {
			s += ", keep " + quoteAll(r.Keep)
		}
		if r.Secure {
			s += ", nothing can be brought back"
		}
		return s
	case Undo:
		return "undo " + cmpOr(r.Of, "the newest operation")
	case Restore:
		return "return to the snapshot " + r.Snapshot
	case Quarantine:
		return "put " + quote(r.Place) + " aside"
	}
	return string(r.Kind)
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
