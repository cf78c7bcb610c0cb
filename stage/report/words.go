package report

import "fmt"

// Plain is text from a record or a state as a terminal may show it.
func Plain(s string) string { return plain(s) }

// Count spells a number of things.
func Count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
