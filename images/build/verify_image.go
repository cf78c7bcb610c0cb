package build

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"

	"veneer/images"
	"veneer/images/verity"
)

// image checks each block of an image against its entry in the manifest.
func (v *verifier) image(ctx context.Context, prefix string, in place, want images.Image) {
	what := prefix + string(want.Role)
	if want.Name != string(want.Role) {
		what += " " + want.Name
	}
	v.add(what, fmt.Sprintf("%s, %s %s, %s", want.ID, want.FileSystem, FormatBytes(want.Size), count(want.Verity.DataBlocks, "block")), func() error {
		start := v.done
		defer func() { v.done = start + want.Verity.DataBlocks*verity.BlockSize }()
		f, size, err := openIn(in, images.ImagePath(want.ID))
		if err != nil {
			return err
		}
		defer f.Close()
		path := in.at(images.ImagePath(want.ID))
		if size != want.Size {
			return fmt.Errorf("%s has %s, the manifest says %d: the copy is incomplete, or not the one that was signed", path, count(size, "byte"), want.Size)
		}
		salt, err := hex.DecodeString(want.Verity.Salt)
		if err != nil {
			return err
		}
		root, err := hex.DecodeString(want.ID)
		if err != nil {
			return err
		}
		p := verity.Params{DataBlocks: want.Verity.DataBlocks, HashOffset: want.Verity.HashOffset, Salt: salt}
		if err := verity.Verify(ctx, f, p, [32]byte(root), v.progressFrom(start)); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return v.superblocks(f, size, want)
	}())
}

// superblocks compares what the image says of itself with the manifest. The init reads none of it, but people's tools do.
func (v *verifier) superblocks(f io.ReaderAt, size int64, want images.Image) error {
	got, err := ReadImage(f, size)
	if err != nil {
		return fmt.Errorf("each block is good, but its superblocks are not: %w", err)
	}
	t := got.Verity
	if got.FileSystem.Type != want.FileSystem || t.HashOffset != want.Verity.HashOffset || t.Salt != want.Verity.Salt || t.Behind != 0 {
		return fmt.Errorf("each block is good, but its superblocks say %s with hashes at byte %d and %s behind them, the manifest %s at byte %d",
			got.FileSystem.Type, t.HashOffset, count(t.Behind, "byte"), want.FileSystem, want.Verity.HashOffset)
	}
	return nil
}

func (v *verifier) imageAlone(ctx context.Context, path string) error {
	f, size, err := openRegular(path)
	if err != nil {
		return err
	}
	defer f.Close()
	v.KeysFrom = "not needed"
	name := filepath.Base(path)
	img, err := ReadImage(f, size)
	if err == nil {
		err = img.Verity.CheckID(name)
	}
	if err == nil {
		v.total = img.Verity.params.DataBlocks * verity.BlockSize
		err = verity.Verify(ctx, f, img.Verity.params, img.Verity.root, v.progressFrom(0))
	}
	v.add("image", fmt.Sprintf("%s, %s %s, %s", img.Verity.ID, img.FileSystem.Type, FormatBytes(size), count(img.Verity.DataBlocks, "block")), err)
	if images.CheckID(trimImage(name)) != nil {
		v.note("the file is not named for its ID: this shows that it is undamaged, not which image it is; compare the ID with a signed manifest")
	}
	return nil
}
