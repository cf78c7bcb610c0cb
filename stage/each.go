package stage

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// crash is a panic of a worker, on its way to whoever called each.
type crash struct {
	value any
	stack []byte
}

func (c crash) String() string { return fmt.Sprintf("%v, in a worker:\n%s", c.value, c.stack) }

// each calls fn for 0 to n-1, from up to so many workers at a time, and returns when all of them have ended:
//
//   - with one worker it is a loop, and starts no goroutine
//   - after the first error no further call begins; of those that failed the error of the lowest index is returned
//   - a panic of a worker becomes one of the caller, with the worker's stack in its text, once the others have ended
func each(workers, n int, fn func(i int) error) error {
	if workers = min(workers, n); workers <= 1 {
		for i := range n {
			if err := fn(i); err != nil {
				return err
			}
		}
		return nil
	}
	var (
		mu    sync.Mutex
		next  int
		at    = n
		first error
		fell  *crash
		group sync.WaitGroup
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if first != nil || fell != nil || next == n {
			return 0, false
		}
		next++
		return next - 1, true
	}
	call := func(i int) {
		defer func() {
			if v := recover(); v != nil {
				mu.Lock()
				defer mu.Unlock()
				fell = &crash{v, debug.Stack()}
			}
		}()
		if err := fn(i); err != nil {
			mu.Lock()
			defer mu.Unlock()
			if i < at {
				at, first = i, err
			}
		}
	}
	for range workers {
		group.Go(func() {
			for i, more := take(); more; i, more = take() {
				call(i)
			}
		})
	}
	group.Wait()
	if fell != nil {
		panic(*fell)
	}
	return first
}
