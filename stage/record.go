package stage

import (
	"math"
	"time"

	"veneer/images"
	"veneer/images/canonical"
	"veneer/overlay/state"
)

// RecordFormat is the version of the record's JSON form.
const RecordFormat = 1

// Where the running system finds the record and the log.
const (
	RecordPath = "/run/veneer/state.json"
	LogPath    = "/run/veneer/log"

	// MediumLostPath is there once the medium has been taken away from the running system, and says so.
	MediumLostPath = RunDir + "/medium-lost"
)

// MaxRecord bounds the size of a record that is read back, in bytes.
const MaxRecord = 1 << 20

// Record is what the init decided and why. The running system reads it and never re-derives it.
type Record struct {
	Format     int        `json:"format"`
	Veneer     string     `json:"veneer"`  // version of the init
	Cmdline    string     `json:"cmdline"` // of the kernel
	Aliases    []string   `json:"aliases"` // words of others' dialects on it, and what each came to
	Kernel     string     `json:"kernel"`  // release that runs
	Store      Store      `json:"store"`
	Deployment Deployment `json:"deployment"`
	Verified   Verified   `json:"verified"`
	Network    string     `json:"network,omitempty"` // how the interface was set up that the set came over
	Trust      Trust      `json:"trust"`
	Images     []Attached `json:"images"` // bottom of the stack first
	Upper      Upper      `json:"upper"`
	State      State      `json:"state"`
	Rules      []Rule     `json:"rules"`    // in force, in the order of their paths
	Merges     []Merge    `json:"merges"`   // base changes that this boot carried into an upper
	Requests   []Request  `json:"requests"` // orders of the running system that this boot met
	Identity   []Identity `json:"identity"` // what makes this machine itself
	Boots      Boots      `json:"boots"`
	Watermarks Watermarks `json:"watermarks"`
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
	Medium     Medium `json:"medium"`
	Copy       Copy   `json:"copy"`
}

// Medium is the file that a store lies in, where it lies in one: an ISO on another file system.
type Medium struct {
	Device     string `json:"device"`
	FileSystem string `json:"filesystem"`
	File       string `json:"file"`
}

// Copy is what became of copying the images to memory.
type Copy struct {
	Asked    string `json:"asked"`    // yes or auto; "" where nobody did
	Images   bool   `json:"images"`   // they are in memory
	Bytes    int64  `json:"bytes"`    // of them
	Released bool   `json:"released"` // what the store was on is not used any more; what stands for it is the copy
	Why      string `json:"why"`      // the budget, or what did not fit into it
}

// Installed stands for the serial of a system that no manifest describes: the root of an installation.
const Installed = "installed"

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
	Corruption images.Corruption `json:"corruption"`       // what a bad block met later does
	Pinned     string            `json:"pinned,omitempty"` // of others' images: the digests of their files that the initramfs pins
}

