package changes

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Bounds of a content diff: beyond them a file is told to be too large, or is shown as replaced from its first to its last
// difference.
const (
	maxPatch = 1 << 20 // bytes of a side
	maxEdits = 1000    // lines that were taken out or put in, as the shortest way has them
	context3 = 3       // unchanged lines around a change
)

// Patch writes how the content of a regular file differs as a unified diff, which patch -p1 takes. What is no text, and what
// is too large, is told in a line. Of a change without content it writes nothing. Control characters of the files are written
// as they are, unless quoted asks for a form that is harmless on a terminal.
func (c Change) Patch(w io.Writer, quoted bool) error {
	if c.Type == Metadata || c.Type == Same || c.Kind != File && c.Was != File {
		return nil
	}
	if max(c.Size, c.OldSize) > maxPatch {
		_, err := fmt.Fprintf(w, "too large to be shown: %d -> %d bytes\n", c.OldSize, c.Size)
		return err
	}
	old, new, err := readBoth(c, maxPatch)
	if err != nil {
		return err
	}
	if max(len(old), len(new)) > maxPatch || !text(old) || !text(new) {
		_, err := fmt.Fprintf(w, "binary: %d -> %d bytes\n", len(old), len(new))
		return err
	}
	if bytes.Equal(old, new) {
		return nil
	}
	from, to := "a"+c.Path, "b"+c.Path
	if old == nil {
		from = "/dev/null"
	}
	if new == nil {
		to = "/dev/null"
	}
	_, err = io.WriteString(w, unified(patchName(from), patchName(to), lines(old), lines(new), quoted))
	return err
}

// text reports whether a file is for people: it holds no NUL, and no more than a few bytes that are not UTF-8.
func text(b []byte) bool {
	if bytes.IndexByte(b, 0) >= 0 {
		return false
	}
	odd := 0
	for rest := b; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 || r < ' ' && r != '\n' && r != '\t' && r != '\r' && r != '\f' && r != 0x1b {
			odd++
		}
		rest = rest[n:]
	}
	return odd*10 <= len(b)
}

