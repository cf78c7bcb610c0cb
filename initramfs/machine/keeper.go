package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"veneer/stage"
)

// keeper is the program of the tools layer that works in the state, see package keeper.
type keeper struct {
	process *os.Process
	to      *os.File
	from    *os.File
}

func startKeeper(program string) (*keeper, error) {
	if program == "" {
		return nil, errors.New("work is to be done in the state, and the images bring no tools layer to do it with: build with tools = true")
	}
	theirIn, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirIn.Close()
	from, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, to.Close())
	}
	defer theirOut.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, errors.Join(err, to.Close(), from.Close())
	}
	defer null.Close()
	p, err := os.StartProcess(program, []string{path.Base(program), "keep"}, &os.ProcAttr{Dir: "/", Env: []string{"PATH=", "GOGC=off", "GOMEMLIMIT=64MiB"},
		Files: []*os.File{theirIn, theirOut, null}})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keeper of the state: %w", err), to.Close(), from.Close())
	}
	return &keeper{p, to, from}, nil
}

// SetKeeper implements stage.StateMachine.
func (m *Machine) SetKeeper(program string) error {
	err := m.stopKeeper()
	m.program = program
	return err
}

// call has the keeper do something. Devices that appear meanwhile get their drivers. At the end of ctx the keeper is told to leave
// off, and killed where it does not: what it was at is finished at the next boot.
func (m *Machine) call(ctx context.Context, c stage.Call) (a stage.Answer, err error) {
	if m.keeper == nil {
		if m.keeper, err = startKeeper(m.program); err != nil {
			return a, err
		}
	}
	k := m.keeper
	stop := context.AfterFunc(ctx, func() {
		_ = k.process.Signal(unix.SIGTERM)
		time.AfterFunc(keeperPatience, func() { _ = k.process.Kill() })
	})
	if err = stage.WriteCall(k.to, &c); err == nil {
		if err = m.awaitInput(int(k.from.Fd())); err == nil {
			a, err = stage.ReadAnswer(k.from)
		}
	}
	if running := stop(); err != nil || !running {
		err = errors.Join(a.Err(), err, ctx.Err(), m.stopKeeper())
	}
	for _, line := range a.Lines {
		m.Detail("keeper: %s", line)
	}
	if err != nil {
		return a, fmt.Errorf("keeper of the state: %w", err)
	}
	return a, a.Err()
}

// awaitInput waits until fd can be read, and handles the uevents that come meanwhile.
func (m *Machine) awaitInput(fd int) error {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: -1}}
		if m.uevents != nil {
			fds[1] = unix.PollFd{Fd: int32(m.uevents.fd), Events: unix.POLLIN}
		}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if fds[1].Revents != 0 {
			if err := m.drain(); err != nil {
				return err
			}
		}
		if fds[0].Revents != 0 {
			return nil
		}
	}
}

// keeperPatience is how long a keeper may take to end.
const keeperPatience = 5 * time.Second

// stopKeeper hangs up on the keeper that runs, if any.
func (m *Machine) stopKeeper() error {
	k := m.keeper
	if k == nil {
		return nil
	}
	m.keeper = nil
	err := errors.Join(k.to.Close(), k.from.Close())
	late := time.AfterFunc(keeperPatience, func() { _ = k.process.Kill() })
	defer late.Stop()
	state, werr := k.process.Wait()
	if os.Getpid() == 1 {
		for n := 1; n > 0; { // what its programs left behind has become ours to bury
			n, _ = unix.Wait4(-1, nil, unix.WNOHANG, nil)
		}
	}
	if werr == nil && !state.Success() {
		werr = fmt.Errorf("keeper of the state: %s", state)
		for _, dir := range []string{stage.ProgramsDir + "/run", stage.ProgramsDir + "/sys", stage.ProgramsDir + "/proc", stage.ProgramsDir + "/dev", stage.ProgramsDir, stage.KeyDir} {
			_ = unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) // what it could not take away itself
		}
	}
	return errors.Join(err, werr)
}

// onDisk has the keeper do something to a disk.
func (m *Machine) onDisk(ctx context.Context, op string, s stage.DiskSpec) (stage.DiskDone, error) {
	a, err := m.call(ctx, stage.Call{Op: op, Disk: s})
	return a.Disk, err
}