// Trust is what holds this set against earlier ones, and what was told to the TPM.
type Trust struct {
	Epoch    uint64        `json:"epoch"`     // the highest blessed on this machine, as this boot found it
	Store    uint64        `json:"store"`     // of it, what the store keeps
	TPM      string        `json:"tpm"`       // the initramfs's word: none, wanted, required
	TPMFound bool          `json:"tpm-found"` // there is one that answers
	TPMKeeps bool          `json:"tpm-keeps"` // and it keeps an epoch:
	TPMEpoch uint64        `json:"tpm-epoch"`
	Measured []Measurement `json:"measured"`
	Ignored  string        `json:"ignored,omitempty"` // the parameter that does not count under Secure Boot
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

// Upper is the writable layer of the root: its directory is Mount/upper on a tmpfs, Mount/fs where it persists.
type Upper struct {
	Kind  string `json:"kind"` // tmpfs or persistent
	Size  int64  `json:"size"` // bytes
	Mount string `json:"mount"`
}

// Kinds of State.
const (
	StateNone       = "none"       // nothing is kept, and nothing was to be
	StatePersistent = "persistent" // what the rules say is kept
	StateEphemeral  = "ephemeral"  // nothing is kept, although it was asked for: see Why
)

// State is where this machine keeps what survives a boot.
type State struct {
	Kind       string       `json:"kind"`
	Reference  string       `json:"reference"` // as asked for: LABEL=STATE, or "store"
	Device     string       `json:"device"`    // as found
	FileSystem string       `json:"filesystem"`
	Dir        string       `json:"dir"`
	Mount      string       `json:"mount"`            // where the directory is seen
	Why        string       `json:"why"`              // this kind
	Secure     state.Secure `json:"secure,omitempty"` // what a secure reset comes to where it is encrypted: destroy (the key) or refuse
}

// Rule is what happens to one path, as it was applied.
type Rule struct {
	Path   string `json:"path"`
	Action string `json:"action"` // persist, merge, ephemeral, read-only or mask
	Form   string `json:"form"`   // bind or overlay; empty where nothing is mounted from elsewhere
	Source string `json:"source"` // bind: the directory that is seen at Path; overlay: the one that holds fs and work
	Upper  string `json:"upper"`  // of an overlay: tmpfs or persistent
	Origin string `json:"origin"` // who said so: base or site
}

// Merge is a base change that was carried into the upper of one path, in numbers of verdicts.
type Merge struct {
	Path         string `json:"path"`
	From         string `json:"from"` // ID of the base that the upper was written on
	To           string `json:"to"`
	KeptLocal    int    `json:"kept-local"`
	TookNew      int    `json:"took-new"`
	Pruned       int    `json:"pruned"`
	DeletedLocal int    `json:"deleted-local"`
	Merged       int    `json:"merged"`
	Conflict     int    `json:"conflict"`
	TypeClash    int    `json:"type-clash"`
	Report       string `json:"report"` // the file that lists them path by path
}

// Request is an order for this boot, and what became of it.
type Request struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
}

// Boots counts boots with a state that nobody has found good yet.
type Boots struct {
	Attempts int `json:"attempts"` // since the last bless, with this one
	Tries    int `json:"tries"`    // after so many the last good snapshot comes back; 0: never
}

// Watermarks are the manifest's policy for what fills up. The zero value means the defaults.
type Watermarks struct {
	Warning  int    `json:"warning"`  // percent of the room
	Critical int    `json:"critical"` // percent
	Full     string `json:"full"`     // at critical: "" for nothing, or read-only
}

