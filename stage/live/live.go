// Package live is what the larger variants of the init do besides: sets on media that are files, and copies in memory.
// The local variant does not link it.
package live

import (
	"context"

	"veneer/stage"
)

// Variant is the live variant.
type Variant struct{}

var _ stage.Variant = Variant{}

// Find implements stage.Variant.
func (Variant) Find(ctx, waiting context.Context, r *stage.Runner, m stage.Machine, env *stage.Env) (*stage.Set, error) {
	if env.Config.Foreign != nil {
		return findForeign(ctx, waiting, r, m, env)
	}
	return nil, nil
}

// Settle implements stage.Variant.
func (Variant) Settle(context.Context, *stage.Runner, stage.Machine, *stage.Env, *stage.Set) error {
	return nil
}
