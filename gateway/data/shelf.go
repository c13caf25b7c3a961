package data

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"coinop.dev/core/keys"
	"coinop.dev/core/sealed"
	"coinop.dev/core/step"
	"coinop.dev/world/store"
)

const (
	// MaxOpen bounds the ciphertexts, in bytes, of streams that wait for their
	// buyers in memory. Those that nobody has paid for go first, the oldest first;
	// their buyers have lost nothing, for who has not a chunk does not pay for it.
	MaxOpen = 16 << 20
	// MaxKept bounds those on disk, of streams that somebody pays for, so that a
	// restart does not end them.
	MaxKept = 64 << 20
)

// A shelf has the sealed chunks of streams for their buyers to fetch. It holds no
// money and no key that is not made again: what falls off it is only inconvenient.
type shelf struct {
	db     store.DB
	seller keys.Secret

	mu   sync.Mutex
	open []*volume // oldest first
	size int
	kept []*volume // without their streams; oldest first, those of earlier runs by name
	disk int
}

// A volume is one stream and its size.
type volume struct {
	id     sealed.ID
	stream *sealed.Stream
	size   int
	kept   bool
}

const keptKey = "data/kept/"

func (s *shelf) load(db store.DB, seller keys.Secret) error {
	s.db, s.seller = db, seller
	bad := ""
	err := db.Scan(keptKey, func(key string, value []byte) bool {
		id, ok := parseID(strings.TrimPrefix(key, keptKey))
		if !ok {
			bad = key
			return false
		}
		s.kept = append(s.kept, &volume{id: id, size: len(value), kept: true})
		s.disk += len(value)
		return true
	})
	if err == nil && bad != "" {
		err = fmt.Errorf("%q names no stream", bad)
	}
	if err != nil {
		return fmt.Errorf("data: streams: %w", err)
	}
	return nil
}

// put makes a stream ready to be fetched.
func (s *shelf) put(stream *sealed.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(&volume{id: stream.ID, stream: stream, size: sizeOf(stream)})
}

// sizeOf is about what a stream is in memory: chunks, digests, keys, orders.
func sizeOf(stream *sealed.Stream) int {
	size := 0
	for i := range stream.Digests {
		size += stream.Length(i+1) + 256
	}
	return size
}

func (s *shelf) add(v *volume) {
	for s.size+v.size > MaxOpen && len(s.open) > 0 {
		i := max(0, slices.IndexFunc(s.open, func(v *volume) bool { return !v.kept }))
		s.size -= s.open[i].size
		s.open = slices.Delete(s.open, i, i+1)
	}
	s.open = append(s.open, v)
	s.size += v.size
}

// get finds a stream in memory, or reads it from disk.
func (s *shelf) get(id sealed.ID) (*sealed.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.open {
		if v.id == id {
			return v.stream, nil
		}
	}
	if !slices.ContainsFunc(s.kept, func(v *volume) bool { return v.id == id }) {
		return nil, ErrGone
	}
	record, err := s.db.Get(keptKey + hex.EncodeToString(id[:]))
	if err != nil || record == nil {
		return nil, errors.Join(ErrGone, err)
	}
	stream, err := sealed.LoadStream(s.seller, record, nil)
	if err != nil {
		return nil, err
	}
	s.add(&volume{id: id, stream: stream, size: sizeOf(stream), kept: true})
	return stream, nil
}

// keep puts a stream that somebody has paid for on disk, if it is still here.
func (s *shelf) keep(id sealed.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.open, func(v *volume) bool { return v.id == id })
	if i < 0 || s.open[i].kept {
		return nil
	}
	v := s.open[i]
	record := v.stream.Record()
	records, disk, kept := []step.Record{{Key: keptKey + hex.EncodeToString(id[:]), Value: record}}, s.disk+len(record), s.kept
	for disk > MaxKept && len(kept) > 0 {
		disk -= kept[0].size
		records = append(records, step.Record{Key: keptKey + hex.EncodeToString(kept[0].id[:])})
		kept = kept[1:]
	}
	if err := s.db.Commit(records); err != nil {
		return err
	}
	v.kept = true
	s.disk, s.kept = disk, append(slices.Clone(kept), &volume{id: id, size: len(record), kept: true})
	return nil
}
