package vmtests

// What people say on the kernel command line: policies for a failure, and how a boot that goes well looks and behaves.
//
//	machine   q35, 512 MiB
//	disks     vda: the output's store, write-protected; none where the boot is to fail
//	console   as each case says

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"veneer/vmtests/qemu"
)

// absent makes a boot fail at once: there is no such device.
const absent = "veneer.store=LABEL=ABSENT"

// rescue is the small base with a rescue shell.
func rescue(t *testing.T) output {
	t.Helper()
	return outputOf(t, smallRecipe(t, "small-rescue", "rescue-shell = true"))
}

func TestAFailureFollowsTheDeclaredPolicy(t *testing.T) {
	t.Parallel()
	out := small(t)
	failing := func(t *testing.T, out output, words ...string) *guest {
		g := start(t, out.vm(t, out.disk(), append(words, absent, "veneer.wait=100ms")...))
		g.failed("find store", `no device answered to LABEL=ABSENT`)
		return g
	}
	t.Run("reboot, as the image says", func(t *testing.T) {
		t.Parallel()
		failing(t, out).ends(qemu.Reset)
	})
	t.Run("poweroff", func(t *testing.T) {
		t.Parallel()
		failing(t, out, "veneer.on-fail=poweroff").ends(qemu.PoweredOff)
	})
	t.Run("halt", func(t *testing.T) {
		t.Parallel()
		g := failing(t, out, "veneer.on-fail=halt")
		g.stays()
	})
	t.Run("shell, and the boot of the machine when it ends", func(t *testing.T) {
		t.Parallel()
		g := failing(t, rescue(t), "veneer.on-fail=shell")
		g.expect(`a rescue shell, and a reboot when it ends`)
		g.shell()
		if text := g.run("cat /run/veneer/state.json"); !strings.Contains(text, "no device answered") {
			t.Errorf("the record in the rescue shell does not hold the failure:\n%s", text)
		}
		g.run("ls /dev/vda")
		g.send("exit")
		g.ends(qemu.Reset)
	})
	t.Run("panic=0 keeps the message on the console", func(t *testing.T) {
		t.Parallel()
		failing(t, out, "panic=0").stays()
	})
	t.Run("panic=3 shows it for three seconds", func(t *testing.T) {
		t.Parallel()
		g := failing(t, out, "panic=3")
		g.expect(`reboot in 3s`)
		shown := time.Now()
		g.ends(qemu.Reset)
		if took := time.Since(shown); took < 2*time.Second {
			t.Errorf("the machine was reset after %v, want three seconds", took)
		}
	})
	t.Run("quiet does not hide a failure", func(t *testing.T) {
		t.Parallel()
		g := failing(t, out, "quiet")
		g.ends(qemu.Reset)
		g.never(`load drivers`)
	})
}

// stays checks that the machine neither goes on nor ends, and ends it.
func (g *guest) stays() {
	g.t.Helper()
	if err := g.ExpectNone(g.ctx, 3*time.Second, regexp.MustCompile(`switch root|reboot:`)); err != nil {
		g.t.Error(err)
	}
	g.Kill()
	g.ends(qemu.Killed)
}

func TestWhatThisVersionCannotDoIsRefused(t *testing.T) {
	t.Parallel()
	out := small(t)
	for words, cause := range map[string]string{
		"veneer.on-fail=fallback": `word \d+, "veneer.on-fail=fallback": policy "fallback" is not supported by this version; want poweroff, reboot, halt, shell or ephemeral`,
		"veneer.on-fail=shell":    `on-fail=shell needs a rescue shell, and this initramfs was built without one`,
		"veneer.break=stack-root": `veneer.break= needs a rescue shell, and this initramfs was built without one`,
		"veneer.verify=none":      `veneer.verify=none: this initramfs was not built with allow-unsigned`,
		"veneer.toram":            `veneer.toram: this initramfs has the smallest init; build with variant = "live" or "net"`,
		"veneer.storr=LABEL=X":    `word \d+, "veneer.storr=LABEL=X": no such parameter`,
	} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			g := start(t, out.vm(t, out.disk(), words))
			g.failed("read command line", cause)
			g.ends(qemu.Reset) // even where a shell was asked for that is not there: the policy is then that of the image
		})
	}
	t.Run("all mistakes are told at once", func(t *testing.T) {
		t.Parallel()
		g := start(t, out.vm(t, out.disk(), "veneer.wait=soon", "veneer.upper=disk", "init=relative", "veneer.on-fail=explode", "veneer.on-fail=reboot"))
		g.failed("read command line", `(?s)"veneer.wait=soon": want seconds.*"veneer.upper=disk": .*"init=relative": .*"veneer.on-fail=explode": .*unknown.*contradicts`)
		g.ends(qemu.Reset) // the policy of the image: a misspelt one is none
	})
}

