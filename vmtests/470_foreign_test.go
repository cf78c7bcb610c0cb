package vmtests

// Media that others built, by their own documented layouts, with the command lines of their own boot menus.
//
//	machine   q35, 512 MiB, the live variant of the init
//	disks     vda: the medium, write-protected; vdb: what is kept, where a case has it
//	console   the shell of the base, which has no veneer command: the record in /run is read

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/vmtests/qemu"
)

// foreignInit is a build of the live variant, whose kernel and initramfs boot others' media.
func foreignInit(t *testing.T, name, more string) output {
	t.Helper()
	return outputOf(t, smallRecipe(t, "small-live"+name, "variant = \"live\"\n"+more))
}

// medium makes an ISO of these files; a file that ends in .squashfs, .sfs, .erofs or .img and has no content is the small base.
func medium(t *testing.T, label string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasPrefix(content, "/") {
			err = os.Link(content, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return iso9660(t, dir, label)
}

// squash makes a squashfs of an archive.
func squash(t *testing.T, tar string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "image.squashfs")
	must(t, "", "sh", "-c", "sqfstar -quiet -no-progress "+img+" < "+tar)
	return img
}

func TestMediaOfLiveBootBoot(t *testing.T) {
	t.Parallel()
	out := foreignInit(t, "", "allow-unsigned = true")
	iso := medium(t, "DEBIAN", map[string]string{"live/filesystem.squashfs": squash(t, smallTree(t, "amd64"))})
	g := start(t, out.vm(t, iso, "boot=live components quiet=0"))
	g.shell()
	if got := g.run("cat /run/veneer/state.json"); !contains(got, `"unverified"`) {
		t.Errorf("the record does not say unverified:\n%s", got)
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}
