// Package persisted tests that records which an earlier version has written are
// still written, and read, to the byte.
package persisted

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"testing"

	"coinop.dev/core/step"
	"coinop.dev/sim"
)

// Disk is a disk with records on it.
func Disk(records map[string][]byte) *sim.Disk {
	d := &sim.Disk{}
	for key, value := range records {
		d.Commit([]step.Record{{Key: key, Value: value}})
	}
	return d
}

// Records is what is on a disk.
func Records(disk step.Reader) map[string][]byte {
	records := map[string][]byte{}
	disk.Scan("", func(key string, value []byte) bool {
		records[key] = bytes.Clone(value)
		return true
	})
	return records
}

// A Core can be read from a disk and says what it has there.
type Core interface{ Durable() []step.Record }

// Test compares records with the file at path, which update rewrites, and the
// core that load reads from the file with the records.
func Test[C Core](t *testing.T, path string, update bool, records map[string][]byte, load func(*sim.Disk) (C, error)) {
	t.Helper()
	if update {
		if err := os.WriteFile(path, dump(records), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := dump(records); !bytes.Equal(got, raw) {
		t.Errorf("%s: it is written as\n%s\nand was\n%s", path, got, raw)
	}
	core, err := load(Disk(undump(t, raw)))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range core.Durable() {
		if !bytes.Equal(records[r.Key], r.Value) {
			t.Errorf("%s: %q was %x and is %x", path, r.Key, records[r.Key], r.Value)
		}
	}
}

func dump(records map[string][]byte) []byte {
	var b bytes.Buffer
	Disk(records).Scan("", func(key string, value []byte) bool {
		fmt.Fprintf(&b, "%q %x\n", key, value)
		return true
	})
	return b.Bytes()
}

func undump(t *testing.T, raw []byte) map[string][]byte {
	t.Helper()
	records := map[string][]byte{}
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		var key, value string
		if _, err := fmt.Sscanf(lines.Text(), "%q %s", &key, &value); err != nil {
			t.Fatal(err)
		}
		v, err := hex.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		records[key] = v
	}
	return records
}
