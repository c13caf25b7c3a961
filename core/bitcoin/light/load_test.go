package light_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/bitcoin/light"
)

// A disk breaks or loses a record, of each kind in turn: the client starts, and
// learns again what it held.
func TestBrokenRecordsAreLearnedAgain(t *testing.T) {
	t.Parallel()
	tr, tip := longChain()
	scripts := [][]byte{script(1), script(5), script(10), script(17)}
	b := newBench(t, tr, light.Options{})
	b.watch(0, scripts...)
	h := newNode("h", tip)
	b.join(h)
	b.agrees(tip, scripts...)
	saved := maps.Clone(b.disk)
	kinds := map[string][]string{} // the keys of each
	for _, key := range slices.Sorted(maps.Keys(saved)) {
		parts := strings.SplitAfter(key, "/")
		kind := strings.Join(parts[:min(len(parts), 2)], "")
		if strings.HasPrefix(key, light.Prefix+"header/") {
			kind = strings.TrimRight(key, "0123456789abcdef")
		}
		kinds[kind] = append(kinds[kind], key)
	}
	if len(kinds) < 8 {
		t.Fatalf("kinds of records are %v", slices.Sorted(maps.Keys(kinds)))
	}
	ways := map[string]func(value []byte) []byte{
		"cut":   func(v []byte) []byte { return v[:len(v)/2] },
		"long":  func(v []byte) []byte { return append(bytes.Clone(v), 1) },
		"other": func(v []byte) []byte { return bytes.Repeat([]byte{0xff}, len(v)) },
		"gone":  func(v []byte) []byte { return nil },
	}
	for kind, keys := range kinds {
		for way, change := range ways {
			switch {
			case way == "gone" && kind == light.Prefix+"tx/":
				continue // nobody can see that
			case way == "long" && strings.HasPrefix(kind, light.Prefix+"header/"):
				continue // core/bitcoin/header tells these stories
			}
			t.Run(strings.TrimPrefix(kind, light.Prefix)+" "+way, func(t *testing.T) {
				b := newBench(t, tr, light.Options{})
				b.every, b.disk = 1<<30, maps.Clone(saved)
				key := keys[len(keys)/2]
				if b.disk[key] = change(b.disk[key]); b.disk[key] == nil {
					delete(b.disk, key)
				}
				b.restart()
				b.check()
				for left := range b.disk {
					if strings.HasPrefix(kind, light.Prefix+"header/") && (strings.HasPrefix(left, light.Prefix+"tx/") || strings.HasPrefix(left, light.Prefix+"mark/")) {
						t.Errorf("without headers there is %s", left)
					}
				}
				b.watch(0, scripts...)
				b.join(h)
				b.agrees(tip, scripts...)
				b.isKept(h)
				b.watch(0, script(3)) // for which hashes are read from disk
				b.run()
				b.agrees(tip, script(3))
			})
		}
	}
}

// What BIP 37 keeps is made anew, and what one peer alone may have told of is
// looked through again.
func TestBrokenBloomRecords(t *testing.T) {
	for _, kind := range []string{"tweak", "alone"} {
		for _, cut := range []int{0, 1} {
			w := newBloomWorld(t)
			for range 5 {
				w.mine(0)
			}
			w.watch(bloomScript("ours", 1))
			w.connect("a", nil)
			w.run()
			key := light.Prefix + kind
			if w.records[key] == nil {
				t.Fatalf("there is no record %s", key)
			}
			w.records[key] = w.records[key][:cut]
			w.restart()
			if s := w.client.Summary(bloomNow); kind == "alone" && !strings.Contains(s.Warning, "heights 1 to 5") {
				t.Errorf("the warning is %q; want it to name all heights", s.Warning)
			}
			w.connect("b", nil)
			w.connect("c", nil)
			w.run()
			if s := w.client.Summary(bloomNow); !s.Synced || s.Warning != light.BloomWarning {
				t.Errorf("with two peers the summary is %+v", s)
			}
		}
	}
}

var errDisk = errors.New("the disk is on fire")

// A failing is a disk that cannot be read after some reads.
type failing struct {
	disk
	left int
}

func (f *failing) fails() bool { f.left--; return f.left < 0 }

func (f *failing) Get(key string) ([]byte, error) {
	if f.fails() {
		return nil, errDisk
	}
	return f.disk.Get(key)
}

func (f *failing) Scan(prefix string, yield func(string, []byte) bool) error {
	if f.fails() {
		return errDisk
	}
	return f.disk.Scan(prefix, yield)
}

// A disk that cannot be read is not one that has lost records: nothing is thrown
// away.
func TestADiskThatCannotBeReadIsAnError(t *testing.T) {
	tr := newTree(regtest())
	tip, _, _, _, _ := payment(tr)
	b := newBench(t, tr, light.Options{})
	b.watch(0, script(1), script(2))
	b.join(newNode("h", tip))
	for reads := 0; ; reads++ {
		_, err := light.Load(&failing{b.disk, reads}, b.options)
		if err == nil && reads > 8 {
			return
		}
		if !errors.Is(err, errDisk) {
			t.Fatalf("after %d reads Load gives %v", reads, err)
		}
	}
}
