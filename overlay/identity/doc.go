// Package identity gives a machine what makes it this machine and no other: its machine-id, host keys, random seed, hostname and
// clock. A base is the same on every machine, so none of this can come from it; presets say by name what is kept in the state's
// directory identity/, what is new at each boot, and what is left as the base has it.
//
// It guarantees that whatever it gives out was durable first, that an interrupted boot or save leaves the old value or the new
// one, that nothing outside the two directories it was given is ever read or written, whatever links lie in them, and that a
// value found in the state is checked before it is used. What a machine changed and did not save yet is lost with the power.
//
// Choosing is pure (choose, direct, floor, Check); Apply is called by the init once the rules are mounted, Save by the running
// system. It imports overlay/rule alone.
package identity
