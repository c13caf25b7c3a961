package invoice

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"coinop.dev/core/keys"
)

// Types of tagged fields (BOLT 11, "Tagged Fields"); the letter is how bech32
// writes them.
const (
	typeHash            = 1  // p
	typeHint            = 3  // r
	typeFeatures        = 5  // 9
	typeExpiry          = 6  // x
	typeFallback        = 9  // f
	typeDescription     = 13 // d
	typeSecret          = 16 // s
	typePayee           = 19 // n
	typeDescriptionHash = 23 // h
	typeFinalCLTV       = 24 // c
	typeMetadata        = 27 // m

	// skipped stands in Invoice.order for an unknown field.
	skipped = 0xff
)

// fresh is the order of fields in a new invoice.
var fresh = []byte{
	typeSecret, typeHash, typeDescription, typeDescriptionHash, typeMetadata, typeExpiry, typeFinalCLTV,
	typeFallback, typeHint, typeFeatures, skipped,
}

const (
	hashWords    = 52
	payeeWords   = 53
	maxWords     = 1<<10 - 1 // of one field: its length has 10 bits
	maxFieldSize = maxWords * 5 / 8
	hopSize      = len(keys.Public{}) + 8 + 4 + 4 + 2
)

// A Field is a tagged field that is not understood.
type Field struct {
	Type  byte   // 0 to 31
	Words []byte // of 5 bits
}

func (f Field) valid() bool {
	return f.Type < 32 && len(f.Words) <= maxWords && !slices.ContainsFunc(f.Words, func(w byte) bool { return w > 31 })
}

// A Fallback is an on-chain address to pay to when Lightning fails.
type Fallback struct {
	// Version is a witness version, 0 to 16, or P2PKH or P2SH.
	Version byte
	Program []byte // the witness program or hash
}

// Versions of fallback addresses that are no witness versions.
const (
	P2PKH = 17
	P2SH  = 18
)

func (f Fallback) valid() bool {
	switch n := len(f.Program); {
	case f.Version == 0:
		return n == 20 || n == 32
	case f.Version <= 16:
		return 2 <= n && n <= 40 // BIP 141
	case f.Version == P2PKH || f.Version == P2SH:
		return n == 20
	}
	return false
}

// readFields reads the tagged fields and reports which types it understood. A
// field that a reader must skip goes to Unknown. A second field where there
// must be one is an error: it would mean one thing to one reader and another
// to another.
func (i *Invoice) readFields(words []byte) (seen [32]bool, err error) {
	for len(words) > 0 {
		if len(words) < 3 {
			return seen, errors.New("ends in the middle of a field")
		}
		typ, n := words[0], int(words[1])<<5|int(words[2])
		if n > len(words)-3 {
			return seen, fmt.Errorf("field of type %d says %d words, and %d are left", typ, n, len(words)-3)
		}
		value := words[3 : 3+n]
		words = words[3+n:]
		ok, err := i.readField(typ, value)
		if err != nil {
			return seen, err
		}
		if !ok {
			if len(i.Unknown) == MaxUnknown {
				return seen, fmt.Errorf("too many unknown fields; the limit is %d", MaxUnknown)
			}
			i.Unknown = append(i.Unknown, Field{typ, value})
			i.order = append(i.order, skipped)
			continue
		}
		if seen[typ] && typ != typeHint && typ != typeFallback {
			return seen, fmt.Errorf("two fields of type %d", typ)
		}
		seen[typ] = true
		i.order = append(i.order, typ)
	}
	return seen, nil
}

// readField reads one field; ok is false if it is to be skipped.
func (i *Invoice) readField(typ byte, words []byte) (ok bool, err error) {
	switch typ {
	case typeHash:
		return fill(i.Hash[:], words, hashWords), nil
	case typeSecret:
		return fill(i.Secret[:], words, hashWords), nil
	case typePayee:
		return fill(i.Payee[:], words, payeeWords), nil
	case typeDescriptionHash:
		var h [32]byte
		if ok = fill(h[:], words, hashWords); ok {
			i.DescriptionHash = &h
		}
	case typeDescription:
		text := string(appendBytes(make([]byte, 0, len(words)*5/8), words))
		if ok = utf8.ValidString(text); ok {
			i.Description = text
		}
	case typeMetadata:
		i.Metadata, ok = appendBytes([]byte{}, words), true
	case typeExpiry:
		n, fits := number(words, MaxExpiry)
		if !fits {
			return false, fmt.Errorf("expiry is more than %d seconds", int64(MaxExpiry))
		}
		i.Expiry, ok = int64(n), true
	case typeFinalCLTV:
		n, fits := number(words, math.MaxUint32)
		if !fits {
			return false, fmt.Errorf("final CLTV is more than %d blocks", uint32(math.MaxUint32))
		}
		i.FinalCLTV, ok = uint32(n), true
	case typeFeatures:
		i.Features, ok = readFeatures(words), true
	case typeFallback:
		return i.readFallback(words)
	case typeHint:
		return i.readHint(words)
	}
	return ok, nil
}

func fill(dst, words []byte, want int) bool {
	if len(words) != want {
		return false
	}
	appendBytes(dst[:0], words)
	return true
}

