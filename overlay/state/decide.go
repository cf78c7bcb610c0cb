package state

import "fmt"

// Health is what is known of the boots with a state.
type Health struct {
	Attempts  int      // boots since the last bless, the present one among them
	Blessed   bool     // some boot was ever blessed: without one, nothing would ever end the count
	Snapshots []string // the good ones, newest first
	Tried     []string // those that were returned to since the last bless
}

// Decide tells which snapshot to return to after boots that failed; "" is none, and why says it. after is the policy: how many
// boots without a bless are enough; 0 never returns.
//
//	policy  ever blessed  attempts     good, untried snapshot  answer
//	0       any           any          any                     none: no policy
//	n       no            any          any                     none: nobody blesses here
//	n       yes           up to n      any                     none: not yet
//	n       yes           more than n  no                      none: nothing left
//	n       yes           more than n  yes                     the newest of them
//
// A snapshot is returned to once. Where it does not help either, n more boots lead to the one before it, and the list ends.
func Decide(after int, h Health) (snapshot, why string) {
	tried := len(h.Tried)
	switch {
	case after <= 0:
		return "", "the policy is to go on"
	case !h.Blessed:
		return "", "no boot of this machine was ever blessed"
	case h.Attempts <= after*(tried+1):
		return "", fmt.Sprintf("%d of %d boots without a bless", h.Attempts, after*(tried+1))
	}
	for _, s := range h.Snapshots {
		if !contains(h.Tried, s) {
			return s, fmt.Sprintf("%d boots without a bless", h.Attempts-1)
		}
	}
	return "", "there is no good snapshot that was not tried"
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
