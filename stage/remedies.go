package stage

import (
	"errors"
	"io/fs"
	"syscall"

	"veneer/images"
)

// Causes that a Machine finds and that have ways out of their own.
var (
	ErrOtherKernel = errors.New("the initramfs was built for another kernel")
	ErrTwins       = errors.New("more than one device answers")
)

// causes are the failures that say more than their step does: with one of them, what the step usually needs would mislead. The
// first that fits counts; a step of "" is any.
var causes = []struct {
	err  error
	step string
	try  []string
}{
	{ErrOtherKernel, "", []string{"boot the kernel and the initramfs of the same build", "look for a boot loader entry that mixes two releases"}},
	{ErrTwins, "", []string{"detach one of the devices", "relabel one of them", "ask by UUID or PARTUUID: veneer.store=UUID=..."}},
	{images.ErrUnknownKey, "", []string{"boot an initramfs that was built with that key among keys.trusted",
		"else sign the set with a key that is trusted: veneer build"}},
	{images.ErrBadSignature, "", []string{"install the build output in the store again: manifest or signature was changed or damaged",
		"check it on a build host: veneer verify"}},
	{images.ErrNewerFormat, "", []string{"boot the initramfs of the same release as the images", "else build the images with the veneer that made this initramfs"}},
	{fs.ErrNotExist, StepMountStore, []string{"name the directory: veneer.store=DEVICE:/DIR", "check that this is the right device"}},
	{fs.ErrNotExist, StepCheckManifest, []string{"install the build output in the store again: a file of the deployment is missing",
		"ask for another deployment: veneer.deployment=SERIAL"}},
	{fs.ErrNotExist, StepAttach, []string{"copy the image into images/ of the store", "check the store on a build host: veneer verify"}},
	{ErrNoTool, "", []string{"add the package that the message names to the tree, and build again", "make the file system on another machine, with the label VENEER-STATE",
		"go on without the state, once: veneer.missing-upper=ephemeral"}},
	{ErrForeign, "", []string{"check that this is the right device: what it holds is left as it is", "see docs/state-disk.md for what is never touched",
		"go on without the state, once: veneer.missing-upper=ephemeral"}},
	{ErrLocked, "", []string{"look above for why no key fits: a changed firmware, another TPM, a missing key file", "open it from another machine with a recovery key: cryptsetup open",
		"go on without the state, once: veneer.missing-upper=ephemeral"}},
	{syscall.ENOSPC, "", []string{"look from another machine what fills the state", "begin anew: veneer.reset=data, or veneer.reset=etc",
		"go on without the state, once: veneer.missing-upper=ephemeral"}},
	{syscall.EIO, "", []string{"look above for the kernel's own message: a block that does not match its hash, or a medium that fails",
		"copy the images into the store again", "try another medium"}},
	{syscall.ENOMEM, "", []string{"give the machine more memory", "ask for a smaller upper: veneer.upper=tmpfs:size=256M"}},
}

// remedies are the likely ways out of a failed step, most likely first, for the person at the console.
var remedies = map[string][]string{
	StepEarlyMounts: {"boot the kernel of the same build: this one lacks devtmpfs, proc, sysfs or tmpfs",
		"rebuild the initramfs: veneer build", "check the machine's memory"},
	StepCommandLine: {"correct the kernel command line in the boot loader's menu",
		"try it without a boot: veneer plan --cmdline '...'", "see docs/parameters.md for every parameter"},
	StepDrivers: {"boot the kernel and the initramfs of the same build", "build with modules.policy = \"generic\"",
		"give the devices more time: rootdelay=10"},
	StepFindStore: {"check that the medium is plugged in and that veneer.store= names it",
		"give it more time: veneer.wait=60", "build with modules.policy = \"generic\", in case its driver is missing"},
	StepMountStore: {"check the file system from another machine with fsck",
		"check the directory in veneer.store=DEVICE:/DIR", "write the store again"},
	StepChoose: {"ask for another deployment: veneer.deployment=SERIAL", "check veneer/deployments/ in the store from another machine",
		"install the build output in the store again"},
	StepCheckManifest: {"install the build output in the store again: the copy may be damaged", "check it on a build host: veneer verify",
		"ask for another deployment: veneer.deployment=SERIAL"},
	StepAttach: {"copy the image into the store again: it may be cut short or damaged", "check it on a build host: veneer verify",
		"boot the kernel of the same build, in case it lacks loop or dm-verity"},
	StepMountImages: {"check the image on a build host: veneer verify", "look above for the kernel's own message",
		"boot the kernel of the same build, in case it lacks the file system"},
	StepFindState: {"check that the medium with the state is plugged in, and that state.place or veneer.state= names it",
		"go on without it, once: veneer.missing-upper=ephemeral", "give it more time: veneer.wait=60",
		"let it be made: state.create = true, with state.place = \"PARTLABEL=...\""},
	StepPrepareState: {"go on without it, once: veneer.missing-upper=ephemeral", "let it be repaired: fsck.mode=force fsck.repair=yes",
		"check it from another machine with fsck, or format it there"},
	StepRequests: {"go on without the state, once: veneer.missing-upper=ephemeral", "let it be repaired: fsck.mode=force fsck.repair=yes",
		"look at veneer/requests/ and veneer/journal/ in the state from another machine"},
	StepUppers: {"go on without the state, once: veneer.missing-upper=ephemeral", "begin anew: veneer.reset=etc, or veneer.reset=upper",
		"boot the former base: veneer.deployment=SERIAL"},
	StepRules: {"go on without the state, once: veneer.missing-upper=ephemeral", "look above for the kernel's own message",
		"begin anew: veneer.reset=data"},
	StepIdentity: {"go on without the state, once: veneer.missing-upper=ephemeral", "look above for the kernel's own message",
		"begin anew: veneer.reset=all"},
	StepStackRoot: {"ask for another size of the upper: veneer.upper=tmpfs:size=256M", "look above for the kernel's own message",
		"boot the kernel of the same build, in case it lacks overlayfs"},
	StepCheckRoot: {"name the program yourself: init=/path", "check that the base holds an init for this architecture",
		"build again from a complete tree"},
	StepHandOver:   {"check the machine's memory", "rebuild the initramfs: veneer build", "look above for the kernel's own message"},
	StepSwitchRoot: {"check that the base has /dev, /proc, /sys and /run", "look above for the kernel's own message", "rebuild the base"},
}

// Remedies returns the likely ways out of a step that failed with err.
func Remedies(step string, err error) []string {
	for _, c := range causes {
		if errors.Is(err, c.err) && (c.step == "" || c.step == step) {
			return c.try
		}
	}
	return remedies[step]
}