func TestAnUnverifiedBootIsSaidAloud(t *testing.T) {
	t.Parallel()
	out := outputOf(t, smallRecipe(t, "small-unsigned", "allow-unsigned = true"))
	s := out.store(t, "veneer")
	s.remove("deployments/1/manifest.json.minisig")
	s.write("deployments/1/manifest.json.minisig", []byte("none\n"))
	g := start(t, out.vm(t, ext4(t, s.dir, label), "veneer.verify=none"))
	g.expect(`veneer: degraded: not verified`)
	g.shell()
	text := g.run("veneer status")
	for _, want := range []string{`Verified +NO`, `Degraded +YES: not verified`} {
		if !contains(text, want) {
			t.Errorf("veneer status does not match %q:\n%s", want, text)
		}
	}
	g.leave("poweroff", "poweroff", qemu.PoweredOff)

	checked := start(t, out.vm(t, ext4(t, s.dir, label)))
	checked.failed("check manifest", `not a minisign signature`)
	checked.ends(qemu.Reset)
}

func TestABreakStopsBeforeTheStepAndGoesOn(t *testing.T) {
	t.Parallel()
	out := rescue(t)
	g := start(t, out.vm(t, out.disk(), "veneer.break=mount-images", "quiet"))
	g.expect(`stopped before step "mount images", as veneer.break= asks`)
	g.shell()
	if mounts := g.run("cat /proc/mounts"); !contains(mounts, `/dev/vda \S+ ext4 ro`) || strings.Contains(mounts, "squashfs") {
		t.Errorf("before \"mount images\" the store is to be mounted and no image:\n%s", mounts)
	}
	if log := g.run("cat /run/veneer/log"); !strings.Contains(log, `attach images ... ok`) {
		t.Errorf("the log in the shell does not tell what was done so far:\n%s", log)
	}
	g.run("ls /run/veneer/state.json")
	g.send("exit")
	g.expect(`small: veneer status`) // the base greets
	g.shell()
	g.run("veneer status")
	g.leave("poweroff", "poweroff", qemu.PoweredOff)
}

func TestTheConsoleShowsWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	out := small(t)
	t.Run("debug prints every mount as its shell equivalent", func(t *testing.T) {
		t.Parallel()
		g := start(t, out.vm(t, out.disk(), "veneer.debug"))
		g.expect(`veneer: mount -t ext4 -o \S+ /dev/vda /run/initramfs/veneer/store\n`)
		g.expect(`veneer: mount -t squashfs -o \S+ /dev/dm-\d+ /run/initramfs/veneer/base\n`)
		g.expect(`veneer: mount -t tmpfs `)
		g.expect(`veneer: mount -t overlay .* /sysroot\n`)
		g.expect(`switch root`)
	})
	t.Run("quiet hides the steps that went well", func(t *testing.T) {
		t.Parallel()
		g := start(t, out.vm(t, out.disk(), "quiet"))
		g.shell()
		g.never(`veneer: `, `\.\.\. ok`)
		if text := g.run("cat /run/veneer/log"); !contains(text, `stack root \.\.\. ok`) {
			t.Errorf("the log does not hold the steps:\n%s", text)
		}
	})
}

func TestArgumentsAndEnvironmentGoToTheNextInit(t *testing.T) {
	t.Parallel()
	r := smallRecipe(t, "small-init", `layers = [{ name = "init", source = "init.tar" }]`)
	const script = "#!/bin/sh\necho \"COLOUR=$COLOUR\"\ncat /proc/1/cmdline\necho\nsh\n"
	r.files["init.tar"] = archive(t, "init", file{"opt/my init", script})
	out := outputOf(t, r)
	g := start(t, out.vm(t, out.disk(), `"init=/opt/my init"`, "COLOUR=blue", "--", "one", "veneer.wait=nonsense"))
	g.expect(`COLOUR=blue\n`)
	g.expect(`\x00/opt/my init\x00one\x00veneer\.wait=nonsense\x00\n`)
	g.shell()
	if text := g.run("/usr/bin/veneer status"); !contains(text, `Init +/opt/my init`) {
		t.Errorf("veneer status does not name the init:\n%s", text)
	}
}

func TestABaseThatCannotRunIsRefusedBeforeTheWipe(t *testing.T) {
	t.Parallel()
	t.Run("no init", func(t *testing.T) {
		t.Parallel()
		r := smallRecipe(t, "empty-base", `tools = false
allow.losses = ["no-init"]`)
		r.files["base.tar"] = archive(t, "empty", file{"etc/os-release", "ID=empty\n"}, file{"proc/", ""}, file{"sys/", ""}, file{"dev/", ""}, file{"run/", ""})
		outputOf(t, r).refuse(t, refusal{step: "check root", cause: `no init in the merged root: .*/sbin/init`})
	})
	for asked, cause := range map[string]string{
		"/nowhere":        `/nowhere: no such file`,
		"/etc":            `/etc is not a regular file`,
		"/etc/os-release": `/etc/os-release is not executable|/etc/os-release cannot be run`,
	} {
		t.Run(fmt.Sprintf("init=%s", asked), func(t *testing.T) {
			t.Parallel()
			small(t).refuse(t, refusal{words: []string{"init=" + asked}, step: "check root", cause: cause})
		})
	}
}
