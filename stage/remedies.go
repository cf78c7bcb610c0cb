package stage

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
	StepCheckManifest: {"if the cause names a key that is not trusted: boot an initramfs that was built with that key",
		"else install the build output in the store again: the copy may be damaged", "check it on a build host: veneer verify"},
	StepAttach: {"copy the image into the store again: it may be cut short or damaged", "check it on a build host: veneer verify",
		"boot the kernel of the same build, in case it lacks loop or dm-verity"},
	StepMountImages: {"check the image on a build host: veneer verify", "look above for the kernel's own message",
		"boot the kernel of the same build, in case it lacks the file system"},
	StepStackRoot: {"ask for another size of the upper: veneer.upper=tmpfs:size=256M", "look above for the kernel's own message",
		"boot the kernel of the same build, in case it lacks overlayfs"},
	StepCheckRoot: {"name the program yourself: init=/path", "check that the base holds an init for this architecture",
		"build again from a complete tree"},
	StepHandOver:   {"check the machine's memory", "rebuild the initramfs: veneer build", "look above for the kernel's own message"},
	StepSwitchRoot: {"check that the base has /dev, /proc, /sys and /run", "look above for the kernel's own message", "rebuild the base"},
}

// Remedies returns the likely ways out of a failed step.
func Remedies(step string) []string { return remedies[step] }
