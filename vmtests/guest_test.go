package vmtests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"veneer/vmtests/qemu"
)

// Limits. A VM of the small base needs three seconds on an idle machine; a busy one must not fail for that.
const (
	patience = 2 * time.Minute // of one expectation
	lifetime = 5 * time.Minute // of one VM
)

// guest is a VM that a case talks to.
type guest struct {
	*qemu.Guest
	t      *testing.T
	ctx    context.Context
	free   func() // gives the place back
	prompt string // a pattern of the shell's
	asks   int
}

// start boots a VM as soon as there is a place for it. Its console is kept in a file when the test fails.
func start(t *testing.T, vm qemu.VM) *guest {
	t.Helper()
	shared.places <- struct{}{}
	released := false
	free := func() {
		if !released {
			released = true
			<-shared.places
		}
	}
	t.Cleanup(free)
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	t.Cleanup(cancel)
	log := console(t)
	g, err := qemu.Start(ctx, vm, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Kill)
	return &guest{Guest: g, t: t, ctx: ctx, free: free, prompt: `(?m:^\$ )`}
}

// console opens the serial log of a VM, in VENEER_TEST_LOGS or the system's directory for such files.
func console(t *testing.T) *os.File {
	t.Helper()
	dir := os.Getenv("VENEER_TEST_LOGS")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), "veneer-vmtests")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`[^A-Za-z0-9_]+`).ReplaceAllString(t.Name(), "-")
	f, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if t.Failed() {
			t.Logf("the console of the VM: %s", f.Name())
		} else if err := os.Remove(f.Name()); err != nil {
			t.Error(err)
		}
	})
	return f
}

// expect waits for a match on the console behind the last one, and returns it with its groups.
func (g *guest) expect(pattern string) []string {
	g.t.Helper()
	match, err := g.Expect(g.ctx, patience, regexp.MustCompile(pattern))
	if err != nil {
		g.t.Fatal(err)
	}
	return match
}

// failed waits for the init's report of a failed step: its name, and a cause that matches the pattern.
func (g *guest) failed(step, cause string) {
	g.t.Helper()
	g.expect(`veneer: FAILED at step: ` + regexp.QuoteMeta(step) + `\n`)
	text := unwrap(g.expect(`(?s)veneer: cause: (.*?)next: `)[1])
	if !regexp.MustCompile(cause).MatchString(text) {
		g.t.Errorf("the cause of the failure of %q does not match %q:\n%s", step, cause, text)
	}
	if n := strings.Count(text, "try: "); n < 2 {
		g.t.Errorf("the failure of %q comes with %d remedies, want two or more:\n%s", step, n, text)
	}
}

// unwrap takes the time stamps of the kernel's log out of lines that belong together.
func unwrap(text string) string {
	return regexp.MustCompile(`(?m)^\[ *[0-9.]+\] (veneer: )?`).ReplaceAllString(text, "")
}

// shell waits until the guest's shell asks for a command. What the kernel says later is kept out of the way.
func (g *guest) shell() {
	g.t.Helper()
	g.expect(g.prompt)
	g.run("echo 1 > /proc/sys/kernel/printk")
}

func (g *guest) send(line string) {
	g.t.Helper()
	if err := g.Send(line + "\r"); err != nil {
		g.t.Fatal(err)
	}
}

// try runs a command in the guest's shell, and returns what it prints and its exit code.
func (g *guest) try(command string) (out string, code int) {
	g.t.Helper()
	g.asks++
	// The terminal echoes the line; what stands behind the mark is a number only in the answer.
	mark := fmt.Sprintf("done %d:", g.asks)
	g.send(fmt.Sprintf(`%s; echo "%s$?"`, command, mark))
	match := g.expect(`(?s)` + mark + `\$\?"\n(.*?)` + mark + `([0-9]+)\n` + g.prompt) // the next line must not meet the prompt
	code, err := strconv.Atoi(match[2])
	if err != nil {
		g.t.Fatal(err)
	}
	return match[1], code
}

// run is try for a command that must succeed.
func (g *guest) run(command string) string {
	g.t.Helper()
	out, code := g.try(command)
	if code != 0 {
		g.t.Fatalf("in the guest: %s: exit code %d\n%s", command, code, out)
	}
	return out
}

// ends waits until the guest has ended in this way.
func (g *guest) ends(want qemu.End) {
	g.t.Helper()
	got, err := g.Wait(g.ctx, patience)
	if err != nil {
		g.t.Fatal(err)
	}
	g.free()
	if got != want {
		g.t.Errorf("the guest ended: %s, want: %s\n%s", got, want, g.Tail(30))
	}
}

// halted waits until the kernel has stopped, which QEMU takes no notice of, and ends the VM.
func (g *guest) halted() {
	g.t.Helper()
	g.expect(`reboot: System halted`)
	g.Kill()
	g.ends(qemu.Killed)
}

// uptime is the kernel's time stamp of the line of the init that matches.
func (g *guest) uptime(pattern string) time.Duration {
	g.t.Helper()
	line := regexp.MustCompile(`(?m)^\[ *([0-9.]+)\] veneer: .*` + pattern).FindStringSubmatch(g.String())
	if line == nil {
		g.t.Fatalf("no line of the init matches %q", pattern)
	}
	at, err := time.ParseDuration(line[1] + "s")
	if err != nil {
		g.t.Fatal(err)
	}
	return at
}

// never reports what must not be on the console at all.
func (g *guest) never(patterns ...string) {
	g.t.Helper()
	for _, p := range patterns {
		if found := regexp.MustCompile(p).FindString(g.String()); found != "" {
			g.t.Errorf("the console shows %q, which must not be there", found)
		}
	}
}

// leave ends a guest of the small base and checks that nothing stayed busy.
func (g *guest) leave(command, verb string, want qemu.End) {
	g.t.Helper()
	g.run("echo 7 > /proc/sys/kernel/printk")
	g.send(command)
	g.expect(`veneer: shutdown: root, upper, images and store are down`)
	g.expect(`veneer: shutdown: ` + verb)
	if verb == "halt" {
		g.halted()
	} else {
		g.ends(want)
	}
	g.never(`still busy`)
}
