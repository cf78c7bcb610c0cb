package dialect

import (
	"errors"
	"strings"

	"veneer/boot"
)

// Dialects that are only understood, or only name what many of them share.
const (
	shared   boot.Dialect = "shared"
	systemd  boot.Dialect = "systemd"
	immucore boot.Dialect = "immucore"
	slax     boot.Dialect = "Slax, Porteus"
	alpine   boot.Dialect = "Alpine"

	overlayroot boot.Dialect = "overlayroot"
)

// Row is one parameter of others.
type Row struct {
	Dialect boot.Dialect   // whose it is
	Name    string         // as typed, without "="
	Form    string         // what may follow "=", for people; empty where the bare word is the usual form
	Needs   []boot.Dialect // read only where the line carries the sign of one of these; nil: always
	Effect  Effect
	Doc     string // what it means here; for Without and Refused, why
	set     func(p *reading, value string, has bool) error
}

// Effect is what becomes of a parameter.
type Effect string

// The effects. What is without effect would change nothing, or nothing that was asked for: the reason is in the row.
const (
	Taken   Effect = "taken"
	Without Effect = "without effect"
	Refused Effect = "refused"
)

// Rows returns the table in the order of the reference, which is made from it.
func Rows() []Row { return append([]Row(nil), rows...) }

func lookup(name string) *Row {
	for i := range rows {
		if rows[i].Name == name {
			return &rows[i]
		}
	}
	return nil
}

func (r *Row) refusal() error {
	if r.Effect == Refused {
		return errors.New(r.Doc)
	}
	return nil
}

// means is what a word came to: what it says in our own parameters, or the row's sentence.
func (r *Row) means(native []string) string {
	switch {
	case r.Effect == Without:
		return "without effect: " + r.Doc
	case len(native) > 0:
		return strings.Join(native, " ")
	}
	return r.Doc
}

func need(d ...boot.Dialect) []boot.Dialect { return d }

