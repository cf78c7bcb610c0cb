package build

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// fsck checks what lies around the store in an ext4 image, without changing it: a journal or a bitmap that is damaged leaves all
// files as they are, and yet the machine may not mount it. See e2fsck(8).
func (v *verifier) fsck(ctx context.Context, image, what string) {
	e2fsck, err := findTool("e2fsck")
	if err != nil {
		v.add(what, "", err)
		return
	}
	cmd := exec.CommandContext(ctx, e2fsck, "-fn", image)
	cmd.Env = []string{"LC_ALL=C"}
	if said, rerr := cmd.CombinedOutput(); rerr != nil {
		text := strings.TrimSpace(string(said))
		const most = 2000
		err = fmt.Errorf("the file system of %s is damaged (e2fsck -fn: %w): build again, or copy it again\n%s", image, rerr, text[:min(len(text), most)])
	}
	v.add(what, "the file system around the store is whole (e2fsck)", err)
}
