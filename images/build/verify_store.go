package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"veneer/images"
	"veneer/images/verity"
)

// store checks what a store at dir holds: every deployment, and the default among them.
func (v *verifier) store(ctx context.Context, dir string) error {
	if v.spec.Keys == nil {
		return errors.New("a store holds no keys: name the public keys to trust with --key")
	}
	v.Keys, v.KeysFrom = v.spec.Keys, "given"
	files := os.DirFS(dir)
	serials, junk, err := images.Deployments(files)
	if err != nil {
		return err
	}
	def, err := images.Default(files)
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
		v.deployment(ctx, dir, serial, seen)
	}
	v.unused(dir, seen)
	v.note("kernel and initramfs are not in the store; check them in the build output")
	return nil
}

// deployment checks one deployment, and each of its images that was not seen with the very same parameters before.
func (v *verifier) deployment(ctx context.Context, dir, serial string, seen map[images.Image]bool) {
	prefix := "deployment " + serial + ": "
	man, err := v.manifest(prefix, filepath.Join(dir, images.DeploymentPath(serial)), images.ManifestName)
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
		v.image(ctx, prefix, filepath.Join(dir, images.ImagePath(img.ID)), img)
	}
}

// unused counts the files among the images that no deployment names.
func (v *verifier) unused(dir string, seen map[images.Image]bool) {
	d, err := os.Open(filepath.Join(dir, filepath.Dir(images.ImagePath("x"))))
	if err != nil {
		return // images that are missing were reported where they are named
	}
	defer d.Close()
	named := map[string]bool{}
	for img := range seen {
		named[img.ID] = true
	}
	const most = 4096
	names, _ := d.Readdirnames(most) // what cannot be listed is in no deployment's way
	var idle int64
	for _, name := range names {
		if !named[trimImage(name)] {
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

// storeRemedy tells how to look into a file system image.
func storeRemedy(path string) string {
	return fmt.Sprintf("unpack it with debugfs -R 'rdump /%s DIR' %s, then run veneer verify --key KEY DIR/%s", storeDir, path, storeDir)
}
