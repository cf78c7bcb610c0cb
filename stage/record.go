package stage

import (
	"encoding/json"
	"fmt"
	"time"

	"veneer/images"
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
	Started    Duration   `json:"started"` // kernel uptime when PID 1 began
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
	Name  string   `json:"name"`
	Start Duration `json:"start"` // kernel uptime
	Took  Duration `json:"took"`
	Error string   `json:"error,omitempty"`
}

// Duration is a time span; its JSON form is a number of microseconds.
type Duration time.Duration

// MarshalJSON writes whole microseconds.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).Microseconds())
}

// UnmarshalJSON reads whole microseconds.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var us int64
	if err := json.Unmarshal(b, &us); err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	*d = Duration(us * int64(time.Microsecond))
	return nil
}

// Encode returns the record as JSON with a trailing newline. A list that holds nothing is [], never null, so that whatever
// reads it may count.
func (r *Record) Encode() ([]byte, error) {
	full := *r
	full.Images = append([]Attached{}, r.Images...)
	full.Degraded = append([]Degraded{}, r.Degraded...)
	full.Steps = append([]Step{}, r.Steps...)
	b, err := json.MarshalIndent(full, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return append(b, '\n'), nil
}

// ParseRecord reads what Encode wrote. It refuses a format that it does not know.
func ParseRecord(b []byte) (*Record, error) {
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("record of %d bytes is larger than %d", len(b), MaxRecord)
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("parse record: %w", err)
	}
	if r.Format != RecordFormat {
		return nil, fmt.Errorf("record has format %d, this veneer reads %d: use the command of the tools layer that was booted", r.Format, RecordFormat)
	}
	return &r, nil
}
