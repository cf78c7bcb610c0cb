package netboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"veneer/images"
	"veneer/images/copyin"
	"veneer/images/verity/veritytest"
)

// newCopy is a copy into a file that holds something already.
func newCopy(t *testing.T, img images.Image, holds []byte) (*copyin.Copy, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(name, holds, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	c, err := copyin.New(f, img)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, name
}

// server counts requests and answers each with the handler of its number, the last one for all that follow.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	ranges []string
}

func serve(t *testing.T, handlers ...http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		n := len(s.ranges)
		s.ranges = append(s.ranges, r.Header.Get("Range"))
		s.mu.Unlock()
		handlers[min(n, len(handlers)-1)](w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// client is one without much patience, and what it said.
func client(t *testing.T, s *server) (*Client, func() string) {
	t.Helper()
	var mu sync.Mutex
	var said strings.Builder
	c := &Client{Base: s.URL + "/", Patience: 2 * time.Second, stall: 300 * time.Millisecond, firstPause: time.Millisecond, mostPause: 20 * time.Millisecond, every: time.Nanosecond,
		Notice: func(line string) { mu.Lock(); defer mu.Unlock(); fmt.Fprintln(&said, line) }}
	t.Cleanup(c.Close)
	return c, func() string { mu.Lock(); defer mu.Unlock(); return said.String() }
}

// whole serves a file as a server does that knows ranges.
func whole(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

// noRanges serves a file from its beginning, whatever is asked.
func noRanges(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content) // a client that went is none of ours
	}
}

// cutAt sends the first n bytes of what h would, and breaks off.
func cutAt(n int, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		h(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:n])
		if err := http.NewResponseController(w).Flush(); err != nil {
			panic(err)
		}
		panic(http.ErrAbortHandler)
	}
}

// stallAt sends the first n bytes and then nothing, until the client goes.
func stallAt(n int, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		h(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:n])
		if err := http.NewResponseController(w).Flush(); err != nil {
			panic(err)
		}
		<-r.Context().Done()
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestAnImageArrivesWhateverTheServerDoesOnTheWay(t *testing.T) {
	img, _, content := veritytest.Image(t, 600)
	half := len(content) / 2
	longer := func(w http.ResponseWriter, r *http.Request) { // says nothing of its length, and sends more
		w.(http.Flusher).Flush()
		_, _ = w.Write(append(bytes.Clone(content), "more"...))
	}
	for _, c := range []struct {
		name     string
		handlers []http.HandlerFunc
		holds    int
		asked    []string // the Range of each request
	}{
		{"a good server", []http.HandlerFunc{whole(content)}, 0, []string{""}},
		{"a server that breaks off is asked for the rest", []http.HandlerFunc{cutAt(half, whole(content)), whole(content)}, 0, []string{"", fmt.Sprintf("bytes=%d-", half)}},
		{"a server that stalls is asked for the rest", []http.HandlerFunc{stallAt(half, whole(content)), whole(content)}, 0, []string{"", fmt.Sprintf("bytes=%d-", half)}},
		{"a server that never begins to answer", []http.HandlerFunc{func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, whole(content)}, 0, []string{"", ""}},
		{"a server without ranges begins again", []http.HandlerFunc{cutAt(half, noRanges(content)), noRanges(content)}, 0, []string{"", fmt.Sprintf("bytes=%d-", half)}},
		{"a server that is not up yet", []http.HandlerFunc{status(503), status(500), status(429), whole(content)}, 0, []string{"", "", "", ""}},
		{"a server that sends more than it should", []http.HandlerFunc{longer}, 0, []string{""}},
		{"what a disk holds is not asked for", []http.HandlerFunc{whole(content)}, half, []string{fmt.Sprintf("bytes=%d-", half)}},
		{"what is there whole is not asked for at all", []http.HandlerFunc{status(500)}, len(content), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, c.handlers...)
			cl, said := client(t, s)
			dst, file := newCopy(t, img, content[:c.holds])
			if err := cl.Image(t.Context(), dst); err != nil {
				t.Fatalf("%v\n%s", err, said())
			}
			if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v, which are not the image's %d", len(got), err, len(content))
			}
			if fmt.Sprint(s.ranges) != fmt.Sprint(c.asked) {
				t.Errorf("asked for %q, want %q\n%s", s.ranges, c.asked, said())
			}
		})
	}
}

