package mount

import (
	"fmt"
	"strings"
)

// Recorder keeps the operations that it is given instead of carrying them out. FailAt, counted from 1, makes that operation
// fail with Err; operations that failed are not kept.
type Recorder struct {
	Ops    []Op
	FailAt int
	Err    error
	n      int
}

// Apply keeps op.
func (r *Recorder) Apply(op Op) error {
	r.n++
	if r.n == r.FailAt {
		return fmt.Errorf("%s: %w", op, r.Err)
	}
	r.Ops = append(r.Ops, op)
	return nil
}

// String is the operations as a shell script.
func (r *Recorder) String() string {
	var b strings.Builder
	for _, op := range r.Ops {
		fmt.Fprintln(&b, op)
	}
	return b.String()
}
