package vmtests

// Stacks of layers over the base.
//
//	machine   q35, 512 MiB
//	disks     vda: the store of a build with that many layers, write-protected
//	console   the shell of the base, which sees for each path the file of the highest layer that has it

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"veneer/stage"
	"veneer/vmtests/qemu"
)

func TestLayersLieInTheOrderOfTheManifest(t *testing.T) {
	t.Parallel()
	for _, count := range []int{1, 8, 64} {
		t.Run(fmt.Sprintf("%d layers", count), func(t *testing.T) {
			t.Parallel()
			out := outputOf(t, layered(t, count))
			g := start(t, out.vm(t, out.disk()))
			g.shell()
			if got, want := g.run("cat /etc/top"), fmt.Sprintf("layer %d\n", count); got != want {
				t.Errorf("/etc/top says %q, want that of the highest layer, %q", got, want)
			}
			// Every layer has a file that the next one covers, and one of its own.
			for _, n := range []int{1, (count + 1) / 2, count} {
				want := fmt.Sprintf("layer %d\n", min(n+1, count))
				if got := g.run(fmt.Sprintf("cat /etc/pair-%d", n)); got != want {
					t.Errorf("/etc/pair-%d says %q, want %q", n, got, want)
				}
				if got, want := g.run(fmt.Sprintf("cat '/srv/own, of: %d'", n)), fmt.Sprintf("layer %d\n", n); got != want {
					t.Errorf("the file of layer %d says %q, want %q", n, got, want)
				}
			}
			g.run("cat /etc/os-release") // the base shows through
			var rec stage.Record
			if err := json.Unmarshal([]byte(g.run("cat /run/veneer/state.json")), &rec); err != nil {
				t.Fatal(err)
			}
			if got, want := len(rec.Images), count+2; got != want { // tools and base below them
				t.Errorf("the record has %d images, want %d", got, want)
			}
			each := func(step string) time.Duration {
				for _, s := range rec.Steps {
					if s.Name == step {
						return (s.Took.Duration() / time.Duration(len(rec.Images))).Round(10 * time.Microsecond)
					}
				}
				t.Errorf("the record has no step %q", step)
				return 0
			}
			t.Logf("%d layers, tools and base: for each image %v to attach, %v to mount, %v to stack", count,
				each(stage.StepAttach), each(stage.StepMountImages), each(stage.StepStackRoot))
			g.leave("poweroff", "poweroff", qemu.PoweredOff)
		})
	}
}

// layered is the small base under layers that cover each other.
func layered(t *testing.T, count int) recipe {
	t.Helper()
	r := smallRecipe(t, fmt.Sprintf("small-%d-layers", count), "")
	var list strings.Builder
	for n := 1; n <= count; n++ {
		text := fmt.Sprintf("layer %d\n", n)
		name := fmt.Sprintf("layer-%d.tar", n)
		files := []file{{"etc/top", text}, {fmt.Sprintf("etc/pair-%d", n), text}, {fmt.Sprintf("srv/own, of: %d", n), text}}
		if n > 1 {
			files = append(files, file{fmt.Sprintf("etc/pair-%d", n-1), text})
		}
		r.files[name] = archive(t, fmt.Sprintf("layer-%d", n), files...)
		fmt.Fprintf(&list, "[[layers]]\nname = \"layer, %d: of %d\"\nsource = %q\n", n, count, name)
	}
	r.toml += list.String()
	return r
}
