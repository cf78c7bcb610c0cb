// Package state is the state directory: what a machine keeps from one boot to the next, beside the data itself. It knows the
// names in it, writes stamps, files requests and carries them out (reset, undo, restore, quarantine), keeps the journal, blesses
// a boot, makes and deletes snapshots.
//
// It guarantees that every change is one of three: a file replaced as a whole, a rename, or the deletion of what was moved out of
// use before. A stop at any instant leaves a state that CarryOut completes at the next boot, with the result that it would have
// had undisturbed. A reset copies nothing and works with no byte free. It follows no symbolic link and crosses no mount, reads a
// bounded part of what it finds, and reports what it does not understand instead of touching it.
//
// It does not mount, does not decide what the rules are (the caller passes Places), and knows nothing of the merge.
//
// overlay/entry and images/canonical sit below it, stage, initramfs/machine and cmd/veneer above. PID 1 links what
// every boot needs of it: the format, stamps, the count of boots, and looks that tell whether there is more to do. The rest runs in
// the keeper.
package state
