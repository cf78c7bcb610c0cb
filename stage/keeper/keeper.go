package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"veneer/overlay/mount"
	"veneer/overlay/state"
	"veneer/stage"
	"veneer/stage/keeper/disk"
)

// Keeper works in one state directory.
type Keeper struct {
	*state.Dir
	mount.Kernel
	at    string
	owner stage.Owner
	disks *disk.Disk
	lines []string // what was done, for veneer.debug

	filled []string // what Data has given back so far of what a reset took
}

// Open opens the state directory at a path, as stage.OpenDir does.
func Open(at string, owner stage.Owner) (*Keeper, error) {
	d, _, err := stage.OpenDir(at, owner)
	if err != nil {
		return nil, err
	}
	return &Keeper{Dir: d, at: at, owner: owner}, nil
}

func (s *Keeper) path(name ...string) string { return path.Join(append([]string{s.at}, name...)...) }

// maxLines bounds what is told of one call.
const maxLines = 200

func (s *Keeper) say(format string, args ...any) {
	if len(s.lines) < maxLines {
		s.lines = append(s.lines, fmt.Sprintf(format, args...))
	}
}

func (s *Keeper) orders(serial string) state.Orders {
	return state.Orders{Serial: serial, Boot: s.owner.Boot, Now: time.Now(), Log: func(line string) { s.say("%s", line) }}
}

// Serve answers the calls of an init until it hangs up.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	k := &Keeper{}
	defer func() { _ = k.Close() }()
	disks := disk.New(k.say)
	k.disks = disks
	for {
		call, err := stage.ReadCall(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var answer stage.Answer
		done, known, err := disks.Do(ctx, call.Op, call.Disk)
		if known {
			answer.Disk = done
		} else {
			answer, err = k.answer(ctx, call)
		}
		answer.Lines, k.lines = k.lines, nil
		answer.SetError(err)
		if err := stage.WriteAnswer(out, &answer); err != nil {
			return err
		}
	}
}

// answer does what is asked for in the state, which the first such call opens.
func (s *Keeper) answer(ctx context.Context, call stage.Call) (a stage.Answer, err error) {
	if s.Dir == nil {
		opened, err := Open(call.Dir, call.Owner)
		if err != nil {
			return a, err
		}
		s.Dir, s.at, s.owner = opened.Dir, opened.at, opened.owner
	}
	switch call.Op {
	case stage.OpRequests:
		a.Requests, err = s.Requests(ctx, call.Asked)
	case stage.OpUpper:
		a.Upper, err = s.Upper(ctx, call.Upper)
	case stage.OpRules:
		a.Rules, a.Refused = s.rules(call.Rules, call.Paths)
	case stage.OpData:
		err = s.Data(ctx, call.Data)
	default:
		err = fmt.Errorf("the init asks for %q, which this veneer does not know: initramfs and images are of different builds", call.Op)
	}
	return a, err
}

// Close closes the state, if it is open.
func (s *Keeper) Close() error {
	if s.Dir == nil {
		return nil
	}
	return s.Dir.Close()
}