// Identity is one thing that tells this machine from its sisters.
type Identity struct {
	Name string `json:"name"` // of the preset: machine-id
	Mode string `json:"mode"`
	What string `json:"what"` // was done
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
	canonical.Strings(c, "aliases", &r.Aliases, math.MaxInt)
	canonical.String(c, "kernel", &r.Kernel)
	c.Object("store", func(c *canonical.Coder) {
		canonical.String(c, "reference", &r.Store.Reference)
		canonical.String(c, "device", &r.Store.Device)
		canonical.String(c, "filesystem", &r.Store.FileSystem)
		canonical.String(c, "dir", &r.Store.Dir)
		c.Object("medium", r.Store.Medium.walk)
		c.Object("copy", r.Store.Copy.walk)
	})
	c.Object("deployment", r.Deployment.walk)
	c.Object("verified", func(c *canonical.Coder) {
		c.Bool("manifest", &r.Verified.Manifest)
		c.Bool("images", &r.Verified.Images)
		canonical.String(c, "key-id", &r.Verified.KeyID)
		canonical.String(c, "key-file", &r.Verified.KeyFile)
		canonical.String(c, "corruption", &r.Verified.Corruption)
		c.Optional("pinned", &r.Verified.Pinned)
	})
	c.Optional("network", &r.Network)
	c.Object("trust", r.Trust.walk)
	canonical.List(c, "images", &r.Images, math.MaxInt, func(c *canonical.Coder, a *Attached) { a.walk(c) })
	c.Object("upper", func(c *canonical.Coder) {
		canonical.String(c, "kind", &r.Upper.Kind)
		canonical.Number(c, "size", &r.Upper.Size)
		canonical.String(c, "mount", &r.Upper.Mount)
	})
	c.Object("state", r.State.walk)
	canonical.List(c, "rules", &r.Rules, math.MaxInt, func(c *canonical.Coder, rule *Rule) { rule.walk(c) })
	canonical.List(c, "merges", &r.Merges, math.MaxInt, func(c *canonical.Coder, m *Merge) { m.walk(c) })
	canonical.List(c, "requests", &r.Requests, math.MaxInt, func(c *canonical.Coder, q *Request) { q.walk(c) })
	canonical.List(c, "identity", &r.Identity, math.MaxInt, func(c *canonical.Coder, i *Identity) {
		canonical.String(c, "name", &i.Name)
		canonical.String(c, "mode", &i.Mode)
		canonical.String(c, "what", &i.What)
	})
	c.Object("boots", func(c *canonical.Coder) {
		canonical.Number(c, "attempts", &r.Boots.Attempts)
		canonical.Number(c, "tries", &r.Boots.Tries)
	})
	c.Object("watermarks", func(c *canonical.Coder) {
		canonical.Number(c, "warning", &r.Watermarks.Warning)
		canonical.Number(c, "critical", &r.Watermarks.Critical)
		canonical.String(c, "full", &r.Watermarks.Full)
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

func (m *Medium) walk(c *canonical.Coder) {
	canonical.String(c, "device", &m.Device)
	canonical.String(c, "filesystem", &m.FileSystem)
	canonical.String(c, "file", &m.File)
}

func (m *Copy) walk(c *canonical.Coder) {
	canonical.String(c, "asked", &m.Asked)
	c.Bool("images", &m.Images)
	canonical.Number(c, "bytes", &m.Bytes)
	c.Bool("released", &m.Released)
	canonical.String(c, "why", &m.Why)
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

func (t *Trust) walk(c *canonical.Coder) {
	c.Count("epoch", &t.Epoch)
	c.Count("store", &t.Store)
	canonical.String(c, "tpm", &t.TPM)
	c.Bool("tpm-found", &t.TPMFound)
	c.Bool("tpm-keeps", &t.TPMKeeps)
	c.Count("tpm-epoch", &t.TPMEpoch)
	canonical.List(c, "measured", &t.Measured, math.MaxInt, func(c *canonical.Coder, m *Measurement) {
		canonical.Number(c, "register", &m.Register)
		canonical.String(c, "event", &m.Event)
		canonical.List(c, "digests", &m.Digests, math.MaxInt, func(c *canonical.Coder, d *Digest) {
			canonical.String(c, "algorithm", &d.Algorithm)
			canonical.String(c, "value", &d.Value)
		})
	})
	c.Optional("ignored", &t.Ignored)
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

func (s *State) walk(c *canonical.Coder) {
	canonical.String(c, "kind", &s.Kind)
	canonical.String(c, "reference", &s.Reference)
	canonical.String(c, "device", &s.Device)
	canonical.String(c, "filesystem", &s.FileSystem)
	canonical.String(c, "dir", &s.Dir)
	canonical.String(c, "mount", &s.Mount)
	canonical.String(c, "why", &s.Why)
	c.Optional("secure", (*string)(&s.Secure))
}

func (r *Rule) walk(c *canonical.Coder) {
	canonical.String(c, "path", &r.Path)
	canonical.String(c, "action", &r.Action)
	canonical.String(c, "form", &r.Form)
	canonical.String(c, "source", &r.Source)
	canonical.String(c, "upper", &r.Upper)
	canonical.String(c, "origin", &r.Origin)
}

func (m *Merge) walk(c *canonical.Coder) {
	canonical.String(c, "path", &m.Path)
	canonical.String(c, "from", &m.From)
	canonical.String(c, "to", &m.To)
	canonical.Number(c, "kept-local", &m.KeptLocal)
	canonical.Number(c, "took-new", &m.TookNew)
	canonical.Number(c, "pruned", &m.Pruned)
	canonical.Number(c, "deleted-local", &m.DeletedLocal)
	canonical.Number(c, "merged", &m.Merged)
	canonical.Number(c, "conflict", &m.Conflict)
	canonical.Number(c, "type-clash", &m.TypeClash)
	canonical.String(c, "report", &m.Report)
}

func (q *Request) walk(c *canonical.Coder) {
	canonical.String(c, "id", &q.ID)
	canonical.String(c, "kind", &q.Kind)
	canonical.String(c, "outcome", &q.Outcome)
	c.Optional("error", &q.Error)
}
