package stage

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"

	"veneer/images"
)

// Causes that a Machine finds and that have ways out of their own.
var (
	ErrOtherKernel = errors.New("the initramfs was built for another kernel")
	ErrTwins       = errors.New("more than one device answers")
)

// causes are the failures that say more than their step does: with one of them, what the step usually needs would mislead. The
// first that fits counts; a step of "" is any. A line is a way out.
var causes = []struct {
	err  error
	step string
	try  string
}{
	{ErrOtherKernel, "", "boot the kernel and the initramfs of the same build\nlook for a boot loader entry that mixes two releases"},
	{ErrTwins, "", "detach one of the devices\nrelabel one of them\nask by UUID or PARTUUID: veneer.store=UUID=..."},
	{images.ErrUnknownKey, "", "boot an initramfs that was built with that key among keys.trusted\n" +
		"else sign the set with a key that is trusted: veneer build"},
	{images.ErrBadSignature, "", "install the build output in the store again: manifest or signature was changed or damaged\n" +
		"check it on a build host: veneer verify"},
	{images.ErrNewerFormat, "", "boot the initramfs of the same release as the images\nelse build the images with the veneer that made this initramfs"},
	{fs.ErrNotExist, StepMountStore, "name the directory: veneer.store=DEVICE:/DIR\ncheck that this is the right device"},
	{fs.ErrNotExist, StepCheckManifest, "install the build output in the store again: a file of the deployment is missing\n" +
		"ask for another deployment: veneer.deployment=SERIAL"},
	{fs.ErrNotExist, StepAttach, "copy the image into images/ of the store\ncheck the store on a build host: veneer verify"},
	{ErrNoTool, "", "add the package that the message names to the tree, and build again\nmake the file system on another machine, with the label VENEER-STATE\n" +
		"go on without it, once: veneer.missing-upper=ephemeral"},
	{ErrForeign, "", "check that this is the right device: what it holds is left as it is\nsee docs/state-disk.md for what is never touched\n" +
		"go on without it, once: veneer.missing-upper=ephemeral"},
	{ErrLocked, "", "look above for why no key fits: a changed firmware, another TPM, a missing key file\nopen it from another machine with a recovery key: cryptsetup open\n" +
		"go on without it, once: veneer.missing-upper=ephemeral"},
	{syscall.ENOSPC, "", "go on without it, once: veneer.missing-upper=ephemeral\nlook from another machine what fills the state\n" +
		"begin anew, and delete what is kept for good: veneer.reset=all,secure"},
	{syscall.EIO, "", "look above for the kernel's message: a block that does not match its hash, or a medium that fails\n" +
		"copy the images into the store again\ntry another medium"},
	{syscall.ENOMEM, "", "give the machine more memory\nask for a smaller upper: veneer.upper=tmpfs:size=256M"},
}

