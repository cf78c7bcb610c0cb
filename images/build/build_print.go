package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// WriteText writes the report for people.
func (r Report) WriteText(w io.Writer) error {
	p := printer{w: w}
	m := r.Manifest
	p.line("built", "%s %s (epoch %d, %s) in %s", m.Name, m.Version, m.Epoch, m.Architecture, r.Out)
	for _, img := range m.Images {
		p.line("image", "%s %s, %s, %s", img.Name, img.ID, img.FileSystem, FormatBytes(img.Size))
	}
	p.line("kernel", "%s, %s", m.Kernel.Release, FormatBytes(m.Kernel.Size))
	p.line("initramfs", "%s, %s", FormatBytes(m.Initramfs.Size), count(int64(len(r.Initramfs.Modules)), "module"))
	if r.Signed == "" {
		p.line("signed", "by nobody")
	} else {
		p.line("signed", "with key %s", r.Signed)
	}
	for _, l := range r.Losses {
		for _, loss := range l.Losses {
			p.line("allowed", "%s in %s, %s, first %s: %s", loss.Loss, l.Image, count(int64(loss.Count), "time"), loss.First[0], loss.Kept)
		}
	}
	for _, text := range r.Notes {
		p.line("note", "%s", text)
	}
	for _, text := range r.Warnings {
		p.line("warning", "%s", text)
	}
	return p.err
}

// printer writes lines of a name and a text.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(name, format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
}

// Plan is what a build would do.
type Plan struct {
	Out     string      `json:"out"`
	Images  []ImagePlan `json:"images"` // bottom first
	Kernel  string      `json:"kernel"` // where it comes from
	Outputs []string    `json:"outputs"`

	Warnings []string `json:"warnings"`
}

// ImagePlan is what would be done to make an image.
type ImagePlan struct {
	Name    string       `json:"name"`
	Source  string       `json:"source"`
	Files   int          `json:"files"` // names in it
	Bytes   int64        `json:"bytes"` // of content
	Command []string     `json:"command"`
	Losses  []LossReport `json:"losses"`
}

// DryRun looks for keys and programs and scans the sources as Build does, and fails where Build would. It writes nothing but a
// temporary copy of an archive that is compressed.
func DryRun(ctx context.Context, spec Spec) (plan Plan, err error) {
	spec.Config.Keys.Secret = "" // nobody should have to type a passphrase for this
	spec.Config.AllowUnsigned = true
	b := &builder{spec: spec}
	if err := b.prepare(); err != nil {
		return Plan{}, err
	}
	_, warnings, err := previousManifest(spec.Config.Previous, spec.Out)
	if err != nil {
		return Plan{}, err
	}
	dir, err := os.MkdirTemp("", "veneer-")
	if err != nil {
		return Plan{}, err
	}
	b.stage = &stage{dir: dir}
	defer func() {
		for _, j := range b.jobs {
			if j.tree != nil {
				err = errors.Join(err, j.tree.Close())
			}
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := b.scan(ctx); err != nil {
		return Plan{}, err
	}
	plan = Plan{Out: spec.Out, Kernel: spec.Config.Kernel.From, Outputs: spec.Config.Outputs, Warnings: warnings}
	for _, j := range b.jobs {
		to := filepath.Join(spec.Out, j.name)
		j.fs.leastBlock = leastBlock(b.initArch)
		argv := squashfsArgs(b.tools["mksquashfs"], to, j.fs, j.tree)
		if j.fs.Type == Erofs {
			argv = erofsArgs(b.tools["mkfs.erofs"], to, j.fs, j.tree.Source)
		}
		plan.Images = append(plan.Images, ImagePlan{j.name, j.source, len(j.tree.Entries), j.tree.Bytes, argv, j.losses})
	}
	return plan, nil
}

// WriteText writes the plan for people.
func (pl Plan) WriteText(w io.Writer) error {
	p := printer{w: w}
	p.line("output", "%s: images, kernel, initramfs, manifest %s", pl.Out, strings.Join(pl.Outputs, " "))
	p.line("kernel", "from %s", pl.Kernel)
	for _, img := range pl.Images {
		p.line("image", "%s from %s: %s, %s", img.Name, img.Source, count(int64(img.Files), "name"), FormatBytes(img.Bytes))
		p.line("", "%s", strings.Join(img.Command, " "))
		for _, loss := range img.Losses {
			p.line("allowed", "%s in %s, %s, first %s: %s", loss.Loss, img.Name, count(int64(loss.Count), "time"), loss.First[0], loss.Kept)
		}
	}
	for _, text := range pl.Warnings {
		p.line("warning", "%s", text)
	}
	return p.err
}
