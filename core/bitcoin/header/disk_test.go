package header_test

import (
	"maps"
	"slices"
	"strings"

	"coinop.dev/core/step"
)

// A disk is records in memory.
type disk map[string][]byte

func newDisk() disk { return disk{} }

func (d disk) put(records []step.Record) {
	for _, r := range records {
		if r.Value == nil {
			delete(d, r.Key)
			continue
		}
		d[r.Key] = r.Value
	}
}

func (d disk) size() (n int) {
	for key, value := range d {
		n += len(key) + len(value)
	}
	return n
}

func (d disk) Get(key string) ([]byte, error) { return d[key], nil }

func (d disk) Scan(prefix string, yield func(key string, value []byte) bool) error {
	for _, key := range slices.Sorted(maps.Keys(d)) {
		if strings.HasPrefix(key, prefix) && !yield(key, d[key]) {
			break
		}
	}
	return nil
}
