// Package generation recognises an old copy of a database: a store that was put
// back from a disk image, a snapshot or a backup. To use one is to publish channel
// states that were revoked, and to lose all of the money.
//
// Two places keep the number of the machine's last start: the store, and a counter
// outside of it, which whoever puts the store back does not put back with it: a
// file elsewhere, or a counter of the TPM or token that has the machine's key
// (world/secret). Begin adds one to both at every start, before anything is done
// with the store.
//
// The rule. Let d be the store's number and c the counter's; a number that is
// missing is 0. The store is written first, then the counter, each durably. So an
// honest pair has
//
//	d == c      after a start that was completed, or
//	d == c+1    if the machine died between the two writes,
//
// and both are let in. In the second case the counter is first brought up to d, and
// only then both go to d+1: so a second start that is cut off leaves d == c+1 again
// and not c+2, and no number is given twice, or a copy made in between would pass
// for the start that came after. Anything else is refused:
//
//	d < c       the store was in use after this copy of it was made;
//	d > c+1     the counter is the old one, or is missing, so it says nothing.
//
// In the other order (counter first) an honest pair could have d == c-1, which is
// also what a copy from the start before has: to let in the one is to let in the
// other. In this order no copy from before the last completed start is ever let
// in. What remains is one start: a copy that was made while the machine ran and
// that is put back before the machine has been started again looks like a machine
// that has died, because it has the number of the running start. Against that help
// the backups that peers keep (core/lightning/node, backup.go), and the peers'
// own proof at reconnection (BOLT 2, data loss protection).
//
// A machine whose disk is rolled back as a whole is recognised by a counter that is
// not on the disk. With a file there it is not; the generation is in every backup
// that peers keep, so they are what tells.
package generation

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"coinop.dev/core/keys"
	"coinop.dev/core/step"
	"coinop.dev/world/store"
)

// A Counter keeps a number outside of the store.
type Counter interface {
	// Read returns 0 if there is no number yet.
	Read() (uint64, error)
	// Write is durable when it returns.
	Write(n uint64) error
	// String says where it is, for errors.
	String() string
}

// Key is the store's record.
const Key = "generation"

// Stale means that a store and its counter do not belong together.
type Stale struct {
	Store, Counter uint64
	Where          string // the counter
}

func (e *Stale) Error() string {
	why, remedy := "the store is an old copy", "put the newest store back"
	if e.Store > e.Counter {
		why = "the counter is an old one or was lost, so nobody knows whether the store is an old copy"
		remedy = fmt.Sprintf("put the newest counter back, or set it to %d if the store certainly is the newest", e.Store)
	}
	return fmt.Sprintf("the store is at start %d and its counter %s at start %d: %s, and using it could lose all money in channels; "+
		"%s, or restore the channel backup into an empty store (coinop restore), or start with --accept-stale, which has peers close all channels",
		e.Store, e.Where, e.Counter, why, remedy)
}

// Begin counts a start, and returns its number. It fails with a *Stale, and
// changes nothing, if db may be an old copy.
func Begin(db store.DB, c Counter) (uint64, error) {
	d, n, err := read(db, c)
	if err != nil {
		return 0, err
	}
	if d != n && d != n+1 {
		return 0, &Stale{Store: d, Counter: n, Where: c.String()}
	}
	if d == n+1 { // the start before was cut off
		if err := raise(c, d); err != nil {
			return 0, err
		}
	}
	return write(db, c, d)
}

// Accept counts a start whatever the numbers are, and returns a number above both
// and above least. The caller must make sure that nothing old is used: that db is
// empty, or that all of its channels are given up.
func Accept(db store.DB, c Counter, least uint64) (uint64, error) {
	d, n, err := read(db, c)
	if err != nil {
		return 0, err
	}
	return write(db, c, max(d, n, least))
}

func read(db store.DB, c Counter) (d, n uint64, err error) {
	raw, err := db.Get(Key)
	if err != nil {
		return 0, 0, err
	}
	if raw != nil {
		if d, err = strconv.ParseUint(string(raw), 10, 64); err != nil {
			return 0, 0, fmt.Errorf("record %s is %.20q; it must be a number", Key, raw)
		}
	}
	n, err = c.Read()
	return d, n, err
}

func write(db store.DB, c Counter, last uint64) (uint64, error) {
	if last == math.MaxUint64 {
		return 0, errors.New("generation: there is no number after the last")
	}
	n := last + 1
	if err := db.Commit([]step.Record{{Key: Key, Value: strconv.AppendUint(nil, n, 10)}}); err != nil {
		return 0, err
	}
	return n, raise(c, n)
}

func raise(c Counter, n uint64) error {
	if err := c.Write(n); err != nil {
		return fmt.Errorf("generation: write %s: %w", c, err)
	}
	return nil
}

// File is a counter in a file, readable by people:
//
//	start 17 of 02ab…
//
// It belongs to the machine with one node key; the file of another is an error, so
// that two machines that were given the same path do not stop each other.
type File struct {
	Path string
	Node keys.Public
}

// maxFile bounds the file, in bytes.
const maxFile = 256

// String is the path.
func (f File) String() string { return f.Path }

// Read reads the file. One that does not exist has the number 0.
func (f File) Read() (n uint64, err error) {
	raw, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("generation: %w", err)
	}
	var node string
	fields := strings.Fields(string(raw[:min(len(raw), maxFile)]))
	if len(fields) == 4 && fields[0] == "start" && fields[2] == "of" {
		node = fields[3]
		n, err = strconv.ParseUint(fields[1], 10, 64)
	}
	switch {
	case err != nil || node == "":
		return 0, fmt.Errorf("generation: %s is %.60q; it must be \"start <number> of <node key>\"", f.Path, bytes.TrimSpace(raw))
	case node != f.Node.String():
		return 0, fmt.Errorf("generation: %s belongs to the machine with key %.66s, and this one has %s; give each machine a file of its own", f.Path, node, f.Node)
	}
	return n, nil
}

// Write replaces the file.
func (f File) Write(n uint64) error {
	if err := store.MakeDir(filepath.Dir(f.Path)); err != nil {
		return err
	}
	return store.Replace(f.Path, fmt.Appendf(nil, "start %d of %s\n", n, f.Node))
}
