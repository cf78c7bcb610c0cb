package state

import (
	"errors"
	"fmt"
	"time"

	"veneer/images/canonical"
)

// A Secure says what a secure reset comes to in a state.
type Secure string

// The kinds.
const (
	SecureDelete  Secure = ""        // what it resets is deleted: the state is not encrypted
	SecureDestroy Secure = "destroy" // the key is destroyed, and the state made anew
	SecureNoKey   Secure = "no key"  // it would be made anew with a key file, and the device that holds it is not there
	SecureRefuse  Secure = "refuse"  // it is encrypted, and nothing would make it anew
)

// CheckSecure reports why a request cannot be carried out in a state of that kind: a key that is destroyed takes everything along,
// and only what can be made anew is destroyed.
func (r *Request) CheckSecure(kind Secure) error {
	switch {
	case r.Kind != Reset || !r.Secure || kind == SecureDelete:
		return nil
	case r.Scope != ScopeAll || len(r.Keep) > 0:
		return errors.New("the state is encrypted, and its key is destroyed for all of it or not at all: give --secure with --scope all and without --keep, or leave --secure out")
	case kind == SecureNoKey:
		return errors.New("the state is encrypted, and the device with the key file of the new one is not there: nothing was destroyed; attach it and ask again")
	case kind != SecureDestroy:
		return errors.New("the state is encrypted, and nothing would make it anew: build with state.create, state.unlock and a state.place by PARTLABEL=, PARTUUID= or path, " +
			"or boot once with veneer.missing-upper=create; to destroy it for good: cryptsetup erase DEVICE")
	}
	return nil
}

// destroys reports whether a request destroys the key of the state, or why it must not.
func (r *Request) destroys(orders *Orders) (bool, error) {
	err := r.CheckSecure(orders.Secure)
	if err != nil || r.Kind != Reset || !r.Secure || orders.Secure == SecureDelete {
		return false, err
	}
	if orders.Remake != nil {
		if err := orders.Remake(); err != nil {
			return false, fmt.Errorf("the state could not be made anew: %w", err)
		}
	}
	return true, nil
}

// maxLeft bounds what a state leaves, bytes.
const maxLeft = 3 << 10

// left is what a state whose key is destroyed leaves to the one that takes its place: the request, and the orders from outside that
// have been taken, so that none is carried out again.
type left struct {
	Format  int
	Request Request
	Boot    string
	Asked   asked
}

func (l *left) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &l.Format)
	c.Object("request", l.Request.walk)
	canonical.String(c, "boot", &l.Boot)
	c.Object("asked", l.Asked.walk)
}

// Leave returns what Inherit reads.
func (d *Dir) Leave(r Request, boot string) string {
	l := left{1, r, boot, d.readAsked()}
	l.Asked.Format = 1
	text := canonical.Write(l.walk)
	if len(text) > maxLeft { // a word of the command line may be long; it is carried out once more
		l.Asked.Orders, l.Request.Why = nil, ""
		text = canonical.Write(l.walk)
	}
	return string(text)
}

// Inherit notes in a new state what the one before left, once: the reset in the journal, and the orders that led to it. It reports
// whether there was anything new. What cannot be read is not believed.
func (d *Dir) Inherit(text string, now time.Time) (Outcome, bool, error) {
	var l left
	if len(text) > maxLeft || canonical.Read([]byte(text), l.walk) != nil || l.Format != 1 || l.Request.Check() != nil || checkID(l.Request.ID) != nil {
		return Outcome{}, false, nil
	}
	r := l.Request
	if d.known(r.ID) {
		return Outcome{}, false, nil
	}
	out := Outcome{Request: r, What: r.What() + "; the key was destroyed, and the state made anew", Outcome: Destroyed}
	for i := range l.Asked.Orders {
		l.Asked.Orders[i].Filed = true
	}
	if len(l.Asked.Orders) > 0 {
		if err := d.saveAsked(l.Asked); err != nil {
			return out, false, err
		}
	}
	// The entry comes last: with it the state has inherited.
	_, err := d.note(Entry{ID: r.ID, Kind: r.Kind, From: r.From, What: out.What, Boot: l.Boot, Outcome: Destroyed, Why: clipEntry(r.Why)}, now)
	return out, err == nil, err
}
