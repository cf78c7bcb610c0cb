package stage

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"

	"veneer/images/canonical"
	"veneer/overlay"
	"veneer/overlay/rule"
)

// How the init speaks with the keeper, a program of the verified tools layer (package keeper): each message is its length in
// decimal digits, a newline, and the canonical form of a Call or an Answer.

// The calls.
const (
	OpRequests = "requests"
	OpUpper    = "upper"
	OpData     = "data"
	OpRules    = "rules"

	// What follows is done to disks, by a DiskSpec; no state is open for it.
	OpModule        = "module"
	OpProbe         = "probe-upper"
	OpPartition     = "partition"
	OpGrowPartition = "grow-partition"
	OpFormat        = "format"
	OpCheck         = "check"
	OpNewFile       = "new-file"
	OpGrowFile      = "grow-file"
	OpEncrypt       = "encrypt"
	OpUnlock        = "unlock"
	OpDestroy       = "destroy"
)

// maxMessage bounds a message, bytes.
const maxMessage = 1 << 20

// Call is what the init asks of the keeper.
type Call struct {
	Op    string
	Dir   string // of the state
	Owner Owner
	Asked Asked       // OpRequests
	Upper UpperSpec   // OpUpper
	Data  DataSpec    // OpData
	Disk  DiskSpec    // the others
	Rules []rule.Rule // OpRules: those of the base
	Paths []string    // OpRules: globs of paths for which the site may make rules
}

// DiskSpec says what is to be done to a disk. What it takes is loaded, and there. No secret is in it.
type DiskSpec struct {
	Root       string // the mounted base, whose programs are run
	Device     string // or the directory of a file
	FileSystem string
	Name       string // of a module; the label of a file system
	Number     int    // of a partition
	Why        string // OpCheck: what it is for; OpDestroy: the order
	Check      CheckSpec
	File       FileSpec
	Partition  PartitionSpec
	Unlock     UnlockSpec // OpUnlock tries its Kind alone; KeyDevice and Wait are the init's
	KeyDevice  string     // on which the key file lies
	KeyType    string     // the file system there
}

// DiskDone is what came of it.
type DiskDone struct {
	UUID    string // OpPartition: of the partition
	Grew    bool
	Size    int64 // OpGrowPartition: bytes
	Checked Checked
	Mapped  string // OpEncrypt, OpUnlock: the device
}

// Answer is what came of a call.
type Answer struct {
	Error    string
	Cause    string // what errors.Is can tell of the error
	Lines    []string
	Requests RequestsDone // OpRequests
	Upper    UpperDone    // OpUpper
	Disk     DiskDone
	Rules    []rule.Effective // OpRules
	Refused  string
}

// causesOnWire are the errors that the init tells apart.
var causesOnWire = []struct {
	name string
	err  error
}{{"foreign", ErrForeign}, {"no-space", syscall.ENOSPC}, {"no-room", overlay.ErrNoRoom}, {"io", syscall.EIO}, {"read-only", syscall.EROFS},
	{"busy", syscall.EBUSY}, {"no-tool", ErrNoTool}, {"locked", ErrLocked}}

// SetError puts an error into the answer.
func (a *Answer) SetError(err error) {
	if err == nil {
		return
	}
	a.Error = err.Error()
	for _, c := range causesOnWire {
		if errors.Is(err, c.err) {
			a.Cause = c.name
		}
	}
}

// Err is the error of the answer.
func (a *Answer) Err() error {
	if a.Error == "" {
		return nil
	}
	for _, c := range causesOnWire {
		if c.name == a.Cause {
			return &wireError{a.Error, c.err}
		}
	}
	return errors.New(a.Error)
}

// wireError is an error that came over the wire.
type wireError struct {
	text  string
	cause error
}

func (e *wireError) Error() string { return e.text }
func (e *wireError) Unwrap() error { return e.cause }

// WriteCall sends a call.
func WriteCall(w io.Writer, c *Call) error { return send(w, canonical.Write(c.walk)) }

// ReadCall receives a call; io.EOF is the end of the conversation.
func ReadCall(r io.Reader) (c Call, err error) {
	text, err := receive(r)
	if err == nil {
		err = canonical.Read(text, c.walk)
	}
	return c, err
}

// WriteAnswer sends an answer.
func WriteAnswer(w io.Writer, a *Answer) error { return send(w, canonical.Write(a.walk)) }

// ReadAnswer receives an answer.
func ReadAnswer(r io.Reader) (a Answer, err error) {
	text, err := receive(r)
	if err == nil {
		err = canonical.Read(text, a.walk)
	}
	return a, err
}

func send(w io.Writer, text []byte) error {
	if len(text) > maxMessage {
		return fmt.Errorf("message of %d bytes is larger than %d", len(text), maxMessage)
	}
	_, err := w.Write(append(strconv.AppendInt(nil, int64(len(text)), 10), append([]byte{'\n'}, text...)...))
	return err
}

func receive(r io.Reader) ([]byte, error) {
	n := 0
	for digits := 0; ; digits++ {
		var b [1]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, err
		}
		if b[0] == '\n' && digits > 0 {
			break
		}
		if b[0] < '0' || b[0] > '9' || digits > 7 {
			return nil, fmt.Errorf("message begins with %q, and not with its length", b[0])
		}
		n = n*10 + int(b[0]-'0')
	}
	if n > maxMessage {
		return nil, fmt.Errorf("message of %d bytes is larger than %d", n, maxMessage)
	}
	text := make([]byte, n)
	_, err := io.ReadFull(r, text)
	return text, err
}

const maxWireList = 1 << 12

