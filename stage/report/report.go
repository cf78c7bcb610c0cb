package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"veneer/stage"
)

// Report is the record of the boot that led to the running system, and what has become of its upper since.
type Report struct {
	*stage.Record
	Space   *Space `json:"space"`                   // in the upper, now; null: see SpaceError
	Unknown string `json:"space-unknown,omitempty"` // why there is no Space
	Live
	Conflicts []Conflict `json:"conflicts"`                   // nobody has decided yet; JSON asks for them
	Untold    string     `json:"conflicts-unknown,omitempty"` // why some of them cannot be told

	MediumLost string `json:"medium-lost,omitempty"` // what the init's watcher said when the medium was taken away

	root string // of the system
}

// Space is how full a file system is.
type Space struct {
	Size      int64 `json:"size"`  // bytes
	Used      int64 `json:"used"`  // bytes
	Files     int64 `json:"files"` // that it can hold, 0: no limit
	FilesUsed int64 `json:"files-used"`
}

// ErrNotBooted means that there is no record: another program booted this machine, or /run of the boot is not visible here.
var ErrNotBooted = errors.New("this machine was not booted by Veneer")

// maxMediumLost bounds the line that the watcher of the medium writes.
const maxMediumLost = 4 << 10

// Read makes the report of the system whose root is at root ("/" for the running one).
func Read(root string) (*Report, error) {
	path := filepath.Join(root, stage.RecordPath)
	text, err := readBounded(path, stage.MaxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s; in a container, ask on its host", ErrNotBooted, path)
	}
	if err != nil {
		return nil, err
	}
	rec, err := parseRecord(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	r := &Report{Record: rec, Live: live(root, rec), root: root}
	if lost, err := readBounded(filepath.Join(root, stage.MediumLostPath), maxMediumLost); err == nil {
		r.MediumLost = strings.TrimSpace(string(lost))
	}
	space, err := spaceOf(filepath.Join(root, rec.Upper.Mount))
	if err != nil {
		r.Unknown = err.Error()
		return r, nil
	}
	r.Space = &space
	return r, nil
}

// parseRecord reads what the init wrote. It refuses a format that it does not know.
func parseRecord(b []byte) (*stage.Record, error) {
	var r stage.Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("parse record: %w", err)
	}
	if r.Format != stage.RecordFormat {
		return nil, fmt.Errorf("record has format %d, this veneer reads %d: use the command of the tools layer that was booted", r.Format, stage.RecordFormat)
	}
	return &r, nil
}

// readBounded reads a file that is at most limit bytes long.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes: no init wrote this", path, limit)
	}
	return b, nil
}

// JSON writes the report for programs: the keys of the record, and those of Report.
func (r *Report) JSON(w io.Writer) error {
	all := *r
	all.Conflicts = []Conflict{}
	for _, p := range r.conflicts(context.Background()) {
		if p.err != nil && all.Untold == "" {
			all.Untold = fmt.Sprintf("%s: %v", p.dir, p.err)
		}
		all.Conflicts = append(all.Conflicts, p.open...)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(&all)
}
