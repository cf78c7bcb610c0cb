package boot

// Dialect is whose parameters a command line speaks, beside our own.
type Dialect string

// The dialects of those who boot media of their own.
const (
	Dracut   Dialect = "dracut"    // dmsquash-live: Fedora and its kin
	LiveBoot Dialect = "live-boot" // Debian
	Casper   Dialect = "casper"    // Ubuntu
	Archiso  Dialect = "archiso"   // Arch
	COS      Dialect = "cos"       // Kairos, Elemental
)

// Foreign is a medium that others built, as their parameters describe it. It carries no signature of ours.
type Foreign struct {
	Dialect Dialect
	Device  DeviceRef // Kind "": each device is looked at, removable ones first
	Marker  string    // the file by which a device is known when each is looked at; "": by the images themselves
	Dir     string    // where on it the images lie, slash-separated, without a leading slash
	Image   string    // the image in Dir, where the line names one: rd.live.squashimg=, the uppermost of layerfs-path=
	List    string    // live-boot: NAME of the file NAME.module, which lists the images
	Kept    Kept
}

// Kept is where others keep what is written.
type Kept struct {
	Asked    bool
	Device   DeviceRef // Kind "": what carries one of Labels
	Labels   []string  // of a file system or a GPT partition, or the name of a file or a directory, as Storage allows
	Storage  []string  // live-boot: filesystem, file, directory; empty for all of them
	Path     string    // where on a device such a file or directory lies, without a leading slash
	Dir      string    // where on Device the upper lies, without a leading slash; "" as the dialect has it
	ReadOnly bool      // what is kept is looked at, and nothing is written to it
}
