package stage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"veneer/boot"
)

// The steps of a boot, in order. Their names are API: veneer.break=, the record, the boot chart, the messages.
const (
	StepEarlyMounts    = "early mounts"
	StepCommandLine    = "read command line"
	StepDrivers        = "load drivers"
	StepNetwork        = "bring up network"
	StepFindMedium     = "find medium"
	StepFindStore      = "find store"
	StepMountStore     = "mount store"
	StepChoose         = "choose deployment"
	StepCheckManifest  = "check manifest"
	StepCopyImages     = "copy images"
	StepAttach         = "attach images"
	StepMountImages    = "mount images"
	StepFindState      = "find state"
	StepPrepareState   = "prepare state"
	StepRequests       = "carry out requests"
	StepUppers         = "prepare uppers"
	StepStackRoot      = "stack root"
	StepRules          = "apply rules"
	StepIdentity       = "set identity"
	StepCheckRoot      = "check root"
	StepHandOver       = "hand over"
	StepSwitchRoot     = "switch root"
	undoBound          = 5 * time.Second
	defaultStuckMargin = 60 * time.Second
)

// Steps lists the steps of a boot in order.
var Steps = []string{StepEarlyMounts, StepCommandLine, StepDrivers, StepNetwork, StepFindMedium, StepFindStore, StepMountStore, StepChoose,
	StepCheckManifest, StepCopyImages, StepAttach, StepMountImages, StepFindState, StepPrepareState, StepRequests, StepUppers, StepStackRoot, StepRules, StepIdentity,
	StepCheckRoot, StepHandOver, StepSwitchRoot}

// Level says who wants to see a line.
type Level int

// The levels: Detail is for veneer.debug, Good is hidden by quiet, Bad is always shown.
const (
	Detail Level = iota
	Good
	Bad
)

// StepError is a step that failed.
type StepError struct {
	Step string
	Err  error
}

func (e *StepError) Error() string { return e.Step + ": " + e.Err.Error() }
func (e *StepError) Unwrap() error { return e.Err }

// Runner runs named steps and keeps the record of them. Its zero value is ready for use.
type Runner struct {
	Record  Record
	OnFail  boot.OnFail             // the policy in force so far
	Log     func(Level, string)     // nil: nothing is printed
	Details bool                    // lines of level Detail are wanted
	Uptime  func() time.Duration    // kernel uptime; nil: zero
	Before  func(step string) error // called before each step; nil: nothing
	Stuck   func(step string)       // called from another goroutine when a step overruns its bound; nil: nobody watches
	Bound   time.Duration           // of one step; zero: a minute
	Workers int                     // images that are attached, and then mounted, at a time; zero: one
	undo    []func() error          // first done first
	step    string                  // in progress
	stuck   *time.Timer             // calls Stuck
}

// Step returns the step in progress, for the message of a panic.
func (r *Runner) Step() string { return r.step }

// Do runs one step: prints and records it with its time, and wraps its error in a *StepError.
func Do[T any](ctx context.Context, r *Runner, name string, fn func(context.Context) (T, error)) (T, error) {
	var result T
	err := r.do(name, func() (err error) { result, err = fn(ctx); return err })
	return result, err
}

// do is Do for any type: PID 1 has one copy of it.
func (r *Runner) do(name string, fn func() error) error {
	r.step = name
	if r.Before != nil {
		if err := r.Before(name); err != nil {
			return &StepError{name, err}
		}
	}
	if r.Stuck != nil {
		bound := r.Bound
		if bound == 0 {
			bound = defaultStuckMargin
		}
		r.stuck = time.AfterFunc(bound, func() { r.Stuck(name) })
		defer r.stuck.Stop()
	}
	start := r.uptime()
	err := fn()
	step := Step{Name: name, Start: MicrosOf(start), Took: MicrosOf(r.uptime() - start)}
	where := fmt.Sprintf("[%2d/%d] %s ...", slices.Index(Steps, name)+1, len(Steps), name)
	if err != nil {
		step.Error = err.Error()
		r.log(Good, where+" failed") // the whole message is for whoever carries out the policy
		err = &StepError{name, err}
	} else {
		r.log(Good, fmt.Sprintf("%s ok %s", where, inMillis(step.Took.Duration())))
	}
	r.Record.Steps = append(r.Record.Steps, step)
	return err
}

