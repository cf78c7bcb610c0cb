// Package persistence reads persistence.conf, live-boot's list of what is kept (persistence.conf(5)).
//
// It guarantees that what live-boot skips or refuses is skipped or refused here too, each with its reason, and that the result is
// in the order in which it is to be mounted: by destination, links last. It is pure.
package persistence
