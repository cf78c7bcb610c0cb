package state

import "context"

// An Order comes from outside the state; the zero value is none.
type Order struct {
	Word    string // by which it is known again at the next boot, see Dir.Ask
	Request Request
}

// The sources of orders.
const (
	FromCommandLine = "command line"
	FromFirmware    = "firmware"
)

// Boot is what a boot asks of its state.
type Boot struct {
	Orders
	CommandLine Order
	Firmware    Order
	Tries       int // boots without a bless before the last good snapshot comes back; 0 is never
}

// Begin does what a boot owes the state, before anything is stacked on it:
//
//   - files what the command line and the firmware ask for, if they did not ask for it before; once Begin has returned, the
//     firmware's variable may be deleted
//   - carries out all that is on file, see CarryOut
//   - returns to a good snapshot where too many boots were not blessed, see Decide
//
// An order that makes no sense is an outcome of its own, not an error. The caller has counted this boot with Attempt.
func (d *Dir) Begin(ctx context.Context, b Boot) ([]Outcome, error) {
	var outcomes []Outcome
	orders := []Order{b.CommandLine, b.Firmware}
	for i, source := range []string{FromCommandLine, FromFirmware} {
		order := orders[i]
		if _, err := d.Ask(source, order.Word, order.Request, b.Now); err != nil {
			r := order.Request
			r.From = source
			outcomes = append(outcomes, Outcome{Request: r, What: r.What(), Outcome: Refused, Err: err})
		}
	}
	done, err := d.CarryOut(ctx, b.Orders)
	outcomes = append(outcomes, done...)
	if err != nil || b.Tries <= 0 {
		return outcomes, err
	}
	h, err := d.Health()
	if err != nil {
		return outcomes, err
	}
	name, why := Decide(b.Tries, h)
	if name == "" {
		return outcomes, nil
	}
	b.log("return to the snapshot %s: %s", name, why)
	out, err := d.Run(ctx, Request{Kind: Restore, Snapshot: name}, b.Orders)
	if out.Outcome != "" {
		outcomes = append(outcomes, out)
	}
	return outcomes, err
}

// Asks reports whether Ask would change anything for this word: a look for PID 1, which leaves the work to others.
func (d *Dir) Asks(source, word string) bool {
	for _, o := range d.readAsked().Orders {
		if o.Source == source {
			return o.Word != word || !o.Filed
		}
	}
	return word != ""
}
