package stage

import (
	"math"
	"time"

	"veneer/images"
	"veneer/images/canonical"
)

// RecordFormat is the version of the record's JSON form.
const RecordFormat = 1

// Where the running system finds the record and the log.
const (
	RecordPath = "/run/veneer/state.json"
	LogPath    = "/run/veneer/log"
)

// MaxRecord bounds the size of a record that is read back, in bytes.
const MaxRecord = 1 << 20

// Record is what the init decided and why. The running system reads it and never re-derives it.
type Record struct {
	Format     int        `json:"format"`
	Veneer     string     `json:"veneer"`  // version of the init
	Cmdline    string     `json:"cmdline"` // of the kernel
	Kernel     string     `json:"kernel"`  // release that runs
	Store      Store      `json:"store"`
	Deployment Deployment `json:"deployment"`
	Verified   Verified   `json:"verified"`
	Images     []Attached `json:"images"` // bottom of the stack first
	Upper      Upper      `json:"upper"`
	Init       string     `json:"init"`     // what PID 1 became
	Degraded   []Degraded `json:"degraded"` // empty: nothing is less than was asked for
	Steps      []Step     `json:"steps"`
	Started    Micros     `json:"started"` // kernel uptime when PID 1 began
}

// Store is where the deployment came from.
type Store struct {
	Reference  string `json:"reference"` // as asked for: LABEL=VENEER
	Device     string `json:"device"`    // as found: /dev/vda1
	FileSystem string `json:"filesystem"`
	Dir        string `json:"dir"`
}

// Deployment is what was booted, and why this one.
type Deployment struct {
	Serial       string `json:"serial"`
	Why          string `json:"why"`
	Name         string `json:"name"`
	Version      string `json:"version"`
	Epoch        uint64 `json:"epoch"`
	Architecture string `json:"architecture"`
	Manifest     string `json:"manifest"` // SHA-256 of its bytes
}

// Verified says who vouches for the images.
type Verified struct {
	Manifest   bool              `json:"manifest"` // the signature was checked
	Images     bool              `json:"images"`   // each image is read through dm-verity
	KeyID      string            `json:"key-id"`
	KeyFile    string            `json:"key-file"`
	Corruption images.Corruption `json:"corruption"` // what a bad block met later does
}

// Attached is one image of the stack as it is attached.
type Attached struct {
	Role       images.Role `json:"role"`
	Name       string      `json:"name"`
	ID         string      `json:"id"`
	FileSystem string      `json:"filesystem"`
	Size       int64       `json:"size"`
	Device     string      `json:"device"` // /dev/dm-0, or /dev/loop0 when unverified
	Mount      string      `json:"mount"`  // /run/veneer/base
}

// Upper is the writable layer.
type Upper struct {
	Kind  string `json:"kind"`
	Size  int64  `json:"size"` // bytes
	Mount string `json:"mount"`
}

// Degraded is one thing that is less than was asked for.
type Degraded struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Step is one step that ran.
type Step struct {
	Name  string `json:"name"`
	Start Micros `json:"start"` // kernel uptime
	Took  Micros `json:"took"`
	Error string `json:"error,omitempty"`
}

// Micros is a time span in whole microseconds.
type Micros int64

// MicrosOf rounds d down.
func MicrosOf(d time.Duration) Micros { return Micros(d.Microseconds()) }

// Duration returns m as the library has it.
func (m Micros) Duration() time.Duration { return time.Duration(m) * time.Microsecond }

// Encode returns the record as JSON with a trailing newline, field by field as the tags of the types say. A list that holds
// nothing is [], never null, so that whatever reads it may count.
func (r *Record) Encode() []byte { return canonical.Write(r.walk) }

func (r *Record) walk(c *canonical.Coder) {
	canonical.Number(c, "format", &r.Format)
	canonical.String(c, "veneer", &r.Veneer)
	canonical.String(c, "cmdline", &r.Cmdline)
	canonical.String(c, "kernel", &r.Kernel)
	c.Object("store", func(c *canonical.Coder) {
		canonical.String(c, "reference", &r.Store.Reference)
		canonical.String(c, "device", &r.Store.Device)
		canonical.String(c, "filesystem", &r.Store.FileSystem)
		canonical.String(c, "dir", &r.Store.Dir)
	})
	c.Object("deployment", r.Deployment.walk)
	c.Object("verified", func(c *canonical.Coder) {
		c.Bool("manifest", &r.Verified.Manifest)
		c.Bool("images", &r.Verified.Images)
		canonical.String(c, "key-id", &r.Verified.KeyID)
		canonical.String(c, "key-file", &r.Verified.KeyFile)
		canonical.String(c, "corruption", &r.Verified.Corruption)
	})
	canonical.List(c, "images", &r.Images, math.MaxInt, func(c *canonical.Coder, a *Attached) { a.walk(c) })
	c.Object("upper", func(c *canonical.Coder) {
		canonical.String(c, "kind", &r.Upper.Kind)
		canonical.Number(c, "size", &r.Upper.Size)
		canonical.String(c, "mount", &r.Upper.Mount)
	})
	canonical.String(c, "init", &r.Init)
	canonical.List(c, "degraded", &r.Degraded, math.MaxInt, func(c *canonical.Coder, d *Degraded) {
		canonical.String(c, "what", &d.What)
		canonical.String(c, "why", &d.Why)
	})
	canonical.List(c, "steps", &r.Steps, math.MaxInt, func(c *canonical.Coder, s *Step) {
		canonical.String(c, "name", &s.Name)
		canonical.Number(c, "start", &s.Start)
		canonical.Number(c, "took", &s.Took)
		c.Optional("error", &s.Error)
	})
	canonical.Number(c, "started", &r.Started)
}

func (d *Deployment) walk(c *canonical.Coder) {
	canonical.String(c, "serial", &d.Serial)
	canonical.String(c, "why", &d.Why)
	canonical.String(c, "name", &d.Name)
	canonical.String(c, "version", &d.Version)
	c.Count("epoch", &d.Epoch)
	canonical.String(c, "architecture", &d.Architecture)
	canonical.String(c, "manifest", &d.Manifest)
}

func (a *Attached) walk(c *canonical.Coder) {
	canonical.String(c, "role", &a.Role)
	canonical.String(c, "name", &a.Name)
	canonical.String(c, "id", &a.ID)
	canonical.String(c, "filesystem", &a.FileSystem)
	canonical.Number(c, "size", &a.Size)
	canonical.String(c, "device", &a.Device)
	canonical.String(c, "mount", &a.Mount)
}
