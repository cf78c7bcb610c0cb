package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"veneer/overlay/rule"
)

func TestASeedIsReplacedBeforeItIsCredited(t *testing.T) {
	b := newBed(t)
	b.env.Platform = "board-1"
	seed := Setting{RandomSeed, Persist}
	b.put(systemdSeed, "the same on every machine, since it lies in the base")
	b.expect(b.boot(b.store(), seed), "made")
	b.expect(b.get(systemdSeed)[:1], "!")
	first := b.kept("random-seed")
	if len(first) != seedSize {
		t.Fatalf("a seed of %d bytes", len(first))
	}
	info, err := os.Stat(filepath.Join(b.state, "random-seed"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the seed: %v, %v", info.Mode(), err)
	}
	b.sys.mixed = func(_ []byte, credit int) {
		if credit > 0 && b.kept("random-seed") == first {
			t.Error("the seed is credited and still in its place")
		}
	}
	b.sys.said, b.sys.unready = nil, true
	b.expect(b.boot(b.store(), seed), "rotated, credited")
	b.expect(strings.Join(b.sys.said, "; "), "mix 545 bytes, credit 0; mix 512 bytes, credit 256")
	if b.kept("random-seed") == first {
		t.Error("the seed was not rotated")
	}

	b.env.Platform = "board-2" // a copied disk
	b.sys.said = nil
	b.expect(b.boot(b.store(), seed), "rotated; not credited, since it was written on another machine")
	b.expect(strings.Join(b.sys.said, "; "), "mix 545 bytes, credit 0")
	b.expect(b.boot(b.store(), seed), "rotated, credited")
}

func TestASeedThatCannotBeReplacedIsNotCredited(t *testing.T) {
	b := newBed(t)
	seed := Setting{RandomSeed, Persist}
	b.boot(b.store(), seed)
	broken := b.store()
	broken.before = func() error { return errCut }
	if got := b.boot(broken, seed); !strings.HasPrefix(got, "stirred in, not credited; (random-seed: write ") {
		t.Error(got)
	}
	b.expect(strings.Join(b.sys.said, "; "), "mix 33 bytes, credit 0; mix 545 bytes, credit 0")
	// One of another size is replaced by a rename. A directory with something in it cannot be, and root may write anywhere else.
	if err := errors.Join(os.Truncate(filepath.Join(b.state, "random-seed"), seedSize-1), os.MkdirAll(filepath.Join(b.state, ".random-seed.veneer/x"), 0o755)); err != nil {
		t.Fatal(err)
	}
	b.sys.said = nil
	if got := b.boot(b.store(), seed); !strings.HasPrefix(got, "stirred in, not credited; (random-seed: write ") {
		t.Error(got)
	}
	b.expect(strings.Join(b.sys.said, "; "), "mix 544 bytes, credit 0")
}

func TestAnUnreadyKernelMakesNoSeedOutOfNothing(t *testing.T) {
	b := newBed(t)
	b.sys.unready = true
	b.expect(b.boot(b.store(), Setting{RandomSeed, Persist}), "none yet: the kernel has gathered too little for one")
	b.expect(b.kept("random-seed")[:1], "!")
}

func TestASeedThatSystemdKeepsIsLeftToIt(t *testing.T) {
	b := newBed(t)
	b.env.Kept.Rules = []rule.Rule{{Path: "/var", Action: rule.Persist}}
	b.put("usr/lib/systemd/systemd-random-seed", "")
	b.put(systemdSeed, "its own")
	b.expect(b.boot(b.store(), Setting{RandomSeed, Persist}), "left to systemd, which keeps one in /var")
	b.expect(b.get(systemdSeed), "its own")
	b.save(true, Setting{RandomSeed, Persist})
	b.expect(b.kept("random-seed")[:1], "!")
}

func TestTheClockGoesForwardOnly(t *testing.T) {
	b := newBed(t)
	clock := Setting{Clock, Persist}
	b.expect(b.boot(b.store(), clock), "right")
	stamp := filepath.Join(b.state, "clock")
	seen := time.Unix(1_650_000_000, 0)
	if err := os.Chtimes(stamp, seen, seen); err != nil {
		t.Fatal(err)
	}
	b.sys.now = time.Unix(0, 0)
	b.expect(b.boot(b.store(), clock), "set forward from 1970-01-01T00:00:00Z to 2022-04-15T05:20:00Z, when it was last seen")
	b.expect(strings.Join(b.sys.said, "; "), "time 2022-04-15T05:20:00Z")
	b.expect(b.boot(b.store(), Setting{Clock, Ephemeral}), "set forward from 1970-01-01T00:00:00Z to 2020-09-13T12:26:40Z, the time of the build")
	b.expect(b.boot(b.store(), Setting{Clock, Inherit}), "as the hardware has it")
}
