package stage

import (
	"errors"
	"fmt"

	"veneer/overlay/state"
)

// OpenDir opens a state directory, for the init and for its keeper: one that is new is taken over, one of another product is left
// alone, with ErrForeign. One whose mark is gone, and whose stamps say that it is the owner's, is marked anew; lost says why.
func OpenDir(at string, owner Owner) (_ *state.Dir, lost string, err error) {
	d, err := state.Open(at)
	if err != nil {
		return nil, "", err
	}
	who := state.Owner{Product: owner.Product}
	origin, why, err := d.Origin(who)
	switch {
	case err == nil && origin == state.Foreign:
		err = fmt.Errorf("the state is another's: %s: %w", why, ErrForeign)
	case err == nil && origin != state.Own:
		lost, err = why, d.Adopt(who)
	}
	if err != nil {
		return nil, "", errors.Join(err, d.Close())
	}
	return d, lost, nil
}
