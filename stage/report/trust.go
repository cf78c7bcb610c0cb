package report

import (
	"fmt"
	"strings"

	"veneer/images"
	"veneer/stage"
)

// trust says what older sets are held against, and what was told to the TPM; "" where nothing was.
func (r *Report) trust() string {
	t := r.Record.Trust
	var parts []string
	if t.Epoch > 0 {
		parts = append(parts, fmt.Sprintf("no set below epoch %d boots here", t.Epoch))
	}
	switch {
	case t.TPM == "" || t.TPM == stage.TPMNone:
	case !t.TPMFound:
		parts = append(parts, "NO TPM answers")
	case t.TPMKeeps:
		parts = append(parts, fmt.Sprintf("the TPM keeps epoch %d", t.TPMEpoch))
	default:
		parts = append(parts, "the TPM keeps no epoch yet: veneer bless")
	}
	if len(t.Measured) > 0 {
		parts = append(parts, fmt.Sprintf("measured into register %d", images.TPMRegister))
	}
	if t.Ignored != "" {
		parts = append(parts, plain(t.Ignored)+" is IGNORED under Secure Boot")
	}
	return strings.Join(parts, "; ")
}
