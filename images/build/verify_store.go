package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"veneer/images"
	"veneer/images/verity"
)

// errNoKeys is the error of a store that was to be checked without a key.
var errNoKeys = errors.New("a store holds no keys: name the public keys to trust with --key")

// store checks what a store holds: every deployment, and the default among them.
func (v *verifier) store(ctx context.Context, in place) error {
	if v.spec.Keys == nil {
		return errNoKeys
	}
	v.Keys, v.KeysFrom = v.spec.Keys, "given"
	if err := v.deployments(ctx, in); err != nil || !isServed(v.spec.Path) {
		return err
	}
	man, err := manifestIn(in)
	if err != nil {
		return nil // it was reported as one of the deployments
	}
	v.Notes = v.Notes[:len(v.Notes)-1] // that kernel and initramfs lie elsewhere: here they do not
	v.served(ctx, "", v.spec.Path, man)
	return nil
}

func (v *verifier) deployments(ctx context.Context, in place) error {
	serials, junk, err := images.Deployments(in)
	if err != nil {
		return err
	}
	def, err := images.Default(in)
	if err == nil && !slices.Contains(serials, def) {
		err = fmt.Errorf("it names deployment %s, which is not in the store", def)
	}
	v.add("default", "deployment "+def, err)
	if len(serials) == 0 {
		v.add("deployments", "", errors.New("the store holds none"))
	}
	for _, name := range junk {
		v.note("deployments/" + printable(name) + " is not a deployment; the init ignores it")
	}
	seen := map[images.Image]bool{}
	for _, serial := range serials {
		v.deployment(ctx, in, serial, seen)
	}
	v.unused(in, seen)
	v.note("kernel and initramfs are not in the store; check them in the build output")
	return nil
}

// deployment checks one deployment, and each of its images that was not seen with the very same parameters before.
func (v *verifier) deployment(ctx context.Context, in place, serial string, seen map[images.Image]bool) {
	prefix := "deployment " + serial + ": "
	man, err := v.manifest(prefix, in, path.Join(images.DeploymentPath(serial), images.ManifestName))
	if err != nil {
		return
	}
	fresh := slices.DeleteFunc(man.Images, func(img images.Image) bool {
		img.Name, img.Role = "", ""
		old := seen[img]
		seen[img] = true
		return old
	})
	for _, img := range fresh {
		v.total += img.Verity.DataBlocks * verity.BlockSize
	}
	for _, img := range fresh {
		v.image(ctx, prefix, in, img)
	}
}

// unused counts the files among the images that no deployment names.
func (v *verifier) unused(in place, seen map[images.Image]bool) {
	f, err := in.Open(path.Dir(images.ImagePath("x")))
	if err != nil {
		return // images that are missing were reported where they are named
	}
	defer f.Close()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return
	}
	named := map[string]bool{}
	for img := range seen {
		named[img.ID] = true
	}
	const most = 4096
	list, _ := d.ReadDir(most) // what cannot be listed is in no deployment's way
	var idle int64
	for _, f := range list {
		if !named[trimImage(f.Name())] {
			idle++
		}
	}
	if idle > 0 {
		v.note(fmt.Sprintf("%s in images/ that no deployment names", count(idle, "file")))
	}
}

// isStore reports whether dir looks like a store.
func isStore(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, filepath.Dir(images.DeploymentPath("1"))))
	return err == nil && info.IsDir()
}

func trimImage(name string) string { return strings.TrimSuffix(name, ".img") }
