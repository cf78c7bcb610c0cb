package build

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxConfig bounds a veneer.toml.
const maxConfig = 1 << 20

// Load reads a veneer.toml and resolves its paths. Everything that is wrong with it is reported at once, each with its line.
func Load(path string) (Config, error) {
	text, err := readSmall(path, maxConfig)
	if errors.Is(err, os.ErrNotExist) {
		return Config{}, fmt.Errorf("%w; name another with -f", err)
	}
	if err != nil {
		return Config{}, err
	}
	c, err := ParseConfig(path, text)
	if err != nil {
		return Config{}, err
	}
	c.resolve(filepath.Dir(path))
	return c, nil
}

// ParseConfig reads the text of a veneer.toml; name stands for it in errors. Unknown keys, values of a wrong type, values
// out of range and values that contradict each other are all reported, in the order of the text.
func ParseConfig(name string, text []byte) (Config, error) {
	if len(text) > maxConfig {
		return Config{}, fmt.Errorf("%s: %d bytes are more than %d", name, len(text), maxConfig)
	}
	c := defaultConfig()
	var problems []problem
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&c)
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			problems = append(problems, problem{line, fmt.Sprintf("unknown key %s", quoteKey(e.Key()))})
		}
	case errors.As(err, &bad):
		// Nothing behind this place was read, so that no other problem can be told from a missing value.
		line, column := bad.Position()
		text := wrongType.ReplaceAllString(strings.TrimPrefix(bad.Error(), "toml: "), "its type is $1, want $2")
		if key := bad.Key(); len(key) > 0 {
			text = quoteKey(key) + ": " + text
		}
		return Config{}, fmt.Errorf("%s:%d:%d: %s", name, line, column, text)
	case err != nil:
		return Config{}, fmt.Errorf("%s: %w", name, err)
	}
	lines := keyLines(text)
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		// The decoder takes Name for name. One spelling is enough, and two of them could contradict each other.
		if last := key[strings.LastIndexByte(key, '.')+1:]; strings.ToLower(last) != last {
			problems = append(problems, problem{lines[key], fmt.Sprintf("unknown key %s: keys are in lower case", key)})
		}
	}
	c.check(func(key, format string, args ...any) {
		problems = append(problems, problem{lineOf(lines, key), key + ": " + fmt.Errorf(format, args...).Error()})
	})
	slices.SortStableFunc(problems, func(a, b problem) int { return a.line - b.line })
	var errs []error
	for _, p := range problems {
		if p.line == 0 { // a key that is not there
			errs = append(errs, fmt.Errorf("%s: %s", name, p.text))
			continue
		}
		errs = append(errs, fmt.Errorf("%s:%d: %s", name, p.line, p.text))
	}
	return c, errors.Join(errs...)
}

// wrongType is how the decoder speaks of a value of a wrong type.
var wrongType = regexp.MustCompile(`cannot (?:decode|store) TOML (\w+) (?:in|into) .*of type \[*\]*(?:build\.)?(\w+)$`)

// problem is something that is wrong with a line; line 0 stands for the whole file.
type problem struct {
	line int
	text string
}

// quoteKey spells a key as TOML does.
func quoteKey(key []string) string {
	var parts []string
	for _, k := range key {
		if k == "" || strings.Trim(k, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			k = strconv.Quote(k)
		}
		parts = append(parts, k)
	}
	return strings.Join(parts, ".")
}

// lineOf is the line of a key, or of the table that it is missing from; 0 where that is the file.
func lineOf(lines map[string]int, key string) int {
	for lines[key] == 0 && strings.Contains(key, ".") {
		key = key[:strings.LastIndexByte(key, '.')]
	}
	return lines[key]
}

// keyLines finds the line of each key. Keys of an array of tables have their index: layers[0].name.
func keyLines(text []byte) map[string]int {
	lines := map[string]int{}
	count := map[string]int{}
	var p unstable.Parser
	p.Reset(text)
	prefix := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			key, line := keyOf(&p, e.Key())
			if e.Kind == unstable.ArrayTable {
				count[key]++
				key += "[" + strconv.Itoa(count[key]-1) + "]"
			}
			lines[key] = line
			prefix = key + "."
		case unstable.KeyValue:
			recordKey(&p, lines, prefix, e)
		}
	}
	return lines
}

// recordKey notes the line of a key, and of those in a table or list of tables that is its value.
func recordKey(p *unstable.Parser, lines map[string]int, prefix string, e *unstable.Node) {
	key, line := keyOf(p, e.Key())
	key = prefix + key
	if _, ok := lines[key]; !ok {
		lines[key] = line
	}
	recordValue(p, lines, key, line, e.Value())
}

func recordValue(p *unstable.Parser, lines map[string]int, key string, line int, value *unstable.Node) {
	switch value.Kind {
	case unstable.InlineTable:
		for it := value.Children(); it.Next(); {
			recordKey(p, lines, key+".", it.Node())
		}
	case unstable.Array:
		i := 0
		for it := value.Children(); it.Next(); i++ {
			element := key + "[" + strconv.Itoa(i) + "]"
			lines[element] = line
			recordValue(p, lines, element, line, it.Node())
		}
	}
}

func keyOf(p *unstable.Parser, it unstable.Iterator) (key string, line int) {
	var parts []string
	for it.Next() {
		n := it.Node()
		if line == 0 {
			line = p.Shape(n.Raw).Start.Line
		}
		parts = append(parts, string(n.Data))
	}
	return strings.Join(parts, "."), line
}

// keyName is the name under which a public key is known in the initramfs.
func keyName(path string) string { return strings.TrimSuffix(filepath.Base(path), ".pub") }

// resolve makes the paths independent of the current directory's relation to the file's.
func (c *Config) resolve(dir string) {
	paths := []*string{&c.Source, &c.Previous, &c.Keys.Secret, &c.Kernel.ModulesDir, &c.Boot.Stub, &c.Boot.Splash, &c.Boot.SBAT, &c.Boot.Key, &c.Boot.Cert, &c.Boot.Enroll}
	if c.Kernel.From != FromTree {
		paths = append(paths, &c.Kernel.From)
	}
	for i := range c.Keys.Trusted {
		paths = append(paths, &c.Keys.Trusted[i])
	}
	for i := range c.Layers {
		paths = append(paths, &c.Layers[i].Source)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}
