package boot

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxSerial bounds the digits of a serial, so that it always fits in an int64.
const maxSerial = 18

// CheckSerial reports whether s is the serial of a deployment: a positive decimal number without leading zeros.
func CheckSerial(s string) error {
	if s == "" || len(s) > maxSerial || s[0] == '0' || strings.Trim(s, "0123456789") != "" {
		return fmt.Errorf("%q is not the serial of a deployment: want a number from 1 on", clip(s))
	}
	return nil
}

// Decision is which deployment boots, and why. Degraded says what is less than was asked for, if anything.
type Decision struct {
	Serial   string
	Why      string
	Degraded string
}

// Choose decides which of the deployments of a store boots.
//
//	asked for on the command line   there      that one
//	                                missing    refused: a person named it, so nothing else is what they want
//	the store's default             there      that one
//	                                missing or  the newest, and the decision says so: a store whose pointer was
//	                                unreadable  lost still boots
//	no deployment at all                       refused
func Choose(serials []string, def string, defErr error, asked string) (Decision, error) {
	if len(serials) == 0 {
		return Decision{}, fmt.Errorf("store holds no deployment")
	}
	if asked != "" {
		if !slices.Contains(serials, asked) {
			return Decision{}, fmt.Errorf("deployment %s, asked for on the command line, is not in the store; it holds %s", asked, listSerials(serials))
		}
		return Decision{Serial: asked, Why: "asked for on the command line"}, nil
	}
	if defErr == nil && slices.Contains(serials, def) {
		return Decision{Serial: def, Why: "the store's default"}, nil
	}
	newest := serials[0]
	for _, s := range serials {
		if number(s) > number(newest) {
			newest = s
		}
	}
	lost := fmt.Sprintf("the store's default names deployment %s, which is not there", clip(def))
	if defErr != nil {
		lost = fmt.Sprintf("the store's default cannot be read: %v", defErr)
	}
	return Decision{Serial: newest, Why: "the newest", Degraded: lost}, nil
}

func number(serial string) int {
	n, _ := strconv.Atoi(serial) // checked by CheckSerial when the store was listed
	return n
}

func listSerials(serials []string) string {
	const most = 20
	sorted := slices.Clone(serials)
	slices.Sort(sorted)
	if len(sorted) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(sorted[:most], ", "), len(sorted)-most)
	}
	return strings.Join(sorted, ", ")
}
