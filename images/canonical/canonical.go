// Package canonical writes and reads JSON that has one form only, so that a value and its bytes stand for each other: fields in
// a fixed order, one to a line, indented by two spaces, a newline at the end. One walk over a value describes both directions.
// It needs no reflection, which keeps PID 1 small and its first (and only) pass over a manifest short.
package canonical

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Coder is one pass over a value, writing or reading.
type Coder struct {
	text    []byte // what was written, or what is being read
	at      int    // reading: the next byte
	reading bool
	depth   int
	filled  bool // something stands before the next field or item in its object or list
	err     error
}

// Write returns the form of the object whose fields walk visits.
func Write(walk func(*Coder)) []byte {
	c := &Coder{}
	c.object(func() { walk(c) })
	c.token("\n")
	return c.text
}

// Read sets the fields that walk visits from text. It accepts nothing but what Write would have written for the same walk;
// its error names the line, and what was expected there.
func Read(text []byte, walk func(*Coder)) error {
	c := &Coder{text: text, reading: true}
	c.object(func() { walk(c) })
	c.token("\n")
	if c.err == nil && c.at < len(text) {
		c.fail("the end")
	}
	return c.err
}

// Fail ends a pass over a value that cannot be right. The first failure is the one that counts.
func (c *Coder) Fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// Object is a field that is an object.
func (c *Coder) Object(name string, walk func(*Coder)) {
	c.field(name)
	c.object(func() { walk(c) })
}

// List is a field that is a list of at most most objects. An empty list and an absent one are the same.
func List[T any](c *Coder, name string, list *[]T, most int, walk func(*Coder, *T)) {
	if c.reading {
		*list = []T{}
	}
	c.list(name, len(*list), most, func(n int) {
		if c.reading {
			*list = append(*list, *new(T))
		}
		c.object(func() { walk(c, &(*list)[n]) })
	})
}

// Strings is a field that is a list of at most most texts. An empty list and an absent one are the same.
func Strings[T ~string](c *Coder, name string, list *[]T, most int) {
	if c.reading {
		*list = nil
	}
	c.list(name, len(*list), most, func(n int) {
		if c.reading {
			*list = append(*list, "")
		}
		text(c, &(*list)[n])
	})
}

// list walks the items of a field that is a list, which has length of them when it is written.
func (c *Coder) list(name string, length, most int, item func(n int)) {
	c.field(name)
	c.token("[")
	if c.reading && !c.ahead("]") || length > 0 {
		c.filled = false
		c.depth++
		for n, more := 0, true; more && c.err == nil; n++ {
			c.separate()
			if c.reading && n == most {
				c.Fail(fmt.Errorf("line %d: %s: more than %d items", c.line(), name, most))
				return
			}
			item(n)
			c.filled = true
			more = n+1 < length || c.reading && c.ahead(",")
		}
		c.depth--
		c.newline()
	}
	c.token("]")
	c.filled = true
}

// String is a field that is text.
func String[T ~string](c *Coder, name string, v *T) {
	c.field(name)
	text(c, v)
}

func text[T ~string](c *Coder, v *T) {
	if !c.reading {
		c.text = appendString(c.text, string(*v))
		return
	}
	raw := c.text[c.at:min(c.stringEnd(), len(c.text))]
	s, err := strconv.Unquote(string(raw))
	if err != nil || !bytes.Equal(appendString(nil, s), raw) {
		c.fail("text in quotes, as veneer writes it")
		return
	}
	c.at += len(raw)
	*v = T(s)
}

// Optional is a field that is text, and is left out when the text is empty. It never stands first.
func (c *Coder) Optional(name string, v *string) {
	if c.reading && !c.ahead(",\n"+indentation(c.depth)+`"`+name+`": `) || !c.reading && *v == "" {
		return
	}
	String(c, name, v)
	if *v == "" {
		c.Fail(fmt.Errorf("line %d: want a %q that is not empty", c.line(), name))
	}
}

