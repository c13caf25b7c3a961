package node

import (
	"fmt"
	"slices"

	"coinop.dev/core/step"
)

// A ring remembers the last Keep of something, in memory and on disk.
type ring[K comparable, V interface{ record() []byte }] struct {
	prefix string
	seq    uint64 // of the next one
	by     map[K]V
	keys   []K // by age, a circle once it is full
}

func newRing[K comparable, V interface{ record() []byte }](prefix string) ring[K, V] {
	return ring[K, V]{prefix: prefix, by: map[K]V{}}
}

func (r *ring[K, V]) key(seq uint64) string { return fmt.Sprintf("%s%016x", r.prefix, seq) }

// add remembers one more, and returns the one that is forgotten for it.
func (r *ring[K, V]) add(k K, v V, fx *step.Effects) (old V, forgot bool) {
	if len(r.keys) < Keep {
		r.keys = append(r.keys, k)
	} else {
		at := r.seq % Keep
		old, forgot = r.by[r.keys[at]], true
		delete(r.by, r.keys[at])
		r.keys[at] = k
		fx.Put = append(fx.Put, step.Record{Key: r.key(r.seq - Keep)})
	}
	r.by[k] = v
	fx.Put = append(fx.Put, step.Record{Key: r.key(r.seq), Value: v.record()})
	r.seq++
	return old, forgot
}

// load reads the ring back; read gives the key of a record.
func (r *ring[K, V]) load(disk step.Reader, read func([]byte) (K, V, error)) error {
	type entry struct {
		seq uint64
		k   K
		v   V
	}
	var list []entry
	var fault error
	err := disk.Scan(r.prefix, func(key string, value []byte) bool {
		var e entry
		if _, err := fmt.Sscanf(key[len(r.prefix):], "%016x", &e.seq); err != nil {
			fault = fmt.Errorf("key %q: %w", key, err)
			return false
		}
		if e.k, e.v, fault = read(slices.Clone(value)); fault != nil {
			fault = fmt.Errorf("record %s: %w", key, fault)
			return false
		}
		list = append(list, e)
		return true
	})
	if err == nil {
		err = fault
	}
	if err != nil || len(list) == 0 {
		return err
	}
	r.seq = list[len(list)-1].seq + 1
	if r.seq <= Keep {
		for _, e := range list {
			r.keys = append(r.keys, e.k)
			r.by[e.k] = e.v
		}
		return nil
	}
	r.keys = make([]K, Keep)
	for _, e := range list {
		r.keys[e.seq%Keep] = e.k
		r.by[e.k] = e.v
	}
	return nil
}