// Detailf prints a line for veneer.debug, and where nobody asked for details does not even make it.
func (r *Runner) Detailf(format string, args ...any) {
	if r.Details {
		r.log(Detail, fmt.Sprintf(format, args...))
	}
}

// Degrade records, and prints for everyone, that something is less than was asked for.
func (r *Runner) Degrade(what, why string) {
	r.Record.Degraded = append(r.Record.Degraded, Degraded{what, why})
	r.log(Bad, "degraded: "+what+": "+why)
}

// Noticef prints for everyone what was done to a disk.
func (r *Runner) Noticef(format string, args ...any) { r.log(Bad, fmt.Sprintf(format, args...)) }

// Alive says that the step in progress gets on, and so may take its whole bound from here. Only its own goroutine may say so.
func (r *Runner) Alive() {
	if r.stuck != nil {
		bound := r.Bound
		if bound == 0 {
			bound = defaultStuckMargin
		}
		r.stuck.Reset(bound)
	}
}

// Sayf prints a line that quiet hides.
func (r *Runner) Sayf(format string, args ...any) { r.log(Good, fmt.Sprintf(format, args...)) }

// Release takes back what was done to find a set, last first, and not what was done since. Where that fails it stays for Unwind.
func (r *Runner) Release(s *Set) error {
	all := r.undo
	r.undo = slices.Clone(all[s.from:s.to])
	if err := r.Unwind(); err != nil {
		r.undo = all
		return err
	}
	r.undo = slices.Delete(all, s.from, s.to)
	s.to = s.from
	return nil
}

// mark is the place up to which unwindTo takes things back.
func (r *Runner) mark() int { return len(r.undo) }

// unwindTo takes back what was done since mark, last first.
func (r *Runner) unwindTo(mark int) error {
	earlier := r.undo[:mark]
	r.undo = r.undo[mark:]
	err := r.Unwind()
	r.undo = earlier
	return err
}

// OnUndo keeps undo for Unwind.
func (r *Runner) OnUndo(undo func() error) { r.undo = append(r.undo, undo) }

// onUndo keeps what the workers of a step left to be undone, in the order of the step's work; nil where a worker did nothing.
func (r *Runner) onUndo(undo []func() error) {
	for _, fn := range undo {
		if fn != nil {
			r.OnUndo(fn)
		}
	}
}

// workers is one where details are wanted: they tell what happens in the order in which it does.
func (r *Runner) workers() int {
	if r.Details {
		return 1
	}
	return r.Workers
}

// Unwind takes back what the steps did, last first, and joins what went wrong on the way. A second time it does nothing.
func (r *Runner) Unwind() error {
	var errs []error
	for _, undo := range slices.Backward(r.undo) {
		if err := undo(); err != nil {
			errs = append(errs, err)
		}
	}
	r.undo = nil
	return errors.Join(errs...)
}

func (r *Runner) uptime() time.Duration {
	if r.Uptime == nil {
		return 0
	}
	return r.Uptime()
}

func (r *Runner) log(l Level, line string) {
	if r.Log != nil {
		r.Log(l, line)
	}
}

// inMillis prints a duration for the kernel's log, which wants ASCII: time.Duration writes a Greek letter below a millisecond.
func inMillis(d time.Duration) string {
	ms := d.Seconds() * 1000
	if ms < 10 {
		return fmt.Sprintf("%.1fms", ms)
	}
	return fmt.Sprintf("%.0fms", ms)
}

// CheckStep reports whether name is a step that veneer.break= can name.
func CheckStep(name string) error {
	later := Steps[slices.Index(Steps, StepDrivers):]
	if slices.Contains(later, name) {
		return nil
	}
	if slices.Contains(Steps, name) {
		return fmt.Errorf("%q is over before the command line is known; the steps to stop before are: %s", name, strings.Join(later, ", "))
	}
	return fmt.Errorf("no step is called %q; the steps to stop before are: %s", name, strings.Join(later, ", "))
}
