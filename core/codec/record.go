package codec

import "fmt"

// A Source is where records are read from; step.Reader is one.
type Source interface {
	Get(key string) ([]byte, error)
	Scan(prefix string, yield func(key string, value []byte) bool) error
}

// Record decodes one record; an error names it. A record that is missing is
// empty, which no decoder of a record takes.
func Record(db Source, key string, decode func(r *Reader)) error {
	raw, err := db.Get(key)
	if err != nil {
		return err
	}
	return decodeRecord(key, raw, decode)
}

func decodeRecord(key string, raw []byte, decode func(r *Reader)) error {
	r := NewReader(raw)
	decode(r)
	if err := r.Close(); err != nil {
		return fmt.Errorf("record %q: %w", key, err)
	}
	return nil
}

// Scan decodes the records whose keys start with prefix, in key order; name is
// the rest of the key.
func Scan(db Source, prefix string, decode func(name string, r *Reader)) (err error) {
	fault := db.Scan(prefix, func(key string, value []byte) bool {
		err = decodeRecord(key, value, func(r *Reader) { decode(key[len(prefix):], r) })
		return err == nil
	})
	if fault != nil {
		return fault
	}
	return err
}
