package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/images/disk"
	"veneer/initramfs"
	"veneer/overlay/rule"
)

// Report is what came of a build.
type Report struct {
	Out       string           `json:"out"`
	Manifest  images.Manifest  `json:"manifest"`
	Signed    string           `json:"signed"` // ID of the key; empty for a build that nobody signed
	Files     []string         `json:"files"`  // in Out, beside the images
	Losses    []ImageLosses    `json:"losses"` // what was allowed
	Baked     []ImageBaked     `json:"baked"`  // what all machines would share
	Warnings  []string         `json:"warnings"`
	Notes     []string         `json:"notes"` // what was done beyond what was asked for
	Initramfs initramfs.Report `json:"initramfs"`
}

// ImageLosses are the losses of one image.
type ImageLosses struct {
	Image  string       `json:"image"`
	Losses []LossReport `json:"losses"`
}

// builder is a build in progress.
type builder struct {
	spec   Spec
	tools  map[string]string // name of a program -> its path
	signer *Signer
	efi    *disk.Signer // for Secure Boot; nil where nothing is signed
	keys   map[string][]byte
	before *images.Manifest
	stage  *stage
	jobs   []*imageJob // bottom first
	kernel *initramfs.Kernel
	rules  []rule.Rule
	report Report

	init, initArch string // of the merged root; empty where it is not known
}

// Build carries out a Spec:
//
//   - keys and programs are looked for first, so that nobody waits for a build that cannot end well
//   - sources are scanned, and what could not be kept of all of them is reported together
//   - images and initramfs are made side by side
//   - manifest, signature, store
//   - all of it appears in the output directory
//
// On error, or when ctx is done, the output directory is as it was before.
func Build(ctx context.Context, spec Spec) (report Report, err error) {
	b := &builder{spec: spec}
	if err := b.prepare(); err != nil {
		return Report{}, err
	}
	b.report.Out = spec.Out
	if b.before, b.report.Warnings, err = previousManifest(spec.Config.Previous, spec.Out); err != nil {
		return Report{}, err
	}
	if b.stage, err = newStage(spec.Out); err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.run(ctx); err != nil {
		spec.Progress.Stop()
		return Report{}, roomError(err, spec.Out, b.need())
	}
	return b.report, nil
}

func (b *builder) run(ctx context.Context) error {
	if err := b.scan(ctx); err != nil {
		return err
	}
	if err := b.openKernel(ctx); err != nil {
		return err
	}
	if err := b.addTools(); err != nil {
		return err
	}
	m, err := b.make(ctx)
	if err != nil {
		return err
	}
	names := []string{outKernel, outInitramfs}
	text, err := b.writeManifest(m)
	if err != nil {
		return err
	}
	made, err := b.writeOutputs(ctx, m, text)
	if err != nil {
		return err
	}
	names = append(names, made...)
	if b.signer != nil {
		names = append(names, images.SignatureName)
	}
	names = append(names, images.ManifestName)
	if err := ctx.Err(); err != nil {
		return err
	}
	b.report.Manifest, b.report.Files = m, names
	b.report.Warnings = append(b.report.Warnings, warnings(b.before, m)...)
	if at := time.Unix(m.Built, 0); at.After(time.Now().Add(24 * time.Hour)) {
		b.report.Warnings = append(b.report.Warnings, fmt.Sprintf("the newest file of the images is of %s, and no machine will take the time for earlier: touch it, or set SOURCE_DATE_EPOCH",
			at.UTC().Format(time.DateOnly)))
	}
	for _, j := range b.jobs {
		if len(j.losses) > 0 {
			b.report.Losses = append(b.report.Losses, ImageLosses{j.name, j.losses})
		}
		if len(j.baked) > 0 {
			b.report.Baked = append(b.report.Baked, ImageBaked{j.name, j.baked})
		}
	}
	return b.stage.publish(m, names)
}

// scan looks at all sources. What no image can keep of them is reported for all at once.
func (b *builder) scan(ctx context.Context) error {
	c := b.spec.Config
	b.jobs = []*imageJob{{role: images.RoleBase, name: baseName, fs: c.FileSystem, source: c.Source, allowed: c.allowed()}}
	for _, l := range c.Layers {
		allowed := append(c.allowed(), l.Allow...)
		b.jobs = append(b.jobs, &imageJob{role: images.RoleLayer, name: l.Name, fs: c.FileSystem, source: l.Source, allowed: allowed})
	}
	var errs []error
	for _, j := range b.jobs {
		errs = append(errs, j.scan(ctx, b.stage.dir), judgeBaked(j.source, j.baked, c.Identity))
	}
	rules, err := b.gatherRules()
	b.rules = rules
	return errors.Join(append(errs, b.checkInit(), err, b.stateFits())...)
}

