package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"veneer/images"
)

func TestAStepIsTimedRecordedAndShown(t *testing.T) {
	now := time.Duration(0)
	var lines []string
	r := &Runner{Uptime: func() time.Duration { now += 5 * time.Millisecond; return now }, Log: func(_ Level, l string) { lines = append(lines, l) }}
	got, err := Do(context.Background(), r, StepFindStore, func(context.Context) (int, error) { return 7, nil })
	if got != 7 || err != nil {
		t.Fatalf("Do() = %d, %v", got, err)
	}
	want := Step{Name: "find store", Start: 5000, Took: 5000}
	if len(r.Record.Steps) != 1 || r.Record.Steps[0] != want {
		t.Errorf("recorded %+v, want %+v", r.Record.Steps, want)
	}
	if len(lines) != 1 || lines[0] != "[ 6/22] find store ... ok 5.0ms" {
		t.Errorf("shown %q", lines)
	}
}

func TestAFailingStepIsNamedAndKeepsItsCause(t *testing.T) {
	cause := errors.New("no such device")
	r := &Runner{}
	_, err := Do(context.Background(), r, StepFindStore, func(context.Context) (int, error) { return 0, cause })
	var step *StepError
	if !errors.As(err, &step) || step.Step != StepFindStore || !errors.Is(err, cause) {
		t.Errorf("Do() = %v, want a *StepError around the cause", err)
	}
	if r.Record.Steps[0].Error != cause.Error() {
		t.Errorf("recorded %q", r.Record.Steps[0].Error)
	}
}

func TestUnwindGoesBackwardsAndJoinsWhatGoesWrong(t *testing.T) {
	var order []string
	r := &Runner{}
	for _, name := range []string{"a", "b", "c"} {
		r.OnUndo(func() error { order = append(order, name); return errors.New("busy " + name) })
	}
	err := r.Unwind()
	if strings.Join(order, "") != "cba" || err == nil || err.Error() != "busy c\nbusy b\nbusy a" {
		t.Errorf("Unwind() = %v in the order %v", err, order)
	}
	if r.Unwind() != nil {
		t.Error("a second Unwind did something")
	}
}

func TestAStepThatHangsIsNoticed(t *testing.T) {
	noticed := make(chan string, 1)
	r := &Runner{Bound: time.Millisecond, Stuck: func(step string) { noticed <- step }}
	_, _ = Do(context.Background(), r, StepAttach, func(context.Context) (int, error) {
		if step := <-noticed; step != StepAttach {
			t.Errorf("noticed %q", step)
		}
		return 0, nil
	})
}

func TestAStepThatGetsOnIsNotTakenForOneThatHangs(t *testing.T) {
	noticed := make(chan time.Time, 1)
	const bound = 200 * time.Millisecond
	r := &Runner{Bound: bound, Stuck: func(string) { noticed <- time.Now() }}
	_, _ = Do(context.Background(), r, StepCopyImages, func(context.Context) (int, error) {
		begin := time.Now()
		for range 4 {
			<-time.After(bound / 4)
			r.Alive()
		}
		last := time.Now()
		if at := <-noticed; at.Sub(begin) < 2*bound-bound/10 || at.Sub(last) < bound-bound/10 {
			t.Errorf("noticed %s after the begin, %s after it last got on; the bound is %s", at.Sub(begin), at.Sub(last), bound)
		}
		return 0, nil
	})
}

func TestASetThatIsReleasedTakesNothingElseBack(t *testing.T) {
	var order []string
	r := &Runner{}
	do := func(names ...string) {
		for _, name := range names {
			r.OnUndo(func() error { order = append(order, name); return nil })
		}
	}
	do("before")
	s := &Set{from: 1}
	do("medium", "loop", "store")
	s.to = r.mark()
	do("copy")
	if err := r.Release(s); err != nil || strings.Join(order, " ") != "store loop medium" {
		t.Errorf("Release() = %v, took back %q", err, order)
	}
	if err := r.Unwind(); err != nil || strings.Join(order, " ") != "store loop medium copy before" {
		t.Errorf("then Unwind() = %v, took back %q in all", err, order)
	}
}

func TestASetThatCannotBeReleasedStaysForUnwind(t *testing.T) {
	r := &Runner{}
	tries := 0
	r.OnUndo(func() error {
		if tries++; tries == 1 {
			return errors.New("busy")
		}
		return nil
	})
	s := &Set{to: 1}
	if err := r.Release(s); err == nil {
		t.Error("Release() of what is busy went well")
	}
	if err := r.Unwind(); err != nil || tries != 2 {
		t.Errorf("Unwind() = %v after %d tries", err, tries)
	}
}

func TestEachStepHasRemedies(t *testing.T) {
	for _, step := range Steps {
		if n := len(Remedies(step, errors.New("any"))); n < 3 {
			t.Errorf("step %q has %d remedies, want three", step, n)
		}
	}
}

func TestACauseThatSaysMoreThanItsStepHasRemediesOfItsOwn(t *testing.T) {
	for _, c := range []struct {
		step, want string
		err        error
	}{
		{StepDrivers, "kernel and the initramfs of the same build", ErrOtherKernel},
		{StepFindStore, "detach one", ErrTwins},
		{StepCheckManifest, "built with that key", images.ErrUnknownKey},
		{StepCheckManifest, "changed or damaged", images.ErrBadSignature},
		{StepCheckManifest, "same release as the images", images.ErrNewerFormat},
		{StepCheckManifest, "a file of the deployment is missing", syscall.ENOENT},
		{StepAttach, "copy the image", syscall.ENOENT},
		{StepMountImages, "does not match its hash", syscall.EIO},
		{StepEarlyMounts, "boot the kernel of the same build", syscall.ENOENT},
	} {
		got := Remedies(c.step, &StepError{c.step, fmt.Errorf("wrapped: %w", c.err)})
		if len(got) == 0 || !strings.Contains(got[0], c.want) {
			t.Errorf("Remedies(%q, %v) begins with %q, want %q", c.step, c.err, got[:min(len(got), 1)], c.want)
		}
	}
}

func TestDegradingIsRecordedAndShownToEveryone(t *testing.T) {
	var levels []Level
	r := &Runner{Log: func(l Level, _ string) { levels = append(levels, l) }}
	r.Degrade("not verified", "asked for")
	if len(r.Record.Degraded) != 1 || len(levels) != 1 || levels[0] != Bad {
		t.Errorf("recorded %v at levels %v", r.Record.Degraded, levels)
	}
}
