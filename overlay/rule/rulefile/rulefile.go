// Package rulefile reads rules as people write them: TOML with tables [[rules]] and nothing else. PID 1 never links it: what it reads
// was compiled before, into the signed manifest or into the state.
package rulefile

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"veneer/overlay/rule"
)

// Max bounds a file of rules, bytes.
const Max = 256 << 10

// Parse reads the text of a file. An unknown key, and a rule that means nothing by itself, is an error.
func Parse(text []byte) ([]rule.Rule, error) {
	if len(text) > Max {
		return nil, fmt.Errorf("%d bytes are more than %d", len(text), Max)
	}
	var file struct {
		Rules []rule.Rule `toml:"rules"`
	}
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&file)
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		line, _ := unknown.Errors[0].Position()
		return nil, fmt.Errorf("line %d: unknown key %s", line, strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &bad):
		line, column := bad.Position()
		return nil, fmt.Errorf("line %d, column %d: %s", line, column, strings.TrimPrefix(bad.Error(), "toml: "))
	case err != nil:
		return nil, err
	}
	var errs []error
	for i, r := range file.Rules {
		if err := r.Check(); err != nil {
			errs = append(errs, &rule.RuleError{Index: i, Path: r.Path, Err: err})
		}
	}
	return file.Rules, errors.Join(errs...)
}
