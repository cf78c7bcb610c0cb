// Package keeper does the work in a state directory that is too rare, and too much code, for PID 1: carrying out requests, making an
// upper fit for another base, beginning what is kept with what the images have; and, in package disk, on the disks below it. The init runs it as a program of the verified tools
// layer (`veneer keep`), when a look at the state shows that there is such work, and speaks with it over two pipes.
//
// It guarantees what its parts do (overlay/state, overlay/merge): whatever was cut off is finished by the next call with the same
// arguments, nothing outside the state is written but the disk that was named, no link is followed. It decides by the policy that it is given, and mounts nothing.
//
// stage and overlay/... lie below it, cmd/veneer above. PID 1 never links it.
package keeper
