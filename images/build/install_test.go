package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"veneer/images"
)

// good reports what is wrong with the deployment that a store boots.
func (o output) bootable(t *testing.T, store string) (version string, err error) {
	t.Helper()
	at := os.DirFS(store)
	serial, err := images.Default(at)
	if err != nil {
		return "", err
	}
	text, _, err := images.ReadDeployment(at, serial)
	if err != nil {
		return "", err
	}
	man, err := images.ParseManifest(text)
	if err != nil {
		return "", err
	}
	found, err := Verify(t.Context(), VerifySpec{Path: store, Keys: []Key{o.key}})
	if err != nil {
		return man.Version, err
	}
	return man.Version, found.Err()
}

// next is another release of the same output, with one image of two exchanged.
func (o output) next(t *testing.T) output {
	t.Helper()
	n := o
	n.dir = t.TempDir()
	if err := os.CopyFS(n.dir, os.DirFS(o.dir)); err != nil {
		t.Fatal(err)
	}
	n.man.Version = "2.0"
	n.man.Images = append([]images.Image(nil), o.man.Images...)
	if err := os.Remove(n.image(0)); err != nil {
		t.Fatal(err)
	}
	img := n.newImage(t, "another")
	img.Role, img.Name = images.RoleTools, "tools"
	n.man.Images[0] = img
	n.sign(t)
	return n
}

func TestAnInstallationThatIsCutOffBootsTheOldOrTheNew(t *testing.T) {
	old := newOutput(t)
	fresh := old.next(t)
	cuts, booted := 0, map[string]int{}
	for k := 1; ; k++ {
		dir := t.TempDir()
		if _, err := Install(context.Background(), InstallSpec{Output: old.dir, Store: dir, Default: true}); err != nil {
			t.Fatal(err)
		}
		store := filepath.Join(dir, "veneer")
		n, cut := 0, errors.New("power cut")
		spec := InstallSpec{Output: fresh.dir, Store: dir, Default: true, stop: func(string) error {
			if n++; n == k {
				return cut
			}
			return nil
		}}
		r, err := Install(context.Background(), spec)
		if err == nil {
			if v, err := old.bootable(t, store); v != "2.0" || err != nil || r.Serial != "2" || len(r.Copied) != 1 {
				t.Errorf("an undisturbed installation (%+v) boots %q, %v", r, v, err)
			}
			break
		}
		if !errors.Is(err, cut) {
			t.Fatal(err)
		}
		cuts++
		v, err := old.bootable(t, store)
		if v != "1.0" && v != "2.0" || err != nil {
			t.Errorf("cut off before change %d, the store boots %q, %v", k, v, err)
		}
		booted[v]++
		spec.stop = nil
		if r, err := Install(context.Background(), spec); err != nil || r.Serial != "2" {
			t.Errorf("cut off before change %d, the second installation: %+v, %v", k, r, err)
		}
		if v, err := old.bootable(t, store); v != "2.0" || err != nil {
			t.Errorf("cut off before change %d and installed again, the store boots %q, %v", k, v, err)
		}
	}
	t.Logf("%d cuts: %v", cuts, booted)
	if cuts < 10 {
		t.Errorf("only %d cuts were tried", cuts)
	}
}

func TestTheSameSetIsInstalledOnce(t *testing.T) {
	o := newOutput(t)
	dir := t.TempDir()
	for i := range 2 {
		r, err := Install(context.Background(), InstallSpec{Output: o.dir, Store: dir, Default: true})
		if err != nil || r.Serial != "1" || r.Known != (i == 1) || (len(r.Copied) == 0) != (i == 1) {
			t.Errorf("installation %d: %+v, %v", i+1, r, err)
		}
	}
}

func TestWhatIsNotGoodIsNotInstalled(t *testing.T) {
	for name, c := range map[string]struct {
		bend func(o output) error
		want string
	}{
		"a flipped byte":      {func(o output) error { return flip(o.image(1), 5000) }, "does not match its hash"},
		"no manifest":         {func(o output) error { return os.Remove(filepath.Join(o.dir, images.ManifestName)) }, "manifest"},
		"another's signature": {func(o output) error { return flip(filepath.Join(o.dir, images.SignatureName), 80) }, "signature"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutput(t)
			if err := c.bend(o); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			_, err := Install(context.Background(), InstallSpec{Output: o.dir, Store: dir, Default: true})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Install() = %v, want a refusal with %q", err, c.want)
			}
			if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
				t.Errorf("the store holds %v, %v, and should be untouched", names, err)
			}
		})
	}
}

func flip(name string, offset int) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text[offset] ^= 1
	return os.WriteFile(name, text, 0o644)
}
