package stage

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
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
	if len(lines) != 1 || lines[0] != "[ 4/13] find store ... ok 5.0ms" {
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

func TestEachStepHasRemedies(t *testing.T) {
	for _, step := range Steps {
		if len(Remedies(step)) < 3 {
			t.Errorf("step %q has %d remedies, want three", step, len(Remedies(step)))
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
