// Package all links every rail into rail.Default. One file is one rail; the tag
// omit_<name> leaves it out of a small build.
package all