func TestWhatAServerCannotMakeGoodIsRefusedByName(t *testing.T) {
	img, _, content := veritytest.Image(t, 600)
	wrong := bytes.Clone(content)
	wrong[len(wrong)/2] ^= 1
	wrongTree := bytes.Clone(content)
	wrongTree[len(wrongTree)-1] ^= 1
	longer := append(bytes.Clone(content), 1)
	half := len(content) / 2
	for _, c := range []struct {
		name     string
		handlers []http.HandlerFunc
		holds    []byte
		want     string
		requests int // 0: any number
	}{
		{"a wrong byte of the data", []http.HandlerFunc{whole(wrong)}, nil, "does not match its hash", 1},
		{"a wrong byte of the hash tree", []http.HandlerFunc{whole(wrongTree)}, nil, "does not match its hash", 1},
		{"a file of another size", []http.HandlerFunc{whole(longer)}, nil, "has 2486273 bytes, and the signed manifest says 2486272", 1},
		{"a file that is not there", []http.HandlerFunc{status(404)}, nil, "404 Not Found", 1},
		{"a file that is not for us", []http.HandlerFunc{status(403)}, nil, "403 Forbidden", 1},
		{"a server that always fails", []http.HandlerFunc{status(500)}, nil, "nothing new came for", 0},
		{"a server that never gets any further", []http.HandlerFunc{cutAt(half, noRanges(content))}, nil, "nothing new came for", 0},
		{"a server that is always wrong behind what a disk holds", []http.HandlerFunc{whole(wrong)}, content[:half], "does not match its hash", 2},
		{"another range than the one asked for", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9/10")
			w.WriteHeader(http.StatusPartialContent)
		}}, content[:half], `sends "bytes 0-9/10"`, 1},
		{"a part that nobody asked for", []http.HandlerFunc{status(206)}, nil, "206", 1},
		{"a range that the server does not have", []http.HandlerFunc{status(416)}, content[:half], "416", 1},
		{"a redirect to another scheme", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.1/", http.StatusFound)
		}}, nil, "only http:// is followed", 1},
		{"redirects in a circle", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }}, nil, "redirected more than 5 times", 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, c.handlers...)
			cl, said := client(t, s)
			cl.Patience = 300 * time.Millisecond
			dst, _ := newCopy(t, img, c.holds)
			err := cl.Image(t.Context(), dst)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), s.URL+"/images/"+img.ID+".img") {
				t.Errorf("Image() = %v, want an error with %q and the address\n%s", err, c.want, said())
			}
			if c.requests > 0 && len(s.ranges) != c.requests {
				t.Errorf("%d requests, want %d\n%s", len(s.ranges), c.requests, said())
			}
		})
	}
}

func TestADiskThatHeldOtherBytesIsFilledAnew(t *testing.T) {
	img, _, content := veritytest.Image(t, 600)
	held := bytes.Clone(content[:len(content)/2])
	held[5] ^= 1
	s := serve(t, whole(content))
	c, said := client(t, s)
	dst, file := newCopy(t, img, held)
	if err := c.Image(t.Context(), dst); err != nil {
		t.Fatalf("%v\n%s", err, said())
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, content) || !strings.Contains(said(), "fetching it anew") {
		t.Errorf("%d bytes, %v\n%s", len(got), err, said())
	}
}

func TestTheServerIsToldGoodByeWhenTheBootIsCalledOff(t *testing.T) {
	img, _, content := veritytest.Image(t, 600)
	s := serve(t, stallAt(100, whole(content)))
	c, _ := client(t, s)
	c.stall = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	dst, _ := newCopy(t, img, nil)
	if err := c.Image(ctx, dst); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Image() = %v, want the end of its context", err)
	}
}

func TestASmallFileIsLimited(t *testing.T) {
	s := serve(t, cutAt(1, whole([]byte("1\n"))), whole([]byte("1\n")))
	c, _ := client(t, s)
	if got, err := c.Small(t.Context(), "default", 8); err != nil || string(got) != "1\n" {
		t.Errorf("Small() = %q, %v", got, err)
	}
	if got, err := c.Small(t.Context(), "default", 1); err == nil || !strings.Contains(err.Error(), "larger than 1 bytes") {
		t.Errorf("Small() = %q, %v, want a refusal", got, err)
	}
	s = serve(t, status(404))
	c, _ = client(t, s)
	if _, err := c.Small(t.Context(), "default", 8); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), s.URL+"/default") {
		t.Errorf("Small() = %v, want a refusal that names the address", err)
	}
}

func TestProgressTellsHowFarHowFastHowLong(t *testing.T) {
	m := newMeter(0, 300<<20, 5*time.Second)
	start := m.last
	if line, due := m.at(1<<20, start.Add(time.Second)); due {
		t.Errorf("a line after a second: %q", line)
	}
	if line, due := m.at(100<<20, start.Add(10*time.Second)); !due || line != "100 of 300 MiB, 10.0 MiB/s, 20s left" {
		t.Errorf("at() = %q, %v", line, due)
	}
}