// addTools puts the layer with the command at the bottom.
func (b *builder) addTools() error {
	if !b.spec.Config.Tools {
		b.warnNoIndexes()
		return nil
	}
	command, err := initramfs.Prebuilt(b.kernel.Arch, "veneer")
	if err != nil {
		return fmt.Errorf("the tools layer: %w (or set tools = false)", err)
	}
	fs := FileSystem{Type: Squashfs, blockSize: 128 << 10}
	j := &imageJob{role: images.RoleTools, name: toolsName, fs: fs, tree: toolsTree(command), allowed: usualLosses()}
	if err := b.addIndexes(j.tree); err != nil {
		return err
	}
	if err := j.scan(context.Background(), ""); err != nil {
		return err
	}
	j.losses = nil // of our own files nobody needs to know
	b.jobs = slices.Insert(b.jobs, 0, j)
	return nil
}

// make makes kernel and initramfs beside the images. The first to fail stops the other.
func (b *builder) make(ctx context.Context) (images.Manifest, error) {
	c := b.spec.Config
	m := images.Manifest{Format: images.Format, Name: c.Name, Version: c.Version, Epoch: c.Epoch, Architecture: b.kernel.Arch,
		Root:  images.Root{Upper: c.Root.Upper, Size: c.Root.Size, OnFail: c.Root.OnFail, BaseChange: c.Root.BaseChange},
		State: c.statePolicy(), Rules: b.rules, Corruption: c.Corruption,
		Built: b.newest().Unix(), Identity: c.identity()}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	beside := make(chan error, 1)
	go func() {
		err := b.makeBoot(ctx, &m)
		if err != nil {
			cancel(err)
		}
		beside <- err
	}()
	var err error
	for _, j := range b.jobs {
		var img images.Image
		j.fs.leastBlock = leastBlock(b.kernel.Arch)
		if img, err = j.make(ctx, b.tools, b.stage, b.spec.Epoch, b.spec.Progress); err != nil {
			cancel(err)
			break
		}
		m.Images = append(m.Images, img)
	}
	besideErr := <-beside
	if cause := context.Cause(ctx); cause != nil {
		return m, cause
	}
	if err := errors.Join(err, besideErr); err != nil {
		return m, err
	}
	m.Tools, err = b.versions(ctx)
	return m, err
}

// hashed stages a file that write writes, and tells what a manifest says of it.
func (s *stage) hashed(name string, write func(io.Writer) error) (images.File, error) {
	f, err := s.create(name)
	if err != nil {
		return images.File{}, err
	}
	sum := sha256.New()
	err = write(io.MultiWriter(f, sum))
	size, serr := f.Seek(0, io.SeekCurrent)
	if err = errors.Join(err, serr, closeSynced(f)); err != nil {
		return images.File{}, err
	}
	return images.File{Name: name, Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// versions lists the programs that shaped the images and the initramfs, this one among them.
func (b *builder) versions(ctx context.Context) ([]images.Tool, error) {
	tools := []images.Tool{{Name: "veneer", Version: boot.Version}}
	for _, name := range []string{"mkfs.erofs", "mksquashfs", initramfs.Compressor} {
		if b.tools[name] == "" {
			continue
		}
		found, err := toolVersions(ctx, b.tools[name])
		if err != nil {
			return nil, err
		}
		tools = append(tools, found...)
	}
	slices.SortFunc(tools, func(x, y images.Tool) int { return strings.Compare(x.Name, y.Name) })
	return tools, nil
}

// writeManifest stages the manifest and its signature.
func (b *builder) writeManifest(m images.Manifest) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	text := m.Encode()
	if len(text) > images.MaxManifest {
		return nil, fmt.Errorf("the manifest has %d bytes, more than %d", len(text), images.MaxManifest)
	}
	if err := b.stage.write(images.ManifestName, text); err != nil {
		return nil, err
	}
	if b.signer == nil {
		return text, nil
	}
	b.report.Signed = b.signer.Key().ID.String()
	signature, err := b.signer.Sign(text, fmt.Sprintf("veneer %s %s epoch %d", m.Name, m.Version, m.Epoch))
	if err != nil {
		return nil, err
	}
	return text, b.stage.write(images.SignatureName, signature)
}

// newest is the time of the newest file of all images.
func (b *builder) newest() time.Time {
	newest := time.Unix(0, 0)
	for _, j := range b.jobs {
		if t := j.tree.newest(b.spec.Epoch); t.After(newest) {
			newest = t
		}
	}
	return newest
}

// need guesses the room that the build takes in the output directory: half of the content, once as images and once in the
// store, and the whole of it where it has to be unpacked.
func (b *builder) need() int64 {
	var content, unpacked int64
	for _, j := range b.jobs {
		if j.tree == nil {
			continue
		}
		content += j.tree.Bytes
		if _, archive := j.tree.content.(tarSource); archive || j.fs.Type == Erofs {
			unpacked += j.tree.Bytes
		}
	}
	return content + unpacked + 64<<20
}

// close releases what the build holds, on success too.
func (b *builder) close() error {
	var errs []error
	if b.kernel != nil {
		errs = append(errs, b.kernel.Close())
	}
	for _, j := range b.jobs {
		if j.tree != nil {
			errs = append(errs, j.tree.Close())
		}
	}
	return errors.Join(append(errs, b.stage.Close())...)
}
