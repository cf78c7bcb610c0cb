package devmapper

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheListOfTheKernelIsRead(t *testing.T) {
	item := func(next uint32, name string, padding int) []byte {
		b := make([]byte, 12, 64)
		binary.NativeEndian.PutUint64(b, 254<<8)
		binary.NativeEndian.PutUint32(b[8:], next)
		return append(append(b, name...), make([]byte, padding)...)
	}
	first := item(24, "veneer-1", 4)
	for name, c := range map[string]struct {
		list []byte
		want []string
	}{
		"no devices":               {item(0, "", 4), nil},
		"an empty list":            {nil, nil},
		"two devices":              {append(first, item(0, "luks", 4)...), []string{"veneer-1", "luks"}},
		"a next beyond the end":    {item(4096, "veneer-1", 4), []string{"veneer-1"}},
		"a name without an ending": {item(0, "veneer-1", 0), []string{"veneer-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, names(c.list)); diff != "" {
				t.Errorf("names() (-want +got):\n%s", diff)
			}
		})
	}
}
