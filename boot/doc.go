// Package boot holds the pure decisions of a boot: the kernel command line as a Config, references to devices,
// the choice among the deployments of a store.
//
// It guarantees that nothing here touches the machine: no system call, no file, no clock, no environment. What goes in is
// a value and what comes out is a value, so every decision of PID 1 can be tested with a table and explained by
// `veneer plan` on any host.
//
// It imports nothing of ours. stage, overlay and images sit above it; boot/switchroot is the one sub-package that acts.
package boot
