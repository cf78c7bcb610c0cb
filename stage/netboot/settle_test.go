package netboot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/images/copyin"
	"veneer/images/verity/veritytest"
	"veneer/stage"
	"veneer/stage/paper"
)

// newSet is a set of two images, and a server that has them.
func newSet(t *testing.T) (*stage.Set, map[string][]byte) {
	t.Helper()
	one, _, first := veritytest.Image(t, 300)
	two, _, second := veritytest.Image(t, 301)
	set := &stage.Set{Serial: "7", Dir: filepath.Join(t.TempDir(), "veneer"), Manifest: images.Manifest{Images: []images.Image{one, two}}}
	return set, map[string][]byte{"/" + images.ImagePath(one.ID): first, "/" + images.ImagePath(two.ID): second}
}

func files(content map[string][]byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, ok := content[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		whole(b)(w, r)
	}
}

// variant is one whose manifest was checked.
func newVariant(t *testing.T, s *server) *Variant {
	t.Helper()
	c, _ := client(t, s)
	return &Variant{client: c, text: []byte("the manifest"), sig: []byte("its signature")}
}

var env = &stage.Env{Settings: stage.Settings{Config: boot.Config{Wait: time.Second}}}

func TestADeploymentIsInTheStoreWhenItsImagesAre(t *testing.T) {
	set, content := newSet(t)
	second := "/" + images.ImagePath(set.Manifest.Images[1].ID)
	kept := content[second]
	content[second] = kept[:len(kept)-4096] // the server has a part of it only
	s := serve(t, files(content))
	v := newVariant(t, s)
	if err := os.MkdirAll(set.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(set.Dir, "default"), []byte("6\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := v.fetch(t.Context(), &stage.Runner{}, env, set, missingImages(set), true); !errors.Is(err, ErrRefused) {
		t.Fatalf("fetch() = %v, want the second image refused for its size", err)
	}
	store := os.DirFS(set.Dir)
	if def, err := images.Default(store); err != nil || def != "6" {
		t.Errorf("the default is %q, %v after half a set; want the former one", def, err)
	}
	if serials, _, err := images.Deployments(store); err != nil || len(serials) > 0 {
		t.Errorf("deployments %q, %v after half a set", serials, err)
	}
	if missing := missingImages(set); len(missing) != 1 || missing[0].ID != set.Manifest.Images[1].ID {
		t.Errorf("missing are %d images, want the second one", len(missing))
	}
	content[second] = kept
	before := len(s.ranges)
	if err := v.fetch(t.Context(), &stage.Runner{}, env, set, missingImages(set), true); err != nil {
		t.Fatal(err)
	}
	if asked := len(s.ranges) - before; asked != 1 {
		t.Errorf("%d requests for one missing image", asked)
	}
	text, sig, err := images.ReadDeployment(store, "7")
	if err != nil || string(text) != "the manifest" || string(sig) != "its signature" {
		t.Errorf("the deployment is %q, %q, %v", text, sig, err)
	}
	if def, err := images.Default(store); err != nil || def != "7" {
		t.Errorf("the default is %q, %v", def, err)
	}
	for name, want := range content {
		if got, err := os.ReadFile(filepath.Join(set.Dir, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestWhatArrivedBeforeACutIsNotFetchedAgain(t *testing.T) {
	set, content := newSet(t)
	img, _, bytes := veritytest.Image(t, 4000)
	set.Manifest.Images[0], content["/"+images.ImagePath(img.ID)] = img, bytes
	half := len(bytes) / 2
	s := serve(t, stallAt(half, files(content)), files(content))
	v := newVariant(t, s)
	v.client.stall = time.Hour
	v.client.prepare()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := v.fetch(ctx, &stage.Runner{}, env, set, missingImages(set), true); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("fetch() = %v", err)
	}
	if err := v.fetch(t.Context(), &stage.Runner{}, env, set, missingImages(set), true); err != nil {
		t.Fatal(err)
	}
	// What lies behind the last sync that is certain, 4 MiB and a piece of 1 MiB, may be holes after a cut.
	if want := fmt.Sprintf("bytes=%d-", half-5<<20); len(s.ranges) != 3 || s.ranges[1] != want {
		t.Errorf("asked for %q, want %q of the first image", s.ranges, want)
	}
}

func TestAnOldSetMakesRoomForTheNewAndTheDefaultStays(t *testing.T) {
	set, _ := newSet(t)
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(set.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	id := func(c string) string { return strings.Repeat(c, 64) }
	deploy := func(serial, id string) {
		t.Helper()
		m := images.Manifest{Format: images.Format, Name: "kiosk", Version: serial, Architecture: "amd64", Images: []images.Image{{Role: images.RoleBase, Name: "base", ID: id, Size: 3 << 12,
			FileSystem: "squashfs", Verity: images.Verity{Algorithm: "sha256", BlockSize: 4096, DataBlocks: 1, HashOffset: 4096}}}}
		write(filepath.Join(images.DeploymentPath(serial), images.ManifestName), string(m.Encode()))
		write(filepath.Join(images.DeploymentPath(serial), images.SignatureName), "x")
		write(images.ImagePath(id), "image")
	}
	deploy("5", id("5"))
	deploy("6", id("6"))
	write("default", "6\n")
	write("images/.new-"+id("9")+".img", "half an image of a set that nobody wants any more")
	write(images.ImagePath(set.Manifest.Images[0].ID), "of the new set")
	write("images/README", "somebody's")
	if err := sweep(&stage.Runner{}, set); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{images.DeploymentPath("5"): false, images.ImagePath(id("5")): false, "images/.new-" + id("9") + ".img": false, images.DeploymentPath("6"): true,
		images.ImagePath(id("6")): true, images.ImagePath(set.Manifest.Images[0].ID): true, "images/README": true, "default": true} {
		if _, err := os.Stat(filepath.Join(set.Dir, name)); (err == nil) != stays {
			t.Errorf("%s is there: %v, want %v", name, err == nil, stays)
		}
	}
	huge := set.Manifest.Images[1]
	huge.Size = 1 << 60
	if err := makeRoom(&stage.Runner{}, set, []images.Image{huge}); !errors.Is(err, copyin.ErrNoRoom) {
		t.Errorf("makeRoom() = %v for an image that no disk holds", err)
	}
}

// next is what else the init can do: nothing.
type next struct{ stage.Variant }

func (next) Find(_, _ context.Context, _ *stage.Runner, _ stage.Machine, _ *stage.Env) (*stage.Set, error) {
	return nil, nil
}

func (next) Settle(context.Context, *stage.Runner, stage.Machine, *stage.Env, *stage.Set) error {
	return nil
}

func plannedBoot(t *testing.T, cmdline string) (steps, said []string, err error) {
	t.Helper()
	s, err := stage.Configure("veneer.store=LABEL=VENEER", cmdline, nil)
	if err != nil {
		t.Fatal(err)
	}
	img := images.Image{Role: images.RoleBase, Name: "base", ID: strings.Repeat("b", 64), Size: 3 << 12, FileSystem: "squashfs",
		Verity: images.Verity{Algorithm: "sha256", BlockSize: 4096, DataBlocks: 1, HashOffset: 4096}}
	man := images.Manifest{Format: images.Format, Name: "kiosk", Version: "7", Architecture: "amd64", Root: images.Root{Upper: "tmpfs", Size: "50%"}, Images: []images.Image{img}}
	r := &stage.Runner{Details: true, Log: func(_ stage.Level, line string) { said = append(said, line) }, Before: func(step string) error { steps = append(steps, step); return nil }}
	m := &paper.Machine{Manifest: man.Encode(), Serial: "1", Say: func(line string) { said = append(said, line) }}
	_, err = stage.Boot(t.Context(), r, m, stage.Env{Settings: s, Paper: true, RAM: 1 << 30, Variant: &Variant{Next: next{}}})
	return steps, said, err
}

func TestAPlanShowsTheNetworkAndWhatWouldBeFetched(t *testing.T) {
	steps, said, err := plannedBoot(t, "veneer.url=http://boot/kiosk ip=eth0:dhcp")
	text := strings.Join(said, "\n")
	if err != nil || !strings.Contains(strings.Join(steps, " "), "load drivers bring up network choose deployment check manifest copy images attach images") ||
		!strings.Contains(text, "set up eth0 by dhcp; fetch from http://boot/kiosk/") || !strings.Contains(text, "fetch http://boot/kiosk/images/bbb") {
		t.Errorf("%v\n%q\n%s", err, steps, text)
	}
	if steps, _, err = plannedBoot(t, "veneer.url=http://boot/ veneer.cache=LABEL=C"); err != nil || !strings.Contains(strings.Join(steps, " "), "bring up network find store mount store choose deployment check manifest copy images") {
		t.Errorf("with a cache: %v, %q", err, steps)
	}
	if steps, _, err = plannedBoot(t, "ip=dhcp"); err != nil || strings.Contains(strings.Join(steps, " "), "network") {
		t.Errorf("without veneer.url=: %v, %q", err, steps)
	}
	if _, _, err = plannedBoot(t, "veneer.url=ftp://boot/ ip=rarp"); err == nil || !strings.Contains(err.Error(), "want http://") || !strings.Contains(err.Error(), "RARP") {
		t.Errorf("two mistakes: %v, want both", err)
	}
}