// rows is the table of everything that is read of others' dialects; docs/dialects.md is made from it. A name stands once.
var rows = []Row{
	{shared, "root", "live:DEVICE|live:URL|DEVICE", nil, Taken, "Where the medium is (live:), or the root that an upper protects; with any other line left alone. A URL that ends in a slash is veneer.url=; one of a single file is refused.", (*reading).setRoot},
	{shared, "iso-scan/filename", "PATH", nil, Taken, "The medium is an ISO in a file of that path, on whatever device has it: veneer.medium=PATH.", isoPath},
	{shared, "findiso", "PATH", nil, Taken, "The medium is an ISO in a file of that path, on whatever device has it: veneer.medium=PATH.", isoPath},
	{shared, "fromiso", "/dev/DEVICE/PATH", nil, Taken, "The medium is an ISO in a file of a device: veneer.medium=DEVICE:PATH.", fromISO},
	{shared, "isofrom", "/dev/DEVICE/PATH", nil, Taken, "The medium is an ISO in a file of a device: veneer.medium=DEVICE:PATH.", fromISO},
	{shared, "toram", "[MODULE]", nil, Taken, "Copy the images to memory: veneer.toram.", toRAM},
	{shared, "copy2ram", "", nil, Taken, "As toram.", toRAM},
	{shared, "rootwait", "", nil, Without, "devices are waited for in any case, as long as veneer.wait= says", nil},

	{boot.Dracut, "rd.live.image", "", nil, Taken, "root= names a live medium even without live:.", func(_ *reading, v string, has bool) error { _, err := isOn(v, has); return err }},
	{boot.Dracut, "rd.live.dir", "DIR", need(boot.Dracut), Taken, "The directory of the image on the medium (LiveOS).", func(p *reading, v string, _ bool) (err error) { p.foreign.Dir, err = cleanDir(v); return err }},
	{boot.Dracut, "rd.live.squashimg", "FILE", need(boot.Dracut), Taken, "The name of the image (squashfs.img).", fileName},
	{boot.Dracut, "rd.live.ram", "", nil, Taken, "Copy the images to memory: veneer.toram.", toRAM},
	{boot.Dracut, "rd.minmem", "MIB", nil, Without, "what memory must stay free is computed before anything is copied", nil},
	{boot.Dracut, "rd.overlay", "[tmpfs:size=SIZE|DEVICE[:PATH|:auto]|none]", nil, Taken, "The upper: in memory, or on a device in LiveOS/overlay-LABEL-UUID, or at PATH.", (*reading).setOverlay},
	{boot.Dracut, "rd.live.overlay", "DEVICE[:PATH|:auto]|none", nil, Taken, "As rd.overlay=.", (*reading).setOverlay},
	{boot.Dracut, "rd.live.overlay.overlayfs", "", need(boot.Dracut), Without, "the upper is an overlayfs in any case", nil},
	{boot.Dracut, "rd.overlay.readonly", "", need(boot.Dracut), Taken, "What is kept is one more layer under an upper in memory.", readOnlyKept},
	{boot.Dracut, "rd.live.overlay.readonly", "", need(boot.Dracut), Taken, "As rd.overlay.readonly.", readOnlyKept},
	{boot.Dracut, "rd.live.overlay.reset", "", need(boot.Dracut), Refused, "nothing on others' media is emptied by this init: remove the directory of the overlay yourself", nil},
	{boot.Dracut, "rd.overlay.crypt", "DEVICE[,...]", nil, Refused, "an encrypted upper is opened with cryptsetup of our tools layer, which others' media do not have", nil},
	{boot.Dracut, "rd.live.overlay.size", "MIB", need(boot.Dracut), Without, "it is the size of a device-mapper snapshot, and none is made; rd.overlay=tmpfs:size= sizes the upper", nil},
	{boot.Dracut, "rd.live.overlay.thin", "", need(boot.Dracut), Without, "no device-mapper snapshot is made", nil},
	{boot.Dracut, "rd.live.overlay.cowfs", "FS", need(boot.Dracut), Without, "no file system is made on others' media", nil},
	{boot.Dracut, "rd.live.overlay.nouserconfirmprompt", "", need(boot.Dracut), Without, "nothing is asked; a missing overlay is told on the console and at each login", nil},
	{boot.Dracut, "rd.live.check", "", need(boot.Dracut), Without, "a checksum that lies on the medium itself vouches for nobody; pin the image in veneer.toml", nil},
	{boot.Dracut, "rd.writable.fsimg", "", need(boot.Dracut), Refused, "the image is never unpacked to be written to", nil},
	{boot.Dracut, "rd.live.debug", "", nil, Taken, "Print every mount: veneer.debug.", debug},
	{boot.Dracut, "rd.debug", "", nil, Taken, "Print every mount: veneer.debug.", debug},
	{boot.Dracut, "rd.break", "[pre-pivot|pre-mount|mount]", nil, Taken, "Open the rescue shell before the switch to the root, or before the medium is looked for: veneer.break=.", (*reading).setBreak},
	{boot.Dracut, "rd.shell", "0|1", nil, Without, "a rescue shell is there if it was built in, and opened if veneer.on-fail=shell asks for it", nil},

	{boot.LiveBoot, "boot", "live|casper", nil, Taken, "A medium that live-boot, or casper, made.", bootWord},
	{boot.LiveBoot, "live-media", "DEVICE|removable|removable-usb", need(boot.LiveBoot, boot.Casper), Taken, "Where the medium is; removable devices are looked at before the others in any case.", (*reading).setMedia},
	{boot.LiveBoot, "bootfrom", "DEVICE|removable|removable-usb", need(boot.LiveBoot, boot.Casper), Taken, "As live-media=.", (*reading).setMedia},
	{boot.LiveBoot, "live-media-path", "DIR", need(boot.LiveBoot, boot.Casper), Taken, "The directory of the images on the medium (live, casper).", func(p *reading, v string, _ bool) (err error) { p.foreign.Dir, err = cleanDir(v); return err }},
	{boot.LiveBoot, "live-media-timeout", "SECONDS", need(boot.LiveBoot, boot.Casper), Taken, "How long devices are waited for: veneer.wait=.", wait},
	{boot.LiveBoot, "live-media-offset", "BYTES", need(boot.LiveBoot), Refused, "an image at an offset of a raw device is not looked for", nil},
	{boot.LiveBoot, "live-media-encryption", "TYPE", need(boot.LiveBoot), Refused, "an encrypted medium is opened with cryptsetup of our tools layer, which others' media do not have", nil},
	{boot.LiveBoot, "ignore_uuid", "", need(boot.LiveBoot, boot.Casper), Without, "the UUID that their initramfs carries is not in this one", nil},
	{boot.LiveBoot, "bootid", "ID", need(boot.LiveBoot), Without, "the medium is known by its images, or by live-media=", nil},
	{boot.LiveBoot, "fetch", "URL", need(boot.LiveBoot), Taken, "A URL that ends in a slash, the directory of a store on a server, is veneer.url=; one of a single file is refused: nothing signs it.", fetch},
	{boot.LiveBoot, "httpfs", "URL", need(boot.LiveBoot), Refused, "nothing is read over the network after the boot; veneer.url= names a store on a server", nil},
	{boot.LiveBoot, "ftpfs", "URL", need(boot.LiveBoot), Refused, "FTP is not spoken; veneer.url= names a store on an HTTP server", nil},
	{boot.LiveBoot, "netboot", "nfs|cifs|url", need(boot.LiveBoot, boot.Casper), Refused, "NFS and CIFS are not spoken; veneer.url= names a store on an HTTP server", nil},
	{boot.LiveBoot, "nfsroot", "SERVER:/PATH", need(boot.LiveBoot, boot.Casper), Refused, "NFS is not spoken; veneer.url= names a store on an HTTP server", nil},
	{boot.LiveBoot, "nfsoverlay", "SERVER:/PATH", need(boot.LiveBoot), Refused, "no upper can lie on NFS (Documentation/filesystems/overlayfs.rst)", nil},
	{boot.LiveBoot, "iscsi", "IP,PORT;TARGET", need(boot.LiveBoot), Refused, "iSCSI is not spoken; veneer.url= names a store on an HTTP server", nil},
	{boot.LiveBoot, "module", "NAME", need(boot.LiveBoot), Taken, "The images are those that NAME.module lists, the lowest first, instead of filesystem.module.", listName},
	{boot.LiveBoot, "todisk", "DEVICE", need(boot.LiveBoot, boot.Casper), Refused, "no disk is written to by this init; veneer write copies a medium", nil},
	{boot.LiveBoot, "ramdisk-size", "SIZE", need(boot.LiveBoot), Without, "what is copied to memory takes what it needs, computed before", nil},
	{boot.LiveBoot, "overlay-size", "SIZE", need(boot.LiveBoot), Taken, "The size of the upper in memory: veneer.upper=tmpfs:size=SIZE.", upperSize},
	{boot.LiveBoot, "union", "overlay|aufs", need(boot.LiveBoot), Taken, "overlay is what is used; any other is refused.", func(_ *reading, v string, _ bool) error { return only(v, "overlay", "overlayfs") }},
	{boot.LiveBoot, "exposedroot", "", need(boot.LiveBoot), Refused, "the whole root gets an upper; ro makes it read-only", nil},
	{boot.LiveBoot, "plainroot", "", need(boot.LiveBoot), Refused, "a root that is no image is not booted from a live medium", nil},
	{boot.LiveBoot, "skipunion", "", need(boot.LiveBoot), Refused, "the whole root gets an upper; ro makes it read-only", nil},
	{boot.LiveBoot, "persistence", "", need(boot.LiveBoot), Taken, "Keep what persistence.conf says, on what is labelled persistence (docs/foreign-media.md).", keep},
	{boot.LiveBoot, "nopersistence", "", need(boot.LiveBoot, boot.Casper), Taken, "Keep nothing, whatever else the line says.", keepNot},
	{boot.LiveBoot, "persistence-label", "LABEL[,LABEL]...", need(boot.LiveBoot), Taken, "What to look for instead of the label persistence.", labels},
	{boot.LiveBoot, "persistence-storage", "filesystem,file,directory", need(boot.LiveBoot), Taken, "What may carry that label (all three): a file system or a GPT partition, an image file, a directory.", storage},
	{boot.LiveBoot, "persistence-path", "DIR", need(boot.LiveBoot), Taken, "Where on a device such a file or directory lies (at its root).", func(p *reading, v string, _ bool) (err error) { p.foreign.Kept.Path, err = cleanDir(v); return err }},
	{boot.LiveBoot, "persistence-read-only", "", need(boot.LiveBoot), Taken, "What is kept is one more layer under an upper in memory.", readOnlyKept},
	{boot.LiveBoot, "persistence-method", "overlay", need(boot.LiveBoot), Taken, "overlay is the one there is.", func(_ *reading, v string, _ bool) error { return only(v, "overlay") }},
	{boot.LiveBoot, "persistence-media", "removable|removable-usb", need(boot.LiveBoot), Without, "the label decides, wherever it is; two that answer are refused", nil},
	{boot.LiveBoot, "persistence-encryption", "none[,luks]", need(boot.LiveBoot), Taken, "none; with luks alone it is refused: cryptsetup of our tools layer is not on others' media.", encryption},
	{boot.LiveBoot, "persistence-remove", "", need(boot.LiveBoot), Refused, "nothing on others' media is emptied by this init: remove what persistence.conf names yourself", nil},
	{boot.LiveBoot, "verify-checksums", "[DIGESTS]", need(boot.LiveBoot), Without, "a checksum that lies on the medium itself vouches for nobody; pin the image in veneer.toml", nil},
	{boot.LiveBoot, "read-only", "[DEVICES]", need(boot.LiveBoot), Refused, "disks are not set read-only here, and whoever asks for that relies on it", nil},
	{boot.LiveBoot, "swap", "[DEVICES]", need(boot.LiveBoot), Without, "swap is the booted system's to turn on", nil},
	{boot.LiveBoot, "forcefsck", "", need(boot.LiveBoot), Without, "the checkers of file systems are not in this initramfs; the kernel replays the journal", nil},
	{boot.LiveBoot, "nofstab", "", need(boot.LiveBoot), Without, "no fstab is written", nil},

	{boot.Casper, "layerfs-path", "A.B.C.squashfs", nil, Taken, "The images are A, A.B and A.B.C, in this order from below.", layers},
	{boot.Casper, "persistent", "", need(boot.Casper), Taken, "Keep the whole root on what is labelled writable or casper-rw.", keep},
	{boot.Casper, "nopersistent", "", need(boot.Casper), Taken, "Keep nothing, whatever else the line says.", keepNot},
	{boot.Casper, "persistent-path", "DIR", need(boot.Casper), Taken, "Where on a device a file of that name lies (at its root).", func(p *reading, v string, _ bool) (err error) { p.foreign.Kept.Path, err = cleanDir(v); return err }},
	{boot.Casper, "url", "URL", need(boot.Casper), Refused, "an ISO on a server is not fetched: nothing signs it; veneer.url= names a store on an HTTP server", nil},
	{boot.Casper, "showmounts", "", need(boot.Casper), Without, "each image is seen below /run/veneer in any case", nil},
	{boot.Casper, "show-cow", "", need(boot.Casper), Without, "the upper is seen below /run/veneer in any case", nil},
	{boot.Casper, "username", "NAME", need(boot.Casper), Without, "the user is made by a script of casper's own initramfs, which does not run (docs/foreign-media.md)", nil},
	{boot.Casper, "noprompt", "", need(boot.Casper), Without, "nobody is asked to take the medium out", nil},

	{boot.Archiso, "archisobasedir", "DIR", nil, Taken, "The directory of the image on the medium (arch).", func(p *reading, v string, _ bool) (err error) { p.foreign.Dir, err = cleanDir(v); return err }},
	{boot.Archiso, "archisolabel", "LABEL", nil, Taken, "The label of the medium.", func(p *reading, v string, _ bool) error { return p.device("LABEL=" + v) }},
	{boot.Archiso, "archisodevice", "DEVICE", nil, Taken, "Where the medium is.", func(p *reading, v string, _ bool) error { return p.device(v) }},
	{boot.Archiso, "archisosearchuuid", "UUID", nil, Taken, "The UUID of the medium, or of the file /boot/UUID.uuid on it.", searchUUID},
	{boot.Archiso, "archisosearchfilename", "PATH", nil, Taken, "The file by which the medium is known.", marker},
	{boot.Archiso, "copytoram", "y|n|auto", nil, Taken, "Copy the image to memory: veneer.toram for y, veneer.toram=auto for auto.", copyToRAM},
	{boot.Archiso, "copytoram_size", "SIZE", nil, Without, "what is copied to memory takes what it needs, computed before", nil},
	{boot.Archiso, "cow_spacesize", "SIZE", need(boot.Archiso), Taken, "The size of the upper in memory: veneer.upper=tmpfs:size=SIZE.", upperSize},
	{boot.Archiso, "cow_label", "LABEL", need(boot.Archiso), Taken, "Keep the whole root on the file system of that label.", func(p *reading, v string, _ bool) error { return p.keepOn("LABEL=" + v) }},
	{boot.Archiso, "cow_device", "DEVICE", need(boot.Archiso), Taken, "Keep the whole root there.", func(p *reading, v string, _ bool) error { return p.keepOn(v) }},
	{boot.Archiso, "cow_directory", "DIR", need(boot.Archiso), Taken, "Where on it (persistent_LABEL/ARCHITECTURE).", func(p *reading, v string, _ bool) (err error) { p.foreign.Kept.Dir, err = cleanDir(v); return err }},
	{boot.Archiso, "cow_persistent", "P|N", need(boot.Archiso), Taken, "N looks at what is kept without writing to it.", cowPersistent},
	{boot.Archiso, "cow_flags", "OPTIONS", need(boot.Archiso), Without, "it is mounted with noatime and nothing else", nil},
	{boot.Archiso, "cow_chunksize", "N", need(boot.Archiso), Without, "no device-mapper snapshot is made", nil},
	{boot.Archiso, "dm_snap_prefix", "NAME", need(boot.Archiso), Without, "no device-mapper snapshot is made", nil},
	{boot.Archiso, "checksum", "y|n", need(boot.Archiso), Taken, "n; y is refused, since the medium's own checksums are not read: pin the image in veneer.toml.", verifyNo},
	{boot.Archiso, "verify", "y|n", need(boot.Archiso), Taken, "n; y is refused, since no OpenPGP signature is checked: pin the image in veneer.toml.", verifyNo},
	{boot.Archiso, "cms_verify", "y|n", need(boot.Archiso), Taken, "n; y is refused, since no CMS signature is checked: pin the image in veneer.toml.", verifyNo},
	{boot.Archiso, "archiso_http_srv", "URL", nil, Taken, "The directory of a store on a server: veneer.url=.", fetch},
	{boot.Archiso, "archiso_nbd_srv", "SERVER", nil, Refused, "NBD is not spoken; veneer.url= names a store on an HTTP server", nil},
	{boot.Archiso, "archiso_nfs_srv", "SERVER:/PATH", nil, Refused, "NFS is not spoken; veneer.url= names a store on an HTTP server", nil},
	{boot.Archiso, "archiso_http_spc", "SIZE", nil, Without, "what is fetched takes what it needs, computed before", nil},
	{boot.Archiso, "img_dev", "DEVICE", nil, Taken, "The device that has the ISO img_loop=: veneer.medium=DEVICE:PATH.", func(p *reading, v string, _ bool) error { return p.isoDevice(v) }},
	{boot.Archiso, "img_label", "LABEL", nil, Taken, "The label of that device.", func(p *reading, v string, _ bool) error { return p.isoDevice("LABEL=" + v) }},
	{boot.Archiso, "img_loop", "PATH", nil, Taken, "The medium is an ISO in a file of that path.", isoPath},
	{boot.Archiso, "img_flags", "OPTIONS", nil, Without, "it is mounted read-only and nothing else", nil},

	{overlayroot, "overlayroot", "tmpfs[:OPTIONS]|DEVICE[,OPTIONS]|device:dev=DEVICE[,OPTIONS]|disabled", nil, Taken, "Boot the installed root that root= names (veneer.root=) under an upper in memory, or in a state of ours on a device (veneer.state=). Of the options swap=, timeout= and size= count; recurse=, dir= and driver= change nothing.", (*reading).setOverlayroot},
	{overlayroot, "overlayroot_cfgdisk", "DEVICE", nil, Refused, "no configuration is read from another device: say it on the command line, or in veneer.toml", nil},
	{alpine, "overlaytmpfs", "", nil, Taken, "As overlayroot=tmpfs.", overlayTmpfs},
	{alpine, "overlaytmpfsflags", "size=SIZE", nil, Taken, "The size of that upper: veneer.upper=tmpfs:size=SIZE.", overlayTmpfsFlags},
	{alpine, "apkovl", "URL|PATH", nil, Refused, "no archive of /etc is unpacked; etc/ in veneer.toml and merge rules do that", nil},
	{alpine, "usbdelay", "SECONDS", nil, Without, "devices are waited for as they appear, as long as veneer.wait= says", nil},

	{systemd, "systemd.volatile", "no|overlay|state|yes", nil, Taken, "overlay is veneer.upper=tmpfs; state is left to systemd, which mounts a tmpfs on /var; yes, a root of /usr alone, is refused.", (*reading).setVolatile},
	{systemd, "roothash", "HASH", nil, Refused, "the root hashes of a set are in its signed manifest; a verity partition of systemd's is not opened", nil},
	{systemd, "usrhash", "HASH", nil, Refused, "the root hashes of a set are in its signed manifest; a verity partition of systemd's is not opened", nil},
	{systemd, "systemd.verity_root_data", "DEVICE", nil, Refused, "a verity partition of systemd's is not opened", nil},
	{systemd, "systemd.verity_root_hash", "DEVICE", nil, Refused, "a verity partition of systemd's is not opened", nil},

	{boot.COS, "cos-img/filename", "/cOS/FILE", nil, Taken, "The image that is the base: a file on whatever device has it.", cosImage},
	{immucore, "rd.immucore.overlay", "tmpfs:SIZE|DEVICE", nil, Taken, "The upper in memory: veneer.upper=tmpfs:size=SIZE; a device is refused.", (*reading).setImmucore},
	{immucore, "rd.cos.overlay", "tmpfs:SIZE|DEVICE", nil, Taken, "As rd.immucore.overlay=.", (*reading).setImmucore},
	{immucore, "rd.immucore.mount", "LABEL:NAME:PATH", nil, Refused, "what is mounted where, and kept, is said by persist rules: docs/rules.md", nil},
	{immucore, "rd.cos.mount", "LABEL=NAME:PATH", nil, Refused, "what is mounted where, and kept, is said by persist rules: docs/rules.md", nil},
	{immucore, "rd.immucore.oemlabel", "LABEL", nil, Without, "the stages of cloud-init are the booted system's", nil},
	{immucore, "rd.immucore.oemtimeout", "SECONDS", nil, Without, "the stages of cloud-init are the booted system's", nil},
	{immucore, "rd.immucore.sysrootwait", "SECONDS", nil, Taken, "How long devices are waited for: veneer.wait=.", wait},
	{immucore, "rd.immucore.debug", "", nil, Taken, "Print every mount: veneer.debug.", debug},
	{immucore, "rd.immucore.rebootonfailure", "", nil, Taken, "veneer.on-fail=reboot.", func(p *reading, _ string, _ bool) error { return p.say("veneer.on-fail", string(boot.Reboot)) }},
	{immucore, "rd.immucore.disable", "", nil, Without, "immucore does not run here", nil},
	{immucore, "kairos.ram", "", nil, Taken, "Copy the images to memory: veneer.toram.", toRAM},

	{slax, "from", "DIR|DEVICE/DIR|ISO|URL", nil, Refused, "the numbered modules of Slax and Porteus are not stacked by this version", nil},
	{slax, "perch", "", nil, Refused, "the sessions of Slax are not continued by this version", nil},
	{slax, "perchdir", "resume|new|ask|N", nil, Refused, "the sessions of Slax are not continued by this version", nil},
	{slax, "changes", "DIR|FILE", nil, Refused, "the changes of Porteus are not continued by this version", nil},
}
