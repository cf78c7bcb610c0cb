package state

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/images/canonical"
)

// Limits of requests.
const (
	maxRequests = 1000
	maxRequest  = 64 << 10
	maxKeep     = 64
)

// Kind is what a request or an operation does.
type Kind string

// The kinds.
const (
	Reset      Kind = "reset"      // what was written is moved aside
	Undo       Kind = "undo"       // what an operation moved aside comes back, what is there now goes aside
	Restore    Kind = "restore"    // a snapshot takes the place of what is there now, which goes aside
	Quarantine Kind = "quarantine" // one upper is moved aside because it does not fit its base
	Bless      Kind = "bless"      // only in the journal: an end to undoing what was done before
	Unreadable Kind = "unreadable" // only in the journal: a file among the requests that is none
)

// Scopes of a reset, beside an absolute path.
const (
	ScopeAll   = "all"   // everything that was ever written, snapshots and identity too
	ScopeEtc   = "etc"   // what was written to /etc
	ScopeData  = "data"  // what persist rules kept
	ScopeUpper = "upper" // every upper, that of /etc too: what was written over the base
)

// Presets of what a reset may keep, beside an absolute path.
const (
	KeepIdentity  = "identity"  // what tells the machine from its sisters: machine-id, ssh host keys, hostname ...
	KeepNetwork   = "network"   // how it reaches its network
	KeepSnapshots = "snapshots" // the generations
)

// RequestFormat is the version of a request's JSON form.
const RequestFormat = 1

// A Request is an order for the next boot.
type Request struct {
	Format   int
	ID       string // set by File
	Kind     Kind
	From     string   // who asked: "command", "command line", "firmware", "init"
	Scope    string   // of a reset
	Keep     []string // of a reset
	Secure   bool     // of a reset: nothing can be brought back
	Of       string   // of an undo: the operation's ID; "" is the newest that can be undone
	Snapshot string   // of a restore
	Place    string   // of a quarantine: the upper's directory, etc/1
	Why      string   // free text, for the journal
}

func (r *Request) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &r.Format)
	canonical.String(c, "id", &r.ID)
	canonical.String(c, "kind", &r.Kind)
	canonical.String(c, "from", &r.From)
	pathField(c, "scope", &r.Scope)
	pathsField(c, "keep", &r.Keep, maxKeep)
	c.Bool("secure", &r.Secure)
	canonical.String(c, "of", &r.Of)
	canonical.String(c, "snapshot", &r.Snapshot)
	pathField(c, "place", &r.Place)
	canonical.String(c, "why", &r.Why)
}

// Encode returns the request as it is filed.
func (r Request) Encode() []byte { return canonical.Write(r.walk) }

// ParseRequest reads what Encode wrote, and nothing else. The request has been checked.
func ParseRequest(text []byte) (Request, error) {
	var r Request
	if err := canonical.Read(text, r.walk); err != nil {
		return Request{}, err
	}
	if r.Format != RequestFormat {
		return Request{}, fmt.Errorf("request has format %d, this veneer knows %d", r.Format, RequestFormat)
	}
	if err := checkID(r.ID); err != nil {
		return Request{}, err
	}
	return r, r.Check()
}

// Check reports everything that is wrong with a request.
func (r *Request) Check() error {
	var errs []error
	switch r.Kind {
	case Reset:
		errs = append(errs, CheckScope(r.Scope))
		if len(r.Keep) > maxKeep {
			errs = append(errs, fmt.Errorf("%d things to keep, %d at most", len(r.Keep), maxKeep))
		}
		for _, k := range r.Keep {
			errs = append(errs, CheckKeep(k))
		}
	case Undo:
		if r.Of != "" {
			errs = append(errs, checkID(r.Of))
		}
	case Restore:
		errs = append(errs, CheckSnapshotName(r.Snapshot))
	case Quarantine:
		if kind, name, ok := strings.Cut(r.Place, "/"); r.Place != upperDir && (!ok || kind != etcDir && kind != mergeDir && kind != dataDir || name == "" || strings.Contains(name, "/") || name == "." || name == "..") {
			errs = append(errs, fmt.Errorf("%q is no place of an upper", clip(r.Place)))
		}
	default:
		errs = append(errs, fmt.Errorf("request of the unknown kind %q", clip(string(r.Kind))))
	}
	return errors.Join(errs...)
}

// CheckScope reports whether s is a scope of a reset.
func CheckScope(s string) error {
	switch s {
	case ScopeAll, ScopeEtc, ScopeData, ScopeUpper:
		return nil
	}
	return checkPath("scope", s, "all, etc, data, upper")
}

// CheckKeep reports whether k is something that a reset can keep.
func CheckKeep(k string) error {
	switch k {
	case KeepIdentity, KeepNetwork, KeepSnapshots:
		return nil
	}
	return checkPath("keep", k, "identity, network, snapshots")
}

