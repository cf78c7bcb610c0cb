package boot

// Version is the version of everything that is built from this source: the command, the init, the formats' writers.
const Version = "0.1.0"
