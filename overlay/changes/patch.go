package changes

import (
	"fmt"
	"io"
)

// readBoth reads both contents of a change, each up to limit bytes.
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
