package live

import (
	"context"
	"errors"

	"veneer/stage"
)

// persistenceDir is where what is kept is mounted, by the kernel's name of its device.
const persistenceDir = stage.MountsDir + "/persistence"

func (f *foreign) keptRoot(context.Context, []string) (string, error) {
	return "", errors.New("nothing is kept yet")
}
