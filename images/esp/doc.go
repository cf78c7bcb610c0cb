// Package esp is the EFI system partition of a machine as those see it who renew what is on it: where it is, which names its boot entries
// have, and how a file on FAT is replaced so that a power cut leaves the old one or the new.
//
// It guarantees that no name ever stands for half a file: what is new is written under another name, made durable and read back before it
// gets its own. It looks at the partition of the system that runs, or at a directory that it is given.
package esp