// Number is a field that is a whole number.
func Number[T ~int | ~int64](c *Coder, name string, v *T) {
	c.field(name)
	if !c.reading {
		c.text = strconv.AppendInt(c.text, int64(*v), 10)
		return
	}
	raw := c.number()
	n, err := strconv.ParseInt(raw, 10, 64)
	if err != nil || int64(T(n)) != n || strconv.FormatInt(n, 10) != raw {
		c.fail("a whole number of 64 bits")
		return
	}
	c.at += len(raw)
	*v = T(n)
}

// Count is a field that is a whole number and never negative.
func (c *Coder) Count(name string, v *uint64) {
	c.field(name)
	if !c.reading {
		c.text = strconv.AppendUint(c.text, *v, 10)
		return
	}
	raw := c.number()
	n, err := strconv.ParseUint(raw, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != raw {
		c.fail("a whole number of 64 bits that is not negative")
		return
	}
	c.at += len(raw)
	*v = n
}

// Bool is a field that is true or false.
func (c *Coder) Bool(name string, v *bool) {
	c.field(name)
	if c.reading {
		*v = c.ahead("true")
	}
	c.token(strconv.FormatBool(*v))
}

func (c *Coder) object(fields func()) {
	c.token("{")
	c.filled = false
	c.depth++
	fields()
	c.depth--
	c.newline()
	c.token("}")
	c.filled = true
}

func (c *Coder) field(name string) {
	c.separate()
	if quoted := `"` + name + `": `; !c.reading || c.ahead(quoted) {
		c.token(quoted)
	} else {
		c.fail("the field " + strconv.Quote(name))
	}
	c.filled = true
}

// separate goes to the line of the next field or item.
func (c *Coder) separate() {
	if c.filled {
		c.token(",")
	}
	c.newline()
}

func (c *Coder) newline() { c.token("\n" + indentation(c.depth)) }

func indentation(depth int) string { return "                    "[:2*depth] }

// token writes s, or reads it.
func (c *Coder) token(s string) {
	switch {
	case !c.reading:
		c.text = append(c.text, s...)
	case c.ahead(s):
		c.at += len(s)
	case s[0] != '\n':
		c.fail(strconv.Quote(s))
	case !c.ahead("\n"):
		c.fail("a new line")
	default:
		c.at++ // the line that matters is the next one
		c.fail(fmt.Sprintf("%d spaces before what follows", len(s)-1))
	}
}

func (c *Coder) ahead(s string) bool { return bytes.HasPrefix(c.text[c.at:], []byte(s)) }

// number returns what may be a number at this place.
func (c *Coder) number() string {
	end := c.at
	for end < len(c.text) && bytes.IndexByte([]byte(",}] \n"), c.text[end]) < 0 {
		end++
	}
	return string(c.text[c.at:end])
}

// stringEnd returns the place behind the string that begins here.
func (c *Coder) stringEnd() int {
	for i := c.at + 1; i < len(c.text); i++ {
		switch c.text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(c.text)
}

func (c *Coder) line() int { return 1 + bytes.Count(c.text[:c.at], []byte("\n")) }

// fail says what was expected at this place, and what is there.
func (c *Coder) fail(want string) {
	if c.err != nil {
		return
	}
	rest := c.text[c.at:]
	const shown = 32
	found := "the end"
	if len(rest) > 0 {
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		found = strconv.QuoteToASCII(string(line[:min(len(line), shown)]))
		if len(line) == 0 {
			found = "the end of the line"
		}
	}
	c.err = fmt.Errorf("line %d: want %s, found %s", c.line(), want, found)
}

// appendString quotes s as RFC 8259 asks, and no more than that; a byte that is no UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029:
			b = append(b, `\u`...)
			for shift := 12; shift >= 0; shift -= 4 {
				b = append(b, "0123456789abcdef"[r>>shift&15])
			}
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
