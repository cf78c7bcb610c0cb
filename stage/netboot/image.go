package netboot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"veneer/images"
	"veneer/images/copyin"
)

// Image fetches the rest of an image. What turns out wrong and was put together from several answers, or with what a disk held, is
// fetched anew, once; wrong bytes from one answer are refused.
func (c *Client) Image(ctx context.Context, dst *copyin.Copy) error {
	c.prepare()
	name := images.ImagePath(dst.Image().ID)
	err := c.image(ctx, name, dst)
	if errors.Is(err, errPieces) {
		c.Notice(fmt.Sprintf("%s: %v; fetching it anew", name, err))
		if err = dst.Restart(); err == nil {
			err = c.image(ctx, name, dst)
		}
	}
	if err != nil {
		return fmt.Errorf("%s%s: %w", c.Base, name, err)
	}
	return nil
}

// errPieces marks wrong content that more than one answer made up.
var errPieces = errors.New("pieces that do not fit together")

func (c *Client) image(ctx context.Context, name string, dst *copyin.Copy) error {
	img := dst.Image()
	answers := 0
	if dst.At() > 0 {
		answers++
		c.Notice(fmt.Sprintf("%s %q: %s are there already", img.Role, img.Name, copyin.MiB(dst.At())))
	}
	m := newMeter(dst.At(), img.Size, c.every)
	dst.Progress = func(at int64) {
		if line, due := m.at(at, time.Now()); due {
			c.Notice(fmt.Sprintf("%s %q: %s", img.Role, img.Name, line))
		}
	}
	err := c.retry(ctx, name, func(ctx context.Context) (bool, error) {
		before := dst.At()
		if before == img.Size {
			return false, dst.Finish()
		}
		body, err := c.open(ctx, name, before, img.Size)
		if err != nil {
			return false, err
		}
		defer body.Close()
		answers++
		err = dst.From(ctx, body)
		if dst.At() < img.Size && !errors.Is(err, copyin.ErrWrong) && ctx.Err() == nil {
			if broken := (temporary{}); !errors.As(err, &broken) && isCut(err) {
				err = temporary{fmt.Errorf("the server ended after %d of %d bytes", dst.At(), img.Size)}
			}
		}
		return dst.At() > before, err
	})
	if errors.Is(err, copyin.ErrWrong) && answers > 1 {
		err = fmt.Errorf("%w: %w", errPieces, err)
	}
	return err
}
