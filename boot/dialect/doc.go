// Package dialect reads the kernel command lines that others' live media, overlay roots and installers have, as a boot.Config.
//
// It guarantees that every parameter in its table either does what the table says, or is told to be without effect, or is refused
// with the reason: none is dropped in silence. Words that are in no table are left alone, as in boot.ParseCmdline; those of a
// dialect whose own sign is not on the line are too, because words like module= or verify= are everybody's. docs/dialects.md is
// made from the table.
//
// It is pure, like boot, which it sits on. The larger variants of the init and the command link it; the local init does not, and
// goes by its defaults whatever such a line says.
package dialect
