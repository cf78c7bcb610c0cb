package stage

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestEachIndexIsTakenOnceByAnyNumberOfWorkers(t *testing.T) {
	for _, workers := range []int{0, 1, 2, 4, 100} {
		var taken [64]atomic.Int32
		if err := each(workers, len(taken), func(i int) error { taken[i].Add(1); return nil }); err != nil {
			t.Fatal(err)
		}
		for i := range taken {
			if n := taken[i].Load(); n != 1 {
				t.Errorf("%d workers: index %d was taken %d times", workers, i, n)
			}
		}
	}
	if err := each(4, 0, func(int) error { return errors.New("called") }); err != nil {
		t.Errorf("each() of nothing = %v", err)
	}
}

func TestTheErrorOfTheLowestIndexWins(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	err := each(2, 2, func(i int) error {
		both.Done()
		both.Wait() // neither returns before both have begun
		return fmt.Errorf("image %d", i)
	})
	if err == nil || err.Error() != "image 0" {
		t.Errorf("each() = %v, want the error of image 0", err)
	}
}

func TestAfterAnErrorNothingMoreBegins(t *testing.T) {
	for _, workers := range []int{1, 3} {
		var calls atomic.Int32
		broken := errors.New("broken")
		err := each(workers, 1000, func(int) error { calls.Add(1); return broken })
		if !errors.Is(err, broken) || int(calls.Load()) > workers {
			t.Errorf("%d workers: each() = %v after %d calls", workers, err, calls.Load())
		}
	}
}

func TestAPanicOfAWorkerReachesTheCaller(t *testing.T) {
	for _, workers := range []int{1, 3} {
		done := 0
		func() {
			defer func() {
				text := fmt.Sprint(recover())
				if !strings.Contains(text, "no such thing") || workers > 1 && !strings.Contains(text, "each_test.go") {
					t.Errorf("%d workers: recovered %q, want the panic and where it came from", workers, text)
				}
				done++
			}()
			_ = each(workers, 5, func(i int) error {
				if i == 2 {
					panic("no such thing")
				}
				return nil
			})
		}()
		if done != 1 {
			t.Errorf("%d workers: no panic", workers)
		}
	}
}
