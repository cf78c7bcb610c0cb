package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"veneer/stage"
)

func TestAPanicIsAFailureOfTheStepInProgress(t *testing.T) {
	p := &pid1{log: newLog()}
	p.runner = stage.Runner{Log: p.log.line, Before: func(string) error { panic("something impossible") }}
	err := p.boot(context.Background())
	var step *stage.StepError
	if !errors.As(err, &step) {
		t.Fatalf("boot() = %v, want a *stage.StepError", err)
	}
	if step.Step != stage.StepEarlyMounts {
		t.Errorf("boot() failed at step %q, want %q", step.Step, stage.StepEarlyMounts)
	}
	for _, want := range []string{"panic, which is a bug in veneer: something impossible", "main_test.go"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("boot() = %v, want an error that contains %q", err, want)
		}
	}
}
