package identity

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// storedClock is an empty file whose time is the latest that the machine was seen at, as timesyncd has one.
const storedClock = "clock"

// lifetime bounds what is believed of a stamp: one that lies further behind the build was written by a clock gone wrong.
const lifetime = 30 * 365 * 24 * time.Hour

// floor returns the earliest time that can be true, and what says so; "" for none that is known. A zero time says nothing.
func floor(built, stamp time.Time) (time.Time, string) {
	if !stamp.IsZero() && stamp.After(built) && (built.IsZero() || stamp.Sub(built) < lifetime) {
		return stamp, "when it was last seen"
	}
	if !built.IsZero() {
		return built, "the time of the build"
	}
	return time.Time{}, ""
}

// clock sets the clock forward to the time of the build, or to the last time that the machine was seen at, if it is behind: many
// boards have no clock that runs without power, and in 1970 no certificate is valid. It never sets it back.
func (a *applier) clock(mode Mode) (string, error) {
	if mode == Inherit {
		return "as the hardware has it", nil
	}
	var stamp time.Time
	var err error
	switch {
	case mode == Persist && a.store == nil:
		err = ErrNoState
	case mode == Persist:
		stamp = a.store.mtime(storedClock)
	}
	what := "right"
	if least, why := floor(a.env.Built, stamp); why != "" {
		if now := a.env.System.Now(); now.Before(least) {
			if serr := a.env.System.SetTime(least); serr != nil {
				return "", errors.Join(err, serr)
			}
			what = "set forward from " + now.UTC().Format(time.RFC3339) + " to " + least.UTC().Format(time.RFC3339) + ", " + why
		}
	}
	switch {
	case mode != Persist || a.store == nil:
	case stamp.IsZero():
		err = a.store.write(storedClock, nil, 0o600)
	default: // durable when the file system pleases: until then the older one is true as well
		err = a.store.fail("set time", storedClock, unix.UtimesNanoAt(a.store.fd, storedClock, nil, unix.AT_SYMLINK_NOFOLLOW))
	}
	return what, err
}

// mtime is the time of a file, or zero.
func (d *dir) mtime(rel string) time.Time {
	fd, err := d.open(rel, unix.O_PATH)
	if err != nil {
		return time.Time{}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return time.Time{}
	}
	return time.Unix(st.Mtim.Unix())
}