func (c *Call) walk(w *canonical.Coder) {
	canonical.String(w, "op", &c.Op)
	canonical.String(w, "dir", &c.Dir)
	canonical.String(w, "product", &c.Owner.Product)
	canonical.String(w, "boot", &c.Owner.Boot)
	w.Object("asked", c.Asked.walk)
	w.Object("upper", c.Upper.walk)
	w.Object("data", func(w *canonical.Coder) {
		canonical.String(w, "name", &c.Data.Name)
		canonical.String(w, "from", &c.Data.From)
		canonical.String(w, "type", &c.Data.Type)
		w.Object("rule", c.Data.Rule.Walk)
		canonical.Strings(w, "skip", &c.Data.Skip, maxWireList)
	})
	w.Object("disk", c.Disk.walk)
	canonical.List(w, "rules", &c.Rules, rule.MaxRules, func(w *canonical.Coder, r *rule.Rule) { r.Walk(w) })
	canonical.Strings(w, "paths", &c.Paths, maxWireList)
}

func (d *DiskSpec) walk(w *canonical.Coder) {
	canonical.String(w, "root", &d.Root)
	canonical.String(w, "device", &d.Device)
	canonical.String(w, "filesystem", &d.FileSystem)
	canonical.String(w, "name", &d.Name)
	canonical.Number(w, "number", &d.Number)
	canonical.String(w, "why", &d.Why)
	canonical.String(w, "fsckMode", &d.Check.Mode)
	canonical.String(w, "fsckRepair", &d.Check.Repair)
	w.Bool("failed", &d.Check.Failed)
	canonical.String(w, "file", &d.File.Name)
	canonical.String(w, "fileLabel", &d.File.Label)
	canonical.Number(w, "fileSize", &d.File.Size)
	canonical.Number(w, "fileMax", &d.File.Max)
	canonical.Number(w, "fileFull", &d.File.Full)
	canonical.String(w, "partition", &d.Partition.Name)
	canonical.String(w, "partitionType", &d.Partition.Type)
	canonical.Number(w, "partitionSize", &d.Partition.Size)
	canonical.Number(w, "partitionMin", &d.Partition.MinSize)
	canonical.String(w, "unlock", &d.Unlock.Kind)
	canonical.String(w, "unlockName", &d.Unlock.Name)
	canonical.String(w, "unlockLabel", &d.Unlock.Label)
	canonical.String(w, "pcrs", &d.Unlock.PCRs)
	canonical.String(w, "keyFile", &d.Unlock.KeyFile)
	canonical.Number(w, "tries", &d.Unlock.Tries)
	canonical.String(w, "keyDevice", &d.KeyDevice)
	canonical.String(w, "keyType", &d.KeyType)
}

func (d *DiskDone) walk(w *canonical.Coder) {
	canonical.String(w, "uuid", &d.UUID)
	w.Bool("grew", &d.Grew)
	canonical.Number(w, "size", &d.Size)
	canonical.String(w, "why", &d.Checked.Why)
	canonical.String(w, "program", &d.Checked.Program)
	w.Bool("repaired", &d.Checked.Repaired)
	canonical.String(w, "mapped", &d.Mapped)
}

func (a *Asked) walk(w *canonical.Coder) {
	w.Object("reset", func(w *canonical.Coder) {
		canonical.String(w, "word", &a.Reset.Word)
		canonical.String(w, "scope", &a.Reset.Scope)
		canonical.Strings(w, "keep", &a.Reset.Keep, maxWireList)
		w.Bool("secure", &a.Reset.Secure)
	})
	w.Bool("firmware", &a.Firmware)
	canonical.Number(w, "tries", &a.Tries)
	canonical.String(w, "deployment", &a.Deployment)
	canonical.String(w, "secure", &a.Secure)
}

func (u *UpperSpec) walk(w *canonical.Coder) {
	canonical.String(w, "path", &u.Path)
	canonical.String(w, "dir", &u.Dir)
	walkFound(w, &u.Found)
	w.Object("rule", u.Rule.Walk)
	w.Object("base", func(w *canonical.Coder) {
		canonical.Strings(w, "images", &u.Base.Images, maxWireList)
		canonical.String(w, "base", &u.Base.Base)
		canonical.String(w, "name", &u.Base.Name)
		canonical.String(w, "version", &u.Base.Version)
		canonical.String(w, "serial", &u.Base.Serial)
	})
	canonical.String(w, "index", &u.Index)
}

func walkFound(w *canonical.Coder, f *overlay.Found) {
	canonical.String(w, "type", &f.Type)
	canonical.Strings(w, "at", &f.At, maxWireList)
}

func (a *Answer) walk(w *canonical.Coder) {
	canonical.String(w, "error", &a.Error)
	canonical.String(w, "cause", &a.Cause)
	canonical.Strings(w, "lines", &a.Lines, maxWireList)
	canonical.List(w, "requests", &a.Requests.Requests, maxWireList, func(w *canonical.Coder, r *Request) { r.walk(w) })
	canonical.Strings(w, "undone", &a.Requests.Undone, maxWireList)
	canonical.String(w, "destroy", &a.Requests.Destroy)
	merged := a.Upper.Merge != nil
	w.Bool("merged", &merged)
	if merged && a.Upper.Merge == nil {
		a.Upper.Merge = &Merge{}
	}
	if merged {
		w.Object("merge", a.Upper.Merge.walk)
	}
	canonical.String(w, "what", &a.Upper.What)
	canonical.String(w, "why", &a.Upper.Why)
	w.Bool("fresh", &a.Upper.Fresh)
	w.Object("disk", a.Disk.walk)
	canonical.List(w, "rules", &a.Rules, 2*rule.MaxRules, func(w *canonical.Coder, e *rule.Effective) {
		e.Walk(w)
		canonical.String(w, "origin", &e.Origin)
	})
	canonical.String(w, "refused", &a.Refused)
}
