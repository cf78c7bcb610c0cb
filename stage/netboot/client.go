package netboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Client fetches from one store.
type Client struct {
	Base     string                                                               // http://HOST/PATH/
	Patience time.Duration                                                        // it goes on for so long without a byte that it has not had
	Notice   func(string)                                                         // for everyone: what had to be tried again, how far it is; may be nil
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // nil: the system's

	// Tests are less patient.
	stall, firstPause, mostPause, every time.Duration

	client *http.Client
}

// How long to wait for what.
const (
	defaultStall      = 10 * time.Second       // without a byte: the connection is given up, and a new one made
	defaultFirstPause = 250 * time.Millisecond // before the second try; doubled each time nothing came of one
	defaultMostPause  = 5 * time.Second
	defaultEvery      = 5 * time.Second // a line of progress
)

// Limits of what a server may send beside content.
const (
	maxHeader    = 64 << 10
	maxRedirects = 5
)

// errStalled is why a connection was given up.
var errStalled = errors.New("no byte came for a while")

// ErrRefused is an answer that will not get better: a file that is not there, a redirect that is not followed.
var ErrRefused = errors.New("the server cannot be of use")

// temporary is a failure that another try may not meet.
type temporary struct{ error }

func (t temporary) Unwrap() error { return t.error }

func (c *Client) prepare() {
	if c.client != nil {
		return
	}
	for _, d := range []struct {
		field     *time.Duration
		otherwise time.Duration
	}{{&c.stall, defaultStall}, {&c.firstPause, defaultFirstPause}, {&c.mostPause, defaultMostPause}, {&c.every, defaultEvery}, {&c.Patience, time.Minute}} {
		if *d.field == 0 {
			*d.field = d.otherwise
		}
	}
	if c.Notice == nil {
		c.Notice = func(string) {}
	}
	c.client = &http.Client{
		// No proxy, no compression (the size is signed), no HTTP/2, one connection.
		Transport: &http.Transport{DialContext: c.Dial, DisableCompression: true, MaxResponseHeaderBytes: maxHeader, MaxConnsPerHost: 1},
		CheckRedirect: func(to *http.Request, via []*http.Request) error {
			switch {
			case len(via) > maxRedirects:
				return fmt.Errorf("%w: redirected more than %d times, last to %s", ErrRefused, maxRedirects, to.URL)
			case to.URL.Scheme != "http" || to.URL.User != nil:
				return fmt.Errorf("%w: redirected to %s, and only http:// is followed", ErrRefused, to.URL.Redacted())
			}
			return nil
		},
	}
}

// Close lets go of connections.
func (c *Client) Close() {
	if c.client != nil {
		c.client.CloseIdleConnections()
	}
}

// Small fetches a file of at most limit bytes.
func (c *Client) Small(ctx context.Context, name string, limit int64) (content []byte, err error) {
	c.prepare()
	err = c.retry(ctx, name, func(ctx context.Context) (bool, error) {
		body, err := c.open(ctx, name, 0, -1)
		if err != nil {
			return false, err
		}
		defer body.Close()
		content, err = io.ReadAll(io.LimitReader(body, limit+1))
		if err == nil && int64(len(content)) > limit {
			err = fmt.Errorf("larger than %d bytes", limit)
		}
		return false, err
	})
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", c.Base, name, err)
	}
	return content, nil
}

// retry tries until it works, cannot work, or has not got on for c.Patience. try reports whether it got anything new.
func (c *Client) retry(ctx context.Context, name string, try func(context.Context) (progress bool, err error)) error {
	last, pause := time.Now(), c.firstPause
	for {
		progress, err := c.guarded(ctx, try)
		var again temporary
		if err == nil || !errors.As(err, &again) {
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if progress {
			last, pause = time.Now(), c.firstPause
		}
		if time.Since(last)+pause > c.Patience {
			return fmt.Errorf("%w; nothing new came for %s (veneer.wait=)", err, c.Patience)
		}
		c.Notice(fmt.Sprintf("%s: %v; trying again in %s", name, err, pause))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, ctx.Err())
		case <-timer.C:
		}
		pause = min(2*pause, c.mostPause)
	}
}

// guarded runs one try, with a guard that gives it up when no byte comes.
func (c *Client) guarded(ctx context.Context, try func(context.Context) (bool, error)) (bool, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	guard := time.AfterFunc(c.stall, func() { cancel(errStalled) })
	defer guard.Stop()
	progress, err := try(context.WithValue(ctx, guardKey{}, guard))
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errStalled) {
		err = temporary{fmt.Errorf("%w (%s)", errStalled, c.stall)}
	}
	return progress, err
}

type guardKey struct{}

// body is what a server sends, watched.
type body struct {
	io.ReadCloser
	guard *time.Timer
	stall time.Duration
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.guard.Reset(b.stall)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = temporary{err}
	}
	return n, err
}

// open asks for a file from a byte on, and returns its content from there. size is what the whole of it must have; -1 if nobody knows.
func (c *Client) open(ctx context.Context, name string, from, size int64) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Base+name, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "veneer")
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	resp, err := c.client.Do(req)
	if err != nil {
		if errors.Is(err, ErrRefused) {
			return nil, err
		}
		return nil, temporary{err}
	}
	b := &body{resp.Body, ctx.Value(guardKey{}).(*time.Timer), c.stall}
	b.guard.Reset(c.stall)
	rest, err := c.check(resp, from, size)
	if err == nil && rest == from {
		return b, nil
	}
	if err == nil {
		// The server does not do ranges: what is there already goes by once more.
		_, err = io.CopyN(io.Discard, b, from)
		if errors.Is(err, io.EOF) {
			err = temporary{io.ErrUnexpectedEOF}
		}
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// check judges an answer, and returns the byte that its body begins with.
func (c *Client) check(resp *http.Response, from, size int64) (begins int64, err error) {
	length := resp.ContentLength
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		if size >= 0 && length >= 0 && length != size {
			return 0, fmt.Errorf("%w: it has %d bytes, and the signed manifest says %d", ErrRefused, length, size)
		}
		return 0, nil
	case code == http.StatusPartialContent && from > 0:
		var first, last, all int64
		said := resp.Header.Get("Content-Range")
		if n, err := fmt.Sscanf(said, "bytes %d-%d/%d", &first, &last, &all); err != nil || n != 3 || first != from || last != size-1 || all != size {
			return 0, fmt.Errorf("%w: asked for bytes %d-%d/%d, it sends %q", ErrRefused, from, size-1, size, said)
		}
		return from, nil
	case code >= 500 || code == http.StatusRequestTimeout || code == http.StatusTooManyRequests:
		return 0, temporary{fmt.Errorf("the server answers %s", resp.Status)}
	default:
		return 0, fmt.Errorf("%w: it answers %s", ErrRefused, resp.Status)
	}
}
