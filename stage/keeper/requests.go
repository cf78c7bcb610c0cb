package keeper

import (
	"context"

	"veneer/stage"
)

// Requests carries out what was filed, and what this boot asks for beside that.
func (s *Keeper) Requests(ctx context.Context, asked stage.Asked) (done []stage.Request, undone []string, err error) {
	outcomes, err := s.CarryOut(ctx, s.orders(asked.Deployment))
	for _, o := range outcomes {
		r := stage.Request{ID: o.Request.ID, Kind: string(o.Request.Kind), Outcome: o.Outcome}
		if o.Err != nil {
			r.Error = o.Err.Error()
			undone = append(undone, r.Kind+": "+r.Error)
		}
		done = append(done, r)
	}
	return done, undone, err
}
