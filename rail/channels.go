package rail

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"coinop.dev/core/step"
)

// Channels lists the channels that have terms under a prefix of records, as
// <prefix><id in hex>/terms.
func Channels[ID ~[16]byte](db step.Reader, prefix string) (ids []ID, err error) {
	scan := db.Scan(prefix, func(key string, _ []byte) bool {
		name, rest, _ := strings.Cut(key[len(prefix):], "/")
		if rest != "terms" {
			return true
		}
		var id [16]byte
		if len(name) != 2*len(id) {
			err = fmt.Errorf("record %q is not a channel's", key)
		} else if _, err = hex.Decode(id[:], []byte(name)); err == nil {
			ids = append(ids, ID(id))
		}
		return err == nil
	})
	return ids, errors.Join(scan, err)
}
