// Package rule says what happens to single paths of the merged root: which survive, how, and who may say otherwise.
//
// It guarantees that a set of rules which passed Check has one meaning: no path has two rules, none lies below a path that is
// hidden, and what a rule leaves open has one default. It decides nothing about mounts; package overlay plans those.
//
// It is pure and imports canonical alone; images carries rules in the manifest, overlay plans them, images/build reads them.
package rule