func checkPath(what, p, words string) error {
	if path.IsAbs(p) && path.Clean(p) == p && len(p) < unix.PathMax && strings.IndexByte(p, 0) < 0 {
		return nil
	}
	return fmt.Errorf("%s %q: want %s or a clean absolute path", what, clip(p), words)
}

// idForm is the form of an ID: the time when it was given, to the microsecond. IDs sort as the times do.
const idForm = "20060102T150405.000000Z"

func newID(t time.Time) string { return t.UTC().Format(idForm) }

func checkID(id string) error {
	if newID(When(id)) != id {
		return fmt.Errorf("%q is not the ID of an operation, as veneer gives them (%s)", clip(id), idForm)
	}
	return nil
}

// When is the time at which an ID was given; of what is no ID it is some other time. (time.Parse would cost PID 1 25 kB.)
func When(id string) time.Time {
	if len(id) != len(idForm) {
		return time.Time{}
	}
	number := func(at, digits int) (n int) {
		for _, c := range []byte(id[at : at+digits]) {
			n = 10*n + int(c-'0')
		}
		return n
	}
	return time.Date(number(0, 4), time.Month(number(4, 2)), number(6, 2), number(9, 2), number(11, 2), number(13, 2), number(16, 6)*1000, time.UTC)
}

// nextID returns an ID that is later than those of all requests and operations there are, whatever the clock says: a machine
// without one begins in 1970 at each boot, and the newest operation is the first to be undone.
func (d *Dir) nextID(now time.Time) (string, error) {
	last := newID(now)
	used := false
	for _, dir := range []string{requestsDir, asideDir} {
		names, err := d.names(dir, maxJournal)
		if err != nil {
			return "", err
		}
		for _, n := range names {
			id := strings.TrimSuffix(n, ".json")
			if checkID(id) == nil && id >= last {
				last, used = id, true
			}
		}
	}
	entries, _, err := d.Journal()
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if e.ID >= last {
			last, used = e.ID, true
		}
	}
	if used {
		last = newID(When(last).Add(time.Microsecond))
	}
	return last, checkID(last)
}

// File puts a request down for the next boot and returns it with its ID. It is there as a whole or not at all. On a full disk the
// ballast makes room for it.
func (d *Dir) File(r Request, now time.Time) (Request, error) {
	if err := r.Check(); err != nil {
		return r, err
	}
	filed, err := d.file(r, now)
	if full(err) {
		if rerr := d.ReleaseBallast(); rerr != nil {
			return r, errors.Join(err, rerr)
		}
		filed, err = d.file(r, now)
	}
	return filed, err
}

func (d *Dir) file(r Request, now time.Time) (Request, error) {
	if err := d.mkdir(requestsDir); err != nil {
		return r, err
	}
	for range 16 { // two commands may ask for the same microsecond
		id, err := d.nextID(now)
		if err != nil {
			return r, err
		}
		r.Format, r.ID = RequestFormat, id
		err = d.create(requestPath(id), r.Encode())
		if !errors.Is(err, unix.EEXIST) {
			return r, err
		}
	}
	return r, errors.New("file a request: too many at once")
}

// Cancel takes a request back that no boot has begun to carry out.
func (d *Dir) Cancel(id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	if _, there, err := d.lstat(requestPath(id)); err != nil || !there {
		return errors.Join(err, fmt.Errorf("there is no request %s", id))
	}
	return d.remove(requestPath(id))
}

func requestPath(id string) string { return path.Join(requestsDir, id+".json") }

// A Problem is something in a state directory that veneer did not leave there, or that it cannot read. It is left alone.
type Problem struct {
	Name string // in the state directory
	Err  error
}

func (p Problem) String() string { return fmt.Sprintf("%s: %v; ignored", quote(clip(p.Name)), p.Err) }

var errNotOurs = errors.New("not a name that veneer gives")

// Requests lists what is on file, oldest first.
func (d *Dir) Requests() ([]Request, []Problem, error) {
	names, err := d.names(requestsDir, maxRequests)
	if err != nil {
		return nil, nil, err
	}
	var requests []Request
	var problems []Problem
	for _, n := range names {
		rel := path.Join(requestsDir, n)
		id, ok := strings.CutSuffix(n, ".json")
		if !ok || checkID(id) != nil {
			problems = append(problems, Problem{rel, errNotOurs})
			continue
		}
		text, err := d.read(rel, maxRequest)
		if err != nil {
			problems = append(problems, Problem{rel, err})
			continue
		}
		r, err := ParseRequest(text)
		if err == nil && r.ID != id {
			err = fmt.Errorf("it holds the request %s", clip(r.ID))
		}
		if err != nil {
			problems = append(problems, Problem{rel, err})
			continue
		}
		requests = append(requests, r)
	}
	return requests, problems, nil
}
