package oneway_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/step"
	"coinop.dev/sim"
)

// written is what the two ends of a channel have on disk after some orders: one
// ticket is not stamped, and the payee has an offer to close.
func written(t testing.TB, name string) (disk map[string][]byte, id oneway.ID) {
	k := newTalk(&testing.T{})
	k.obey("open 10000 sat\nmine 2\ndeliver\ndeliver\npay a 1200 sat\npay b 7 msat\ndeliver\ndeliver\npay c 3 sat\nlose")
	if name == "payee" {
		k.obey("wait 2\ndeliver\ndeliver\nclose payer\ndeliver")
	}
	disk = map[string][]byte{}
	k.ends[name].disk.Scan("", func(key string, value []byte) bool {
		disk[key] = bytes.Clone(value)
		return true
	})
	return disk, k.terms.ID()
}

// Records of version 1 must be read for ever, so their bytes are kept.
func TestPersistedFormat(t *testing.T) {
	for _, name := range []string{"payer", "payee"} {
		disk, id := written(t, name)
		path := filepath.Join("testdata", "persisted", "v1-"+name+".hex")
		if f := flag.Lookup("update"); f.Value.String() == "true" {
			if err := os.WriteFile(path, dump(disk), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := dump(disk); !bytes.Equal(got, raw) {
			t.Errorf("%s is written as\n%s\nand was\n%s", name, got, raw)
		}
		core, err := load(name, stored(undump(t, raw)), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range core.Durable() {
			if !bytes.Equal(disk[r.Key], r.Value) {
				t.Errorf("%s: %s was %x and is %x", name, r.Key, disk[r.Key], r.Value)
			}
		}
	}
}

type durable interface {
	Step(step.Input) step.Effects
	Durable() []step.Record
}

func load(name string, disk *sim.Disk, id oneway.ID) (durable, error) {
	if name == "payer" {
		p, err := oneway.LoadPayer(disk, id, secret("payer"))
		return p, err
	}
	p, err := oneway.LoadPayee(disk, id, secret("payee"))
	return p, err
}

func stored(records map[string][]byte) *sim.Disk {
	d := &sim.Disk{}
	for key, value := range records {
		d.Commit([]step.Record{{Key: key, Value: value}})
	}
	return d
}

func dump(disk map[string][]byte) []byte {
	var b bytes.Buffer
	stored(disk).Scan("", func(key string, value []byte) bool {
		fmt.Fprintf(&b, "%q %x\n", key, value)
		return true
	})
	return b.Bytes()
}

func undump(t testing.TB, raw []byte) map[string][]byte {
	disk := map[string][]byte{}
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		var key, value string
		if _, err := fmt.Sscanf(lines.Text(), "%q %s", &key, &value); err != nil {
			t.Fatal(err)
		}
		v, err := hex.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		disk[key] = v
	}
	return disk
}

// FuzzLoad changes one record: whatever a bad disk says, loading is an error or
// gives a core, and stepping that core at worst asserts.
func FuzzLoad(f *testing.F) {
	for i := range byte(6) {
		f.Add(true, i, uint16(0), []byte{1})
		f.Add(false, i, uint16(3), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	}
	disks := map[string]map[string][]byte{}
	ids := map[string]oneway.ID{}
	for _, name := range []string{"payer", "payee"} {
		disks[name], ids[name] = written(f, name)
	}
	f.Fuzz(func(t *testing.T, isPayer bool, which byte, at uint16, with []byte) {
		name := "payee"
		if isPayer {
			name = "payer"
		}
		d := stored(disks[name])
		var keys []string
		d.Scan("", func(key string, _ []byte) bool { keys = append(keys, key); return true })
		key := keys[int(which)%len(keys)]
		d.Commit([]step.Record{{Key: key, Value: spoil(disks[name][key], int(at), with)}})
		core, err := load(name, d, ids[name])
		if err != nil {
			return
		}
		defer func() {
			r := recover()
			if _, bug := r.(runtime.Error); bug || r != nil && !strings.HasPrefix(fmt.Sprint(r), "assert: ") {
				panic(r)
			}
		}()
		core.Step(step.Input{At: 1, Events: []any{step.Rang{ID: step.Start}}})
		core.Durable()
	})
}

// spoil writes with over a value from at on, or cuts it there.
func spoil(value []byte, at int, with []byte) []byte {
	value = bytes.Clone(value)
	at %= len(value) + 1
	if len(with) == 0 {
		return value[:at:at]
	}
	return append(value[:at], append(with, value[min(len(value), at+len(with)):]...)...)
}
