package sim

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/step"
)

// A Disk is a log of commits, each with its length and checksum, and the
// records they leave. Recover reads the log again, as a store does after a
// crash, and cuts off a torn end.
type Disk struct {
	log     []byte
	records map[string][]byte
	sorted  []string // keys, when they have been needed in order
}

// Commit appends one entry to the log.
func (d *Disk) Commit(records []step.Record) error {
	d.log = append(d.log, encode(records)...)
	d.apply(records)
	return nil
}

// with is the disk as it would be with more records on it.
func (d *Disk) with(records []step.Record) *Disk {
	if len(records) == 0 {
		return d
	}
	more := &Disk{records: maps.Clone(d.records)}
	more.apply(records)
	return more
}

func (d *Disk) apply(records []step.Record) {
	if d.records == nil {
		d.records = map[string][]byte{}
	}
	for _, r := range records {
		if r.Value == nil {
			delete(d.records, r.Key)
		} else {
			d.records[r.Key] = r.Value
		}
	}
	d.sorted = nil
}

// tear writes only the beginning of an entry.
func (d *Disk) tear(records []step.Record, r *rand.Rand) {
	entry := encode(records)
	d.log = append(d.log, entry[:r.IntN(len(entry))]...)
}

func encode(records []step.Record) []byte {
	var body []byte
	for _, r := range records {
		body = codec.AppendBytes(body, r.Key)
		if r.Value == nil {
			body = append(body, 0)
			continue
		}
		body = codec.AppendBytes(append(body, 1), r.Value)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	head = binary.BigEndian.AppendUint32(head, crc32.ChecksumIEEE(body))
	return append(head, body...)
}

// Recover replays the log from its beginning.
func (d *Disk) Recover() (*Disk, error) {
	d.records, d.sorted = map[string][]byte{}, nil
	rest := d.log
	for len(rest) >= 8 {
		n := int(binary.BigEndian.Uint32(rest))
		if n > len(rest)-8 || crc32.ChecksumIEEE(rest[8:8+n]) != binary.BigEndian.Uint32(rest[4:]) {
			break
		}
		r, records := codec.NewReader(rest[8:8+n]), []step.Record(nil)
		for r.Len() > 0 {
			rec := step.Record{Key: r.String(n, "key")}
			if r.U8() == 1 {
				rec.Value = append([]byte{}, r.Bytes(n, "value")...)
			}
			records = append(records, rec)
		}
		if r.Err() != nil {
			return nil, errors.New("the simulated disk cannot read its own log")
		}
		d.apply(records)
		rest = rest[8+n:]
	}
	d.log = d.log[:len(d.log)-len(rest)]
	return d, nil
}

// Get is step.Reader's.
func (d *Disk) Get(key string) ([]byte, error) { return d.records[key], nil }

// Scan is step.Reader's.
func (d *Disk) Scan(prefix string, yield func(string, []byte) bool) error {
	if d.sorted == nil {
		for key := range d.records {
			d.sorted = append(d.sorted, key)
		}
		slices.Sort(d.sorted)
	}
	from, _ := slices.BinarySearch(d.sorted, prefix)
	for _, key := range d.sorted[from:] {
		if !strings.HasPrefix(key, prefix) || !yield(key, d.records[key]) {
			break
		}
	}
	return nil
}