// patchName quotes a name as git and patch(1) read it: bytes in octal.
func patchName(name string) string {
	odd := func(c byte) bool { return c < ' ' || c >= 0x7f || c == '"' || c == '\\' }
	if !strings.ContainsFunc(name, func(r rune) bool { return r >= 0x7f || odd(byte(r)) }) {
		return name
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(name) {
		switch c := name[i]; {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case odd(c):
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + `"`
}

// lines cuts a text behind each newline.
func lines(b []byte) []string {
	all := strings.SplitAfter(string(b), "\n")
	if all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return all
}

// edit is one line of the way from a text to another.
type edit struct {
	op   byte // ' ', '-', '+'
	line string
}

// script is a short way from a to b: the shortest one, as long as that has no more than maxEdits lines.
func script(a, b []string) []edit {
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head, a, b = append(head, edit{' ', a[0]}), a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail, a, b = append(tail, edit{' ', a[len(a)-1]}), a[:len(a)-1], b[:len(b)-1]
	}
	all := append(head, shortest(a, b)...)
	for i := len(tail) - 1; i >= 0; i-- {
		all = append(all, tail[i])
	}
	return all
}

// shortest is E. Myers, An O(ND) Difference Algorithm and Its Variations (1986), the greedy one: for each number of edits the
// furthest point on each diagonal x-y is kept, and the way is read from the end.
func shortest(a, b []string) []edit {
	n, m := len(a), len(b)
	var trail [][]int // of each number of edits d the furthest x on the diagonals -d..d
	limit := min(n+m, maxEdits)
	for d := 0; d <= limit; d++ {
		v := make([]int, 2*d+1)
		for k := -d; k <= d; k += 2 {
			x := 0
			if d > 0 {
				x, _ = step(trail[d-1], d, k)
			}
			for x < n && x-k < m && a[x] == b[x-k] {
				x++
			}
			if v[k+d] = x; x >= n && x-k >= m {
				return backwards(append(trail, v), a, b)
			}
		}
		trail = append(trail, v)
	}
	var all []edit
	for _, line := range a {
		all = append(all, edit{'-', line})
	}
	for _, line := range b {
		all = append(all, edit{'+', line})
	}
	return all
}

// step is where edit d arrives on diagonal k, from the furthest points before it, and the diagonal that it comes from.
func step(before []int, d, k int) (x, from int) {
	if k == -d || k != d && before[k-1+d-1] < before[k+1+d-1] {
		return before[k+1+d-1], k + 1 // a line of b was put in
	}
	return before[k-1+d-1] + 1, k - 1 // a line of a was taken out
}

func backwards(trail [][]int, a, b []string) []edit {
	x, k := len(a), len(a)-len(b)
	var reversed []edit
	for d := len(trail) - 1; d >= 0; d-- {
		start, from := 0, k
		if d > 0 {
			start, from = step(trail[d-1], d, k)
		}
		for ; x > start; x-- {
			reversed = append(reversed, edit{' ', a[x-1]})
		}
		switch {
		case d == 0:
		case from == k+1:
			reversed = append(reversed, edit{'+', b[x-k-1]})
		default:
			reversed = append(reversed, edit{'-', a[x-1]})
			x--
		}
		k = from
	}
	for i, j := 0, len(reversed)-1; i < j; i, j = i+1, j-1 {
		reversed[i], reversed[j] = reversed[j], reversed[i]
	}
	return reversed
}

// unified writes the way from a to b in hunks with a few unchanged lines around each.
func unified(from, to string, a, b []string, quoted bool) string {
	edits := script(a, b)
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", from, to)
	lineA, lineB := 1, 1 // of edits[i]
	for i := 0; i < len(edits); {
		if edits[i].op == ' ' {
			i, lineA, lineB = i+1, lineA+1, lineB+1
			continue
		}
		start := max(0, i-context3)
		lead := i - start
		end := hunkEnd(edits, i)
		hunk := edits[start:end]
		countA, countB := count(hunk, '-'), count(hunk, '+')
		fmt.Fprintf(&out, "@@ -%s +%s @@\n", span(lineA-lead, countA), span(lineB-lead, countB))
		for _, e := range hunk {
			out.WriteString(e.text(quoted))
		}
		i, lineA, lineB = end, lineA-lead+countA, lineB-lead+countB
	}
	return out.String()
}

// hunkEnd is where the hunk of the change at i ends: before more unchanged lines than two contexts, with one context of them.
func hunkEnd(edits []edit, i int) int {
	end, same := i, 0
	for ; i < len(edits) && same <= 2*context3; i++ {
		if edits[i].op == ' ' {
			same++
			continue
		}
		same, end = 0, i+1
	}
	return min(end+context3, len(edits))
}

// count is how many lines of a hunk are on one side.
func count(hunk []edit, op byte) (n int) {
	for _, e := range hunk {
		if e.op == ' ' || e.op == op {
			n++
		}
	}
	return n
}

// span is a range of lines as diff(1) writes it: an empty one names the line before it.
func span(start, n int) string {
	switch n {
	case 0:
		return fmt.Sprintf("%d,0", start-1)
	case 1:
		return fmt.Sprint(start)
	}
	return fmt.Sprintf("%d,%d", start, n)
}

func (e edit) text(quoted bool) string {
	line, ended := strings.CutSuffix(e.line, "\n")
	if quoted {
		line = Plain(strings.ReplaceAll(line, "\t", "        "))
	}
	if !ended {
		line += "\n\\ No newline at end of file"
	}
	return string(e.op) + line + "\n"
}

// readBoth reads both contents of a change, each up to limit bytes and one.
func readBoth(c Change, limit int64) (old, new []byte, err error) {
	a, b, err := c.Open()
	if err != nil {
		return nil, nil, err
	}
	read := func(r io.ReadCloser) []byte {
		if r == nil {
			return nil
		}
		defer r.Close()
		text, readErr := io.ReadAll(io.LimitReader(r, limit+1))
		if readErr != nil && err == nil {
			err = fmt.Errorf("%s: %w", Plain(c.Path), readErr)
		}
		return text
	}
	old, new = read(a), read(b)
	return old, new, err
}