// remedies are the likely ways out of a failed step, most likely first, for the person at the console.
var remedies = []struct {
	step string
	try  string
}{
	{StepEarlyMounts, "boot the kernel of the same build: this one lacks devtmpfs, proc, sysfs or tmpfs\n" +
		"rebuild the initramfs: veneer build\ncheck the machine's memory"},
	{StepCommandLine, "correct the kernel command line in the boot loader's menu\n" +
		"try it without a boot: veneer plan --cmdline '...'\nsee docs/parameters.md for every parameter"},
	{StepDrivers, "boot the kernel and the initramfs of the same build\nbuild with modules.policy = \"generic\"\n" +
		"give the devices more time: rootdelay=10"},
	{StepNetwork, "check the cable, and that a DHCP server answers\ngive it more time: veneer.wait=60\nname the addresses: ip=CLIENT::GATEWAY:MASK\n" +
		"if the network is up, check the address in veneer.url= with another machine"},
	{StepFindMedium, "check that the disk with the file is plugged in, and the path in veneer.medium=, letter by letter\nname the disk: veneer.medium=UUID=...:/PATH\n" +
		"give it more time: veneer.wait=60\nbuild with modules.policy = \"generic\", in case a driver or a file system is missing"},
	{StepCopyImages, "boot from the medium: veneer.toram=no\nask for a smaller upper: veneer.upper=tmpfs:size=256M\ngive the machine more memory\n" +
		"if bytes were wrong, write the medium again, or try another; on a server put the whole build output there"},
	{StepFindStore, "check that the medium is plugged in and that veneer.store= names it\n" +
		"give it more time: veneer.wait=60\nbuild with modules.policy = \"generic\", in case its driver is missing"},
	{StepMountStore, "check the file system from another machine with fsck\n" +
		"check the directory in veneer.store=DEVICE:/DIR\nwrite the store again"},
	{StepChoose, "ask for another deployment: veneer.deployment=SERIAL\ncheck veneer/deployments/ in the store from another machine\n" +
		"install the build output in the store again"},
	{StepCheckManifest, "install the build output in the store again: the copy may be damaged\ncheck it on a build host: veneer verify\n" +
		"ask for another deployment: veneer.deployment=SERIAL"},
	{StepAttach, "copy the image into the store again: it may be cut short or damaged\ncheck it on a build host: veneer verify\n" +
		"boot the kernel of the same build, in case it lacks loop or dm-verity"},
	{StepMountImages, "check the image on a build host: veneer verify\nlook above for the kernel's message\n" +
		"boot the kernel of the same build, in case it lacks the file system"},
	{StepFindState, "check that the medium with the state is plugged in, and that state.place or veneer.state= names it\n" +
		"go on without it, once: veneer.missing-upper=ephemeral\ngive it more time: veneer.wait=60\n" +
		"let it be made: state.create = true, with state.place = \"PARTLABEL=...\""},
	{StepPrepareState, "go on without it, once: veneer.missing-upper=ephemeral\nlet it be repaired: fsck.mode=force fsck.repair=yes\n" +
		"check it from another machine with fsck, or format it there"},
	{StepRequests, "go on without it, once: veneer.missing-upper=ephemeral\nlet it be repaired: fsck.mode=force fsck.repair=yes\n" +
		"look at veneer/requests/ and veneer/journal/ in the state from another machine"},
	{StepUppers, "go on without it, once: veneer.missing-upper=ephemeral\nbegin anew: veneer.reset=all; veneer undo has it back\n" +
		"if the base is new, boot the former one: veneer.deployment=SERIAL"},
	{StepRules, "go on without it, once: veneer.missing-upper=ephemeral\nlook above for the kernel's message\n" +
		"begin anew: veneer.reset=all; veneer undo has it back"},
	{StepIdentity, "go on without a state, once: veneer.state=none veneer.upper=tmpfs\nlook above for the kernel's message\n" +
		"begin anew: veneer.reset=all; veneer undo has it back"},
	{StepStackRoot, "ask for another size of the upper: veneer.upper=tmpfs:size=256M\nlook above for the kernel's message\n" +
		"boot the kernel of the same build, in case it lacks overlayfs\n" +
		"where the upper is kept, go on without it, once: veneer.missing-upper=ephemeral\nwhere it is kept, begin anew: veneer.reset=upper; veneer undo has it back"},
	{StepCheckRoot, "name the program yourself: init=/path\ncheck that the base holds an init for this architecture\n" +
		"build again from a complete tree"},
	{StepHandOver, "check the machine's memory\nrebuild the initramfs: veneer build\nlook above for the kernel's message"},
	{StepSwitchRoot, "check that the base has /dev, /proc, /sys and /run\nlook above for the kernel's message\nrebuild the base"},
}

// Remedies returns the likely ways out of a step that failed with err.
func Remedies(step string, err error) []string {
	for _, c := range causes {
		if errors.Is(err, c.err) && (c.step == "" || c.step == step) {
			return strings.Split(c.try, "\n")
		}
	}
	for _, r := range remedies {
		if r.step == step {
			return strings.Split(r.try, "\n")
		}
	}
	return nil
}
