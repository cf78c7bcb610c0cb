// Package merge makes the upper of a merged directory, such as /etc, fit for another base: of three sides, the old base (by its
// index), the new base (its directories) and the upper, each path gets a verdict.
//
// It guarantees that nothing local is lost: where both sides changed a thing the local one stays, and the other lies beside it;
// that what is not local comes from the new base; that the upper alone is walked, so that the time follows it and not the size of
// the base; that no link is followed and nothing outside of the upper and the scratch directory is changed; and that a merge may
// stop at any instant and is then finished by the next, with the same result.
//
// MakePlan decides and changes nothing. Run decides, or takes up the plan of a Run that was stopped, acts, and syncs the file
// system. It does not guard against somebody else who writes to the upper meanwhile, and it does not write the upper's stamp.
//
// The rules are in docs/merge.md. It imports images/canonical and overlay/entry; stage and overlay/state sit above it.
package merge
