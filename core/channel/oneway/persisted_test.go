package oneway_test

import (
	"bytes"
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/step"
	"coinop.dev/internal/persisted"
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
	return persisted.Records(k.ends[name].disk), k.terms.ID()
}

// Records of version 1 must be read for ever, so their bytes are kept.
func TestPersistedFormat(t *testing.T) {
	for _, name := range []string{"payer", "payee"} {
		disk, id := written(t, name)
		path := filepath.Join("testdata", "persisted", "v1-"+name+".hex")
		update := flag.Lookup("update").Value.String() == "true"
		persisted.Test(t, path, update, disk, func(d *sim.Disk) (durable, error) { return load(name, d, id) })
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
		d := persisted.Disk(disks[name])
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