func (i *Invoice) readFallback(words []byte) (ok bool, err error) {
	if len(words) == 0 {
		return false, nil
	}
	f := Fallback{words[0], appendBytes(nil, words[1:])}
	if !f.valid() || len(words)-1 != wordCount(len(f.Program)) {
		return false, nil
	}
	if len(i.Fallbacks) == MaxFallbacks {
		return false, fmt.Errorf("too many fallback addresses; the limit is %d", MaxFallbacks)
	}
	i.Fallbacks = append(i.Fallbacks, f)
	return true, nil
}

func (i *Invoice) readHint(words []byte) (ok bool, err error) {
	hops := len(words) * 5 / 8 / hopSize
	if hops == 0 || len(words) != wordCount(hops*hopSize) {
		return false, nil
	}
	if len(i.Hints) == MaxRoutes {
		return false, fmt.Errorf("too many routes; the limit is %d", MaxRoutes)
	}
	b := appendBytes(make([]byte, 0, hops*hopSize), words)
	route := make([]Hint, hops)
	for k := range route {
		h := &route[k]
		b = b[copy(h.Node[:], b):]
		h.SCID = binary.BigEndian.Uint64(b)
		h.FeeBase = binary.BigEndian.Uint32(b[8:])
		h.FeePPM = binary.BigEndian.Uint32(b[12:])
		h.CLTVDelta = binary.BigEndian.Uint16(b[16:])
		b = b[18:]
	}
	i.Hints = append(i.Hints, route)
	return true, nil
}

// A writer lays out the fields of an invoice: first as they were read, then
// what is left.
type writer struct {
	*Invoice
	b                         []byte
	done                      [32]bool
	routes, addresses, strays int // how many were written
}

func (i *Invoice) appendFields(b []byte) []byte {
	w := writer{Invoice: i, b: b}
	for _, typ := range i.order {
		w.field(typ, true)
	}
	for _, typ := range fresh {
		for w.field(typ, false) {
		}
	}
	return w.b
}

// field writes the next field of a type, if the invoice has one. Stated says
// that an invoice that was read had it, so that a default is written too.
func (w *writer) field(typ byte, stated bool) bool {
	switch typ {
	case typeHint:
		if w.routes == len(w.Hints) {
			return false
		}
		w.bytes(typ, appendRoute(nil, w.Hints[w.routes]))
		w.routes++
		return true
	case typeFallback:
		if w.addresses == len(w.Fallbacks) {
			return false
		}
		f := w.Fallbacks[w.addresses]
		w.words(typ, appendWords([]byte{f.Version}, f.Program))
		w.addresses++
		return true
	case skipped:
		if w.strays == len(w.Unknown) {
			return false
		}
		f := w.Unknown[w.strays]
		w.words(f.Type, f.Words)
		w.strays++
		return true
	}
	if w.done[typ] || !w.has(typ, stated) {
		return false
	}
	w.done[typ] = true
	w.single(typ)
	return true
}

func (w *writer) has(typ byte, stated bool) bool {
	switch typ {
	case typeDescription:
		return w.DescriptionHash == nil
	case typeDescriptionHash:
		return w.DescriptionHash != nil
	case typeMetadata:
		return w.Metadata != nil
	case typeExpiry:
		return stated || w.Expiry != DefaultExpiry && w.Expiry != 0
	case typeFinalCLTV:
		return stated || w.order == nil || w.FinalCLTV != DefaultFinalCLTV && w.FinalCLTV != 0
	case typeFeatures:
		return len(w.Features.trimmed()) > 0
	case typePayee:
		return w.Payee != keys.Public{}
	}
	return true
}

func (w *writer) single(typ byte) {
	switch typ {
	case typeHash:
		w.bytes(typ, w.Hash[:])
	case typeSecret:
		w.bytes(typ, w.Secret[:])
	case typePayee:
		w.bytes(typ, w.Payee[:])
	case typeDescription:
		w.bytes(typ, []byte(w.Description))
	case typeDescriptionHash:
		w.bytes(typ, w.DescriptionHash[:])
	case typeMetadata:
		w.bytes(typ, w.Metadata)
	case typeExpiry:
		w.words(typ, appendNumber(nil, uint64(w.Expiry)))
	case typeFinalCLTV:
		n := w.FinalCLTV
		if w.order == nil && n == 0 {
			n = DefaultFinalCLTV
		}
		w.words(typ, appendNumber(nil, uint64(n)))
	case typeFeatures:
		w.words(typ, w.Features.words())
	}
}

func (w *writer) head(typ byte, n int) { w.b = append(w.b, typ, byte(n>>5), byte(n&31)) }

func (w *writer) words(typ byte, words []byte) {
	w.head(typ, len(words))
	w.b = append(w.b, words...)
}

func (w *writer) bytes(typ byte, data []byte) {
	w.head(typ, wordCount(len(data)))
	w.b = appendWords(w.b, data)
}

func appendRoute(b []byte, route []Hint) []byte {
	for _, h := range route {
		b = append(b, h.Node[:]...)
		b = binary.BigEndian.AppendUint64(b, h.SCID)
		b = binary.BigEndian.AppendUint32(b, h.FeeBase)
		b = binary.BigEndian.AppendUint32(b, h.FeePPM)
		b = binary.BigEndian.AppendUint16(b, h.CLTVDelta)
	}
	return b
}
