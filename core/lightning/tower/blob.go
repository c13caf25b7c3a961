package tower

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"golang.org/x/crypto/chacha20poly1305"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
)

// A Hint is by what a tower finds the blobs of a transaction. It says nothing of
// the transaction to who does not have it.
type Hint [16]byte

const (
	// plainSize is what is sealed into every blob, in bytes: the larger of the
	// two layouts, filled up with zeros.
	plainSize = 404
	// SealedSize is what comes out of it.
	SealedSize = chacha20poly1305.NonceSize + plainSize + chacha20poly1305.Overhead
	// BlobSize is a blob with its hint.
	BlobSize = len(Hint{}) + SealedSize
)

// A Blob is a sealed part of a Justice. The txid of the revoked commitment opens
// it, and nothing else. All blobs have one size.
//
// The first blob of a commitment has everything but its HTLCs, of which two go
// into each of as many further blobs as it takes.
type Blob struct {
	Hint   Hint
	Sealed [SealedSize]byte
}

const (
	htlcsPerBlob = 2
	// MaxParts bounds the blobs of one commitment.
	MaxParts = 1 + commit.MaxHTLCs/htlcsPerBlob
	// scriptSize is the longest payout script, in bytes.
	scriptSize = 34
)

// part names one blob of a commitment.
func part(id chainhash.Hash, n int) []byte { return binary.BigEndian.AppendUint16(id[:], uint16(n)) }

// HintOf is the hint of part n of what is sealed for a txid.
func HintOf(id chainhash.Hash, n int) Hint {
	d := keys.Digest("coinop/tower/hint", part(id, n))
	return Hint(d[:len(Hint{})])
}

func seal(id chainhash.Hash, n int, plain *[plainSize]byte) (b Blob) {
	key := keys.Digest("coinop/tower/key", part(id, n))
	// The nonce follows from what is sealed, so that sealing something else
	// under the same txid is no second use of a nonce.
	nonce := keys.Digest("coinop/tower/nonce", key[:], plain[:])
	b.Hint = HintOf(id, n)
	size := copy(b.Sealed[:], nonce[:chacha20poly1305.NonceSize])
	aead(key).Seal(b.Sealed[:size], b.Sealed[:size], plain[:], nil)
	return b
}

func aead(key [32]byte) cipher.AEAD {
	c, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic(err) // the key has the right size
	}
	return c
}

// errSealed says that a blob is of another transaction.
var errSealed = errors.New("this transaction does not open the blob")

func open(id chainhash.Hash, n int, sealed *[SealedSize]byte) ([]byte, error) {
	const nonce = chacha20poly1305.NonceSize
	plain, err := aead(keys.Digest("coinop/tower/key", part(id, n))).Open(nil, sealed[:nonce], sealed[nonce:], nil)
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

// Seal cuts j into blobs that the txid of the revoked commitment opens.
func (j *Justice) Seal(id chainhash.Hash) []Blob {
	blobs := make([]Blob, j.parts())
	var plain [plainSize]byte
	copy(plain[:], j.appendMain(nil))
	blobs[0] = seal(id, 0, &plain)
	for n := 1; n < len(blobs); n++ {
		plain = [plainSize]byte{}
		copy(plain[:], j.appendHTLCs(nil, n))
		blobs[n] = seal(id, n, &plain)
	}
	return blobs
}

func (j *Justice) parts() int { return 1 + (len(j.HTLCs)+htlcsPerBlob-1)/htlcsPerBlob }

// Open undoes Seal. Find gives the candidates for a part: anybody may have given
// the tower a blob with the same hint, so there can be several.
func Open(id chainhash.Hash, first *[SealedSize]byte, find func(Hint) []*[SealedSize]byte) (*Justice, error) {
	plain, err := open(id, 0, first)
	if err != nil {
		return nil, err
	}
	j, parts, err := readMain(plain)
	if err != nil {
		return nil, err
	}
	for n := 1; n < parts; n++ {
		for _, sealed := range find(HintOf(id, n)) {
			// A part that is missing or bad costs its own HTLCs only.
			if plain, err := open(id, n, sealed); err == nil && j.readHTLCs(plain) == nil {
				break
			}
		}
	}
	return j, nil
}

func (s *Sigs) append(b []byte) []byte { return append(append(b, s[0][:]...), s[1][:]...) }

func (s *Sigs) read(r *codec.Reader) {
	r.Fill(s[0][:])
	r.Fill(s[1][:])
}

func (j *Justice) appendMain(b []byte) []byte {
	b = append(b, byte(j.Type), byte(j.Delay>>8), byte(j.Delay))
	b = binary.BigEndian.AppendUint16(b, uint16(j.parts()))
	for _, k := range []keys.Public{j.Keys.Revocation, j.Keys.Delayed, j.Keys.Payment} {
		b = append(b, k[:]...)
	}
	var script [scriptSize]byte
	b = append(b, byte(copy(script[:], j.Payout)))
	b = append(b, script[:]...)
	return j.ToRemote.append(j.ToLocal.append(b))
}

// readMain reads what appendMain writes, and the number of parts.
func readMain(plain []byte) (j *Justice, parts int, err error) {
	r := codec.NewReader(plain)
	j = &Justice{Type: commit.Type(r.U8()), Delay: r.U16()}
	parts = int(r.U16())
	for _, k := range []*keys.Public{&j.Keys.Revocation, &j.Keys.Delayed, &j.Keys.Payment} {
		r.Fill(k[:])
	}
	size := int(r.U8())
	script := r.Take(scriptSize)
	j.ToLocal.read(r)
	j.ToRemote.read(r)
	if err := filled(r); err != nil {
		return nil, 0, err
	}
	switch {
	case j.Type > commit.Anchors:
		return nil, 0, fmt.Errorf("blob is of channel type %d, which is unknown", j.Type)
	case parts < 1 || parts > MaxParts:
		return nil, 0, fmt.Errorf("blob is one of %d; the limit is %d", parts, MaxParts)
	case size > scriptSize || !payable(script[:size]) || !zero(script[size:]):
		return nil, 0, errors.New("payout script in a blob is no P2WPKH, P2WSH or P2TR")
	}
	j.Payout = bytes.Clone(script[:size])
	return j, parts, nil
}

// filled takes the zeros at the end.
func filled(r *codec.Reader) error {
	if rest := r.Take(r.Len()); !zero(rest) {
		r.Fail(errors.New("blob is not filled up with zeros"))
	}
	return r.Close()
}

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// appendHTLCs writes the HTLCs of part n.
func (j *Justice) appendHTLCs(b []byte, n int) []byte {
	from := (n - 1) * htlcsPerBlob
	list := j.HTLCs[from:min(from+htlcsPerBlob, len(j.HTLCs))]
	b = append(append(b, j.Keys.HTLC[:]...), j.Keys.OtherHTLC[:]...)
	b = append(b, byte(len(list)))
	for i := range list {
		h := &list[i]
		b = binary.BigEndian.AppendUint16(b, h.Vout)
		offered := byte(0)
		if h.Offered {
			offered = 1
		}
		b = append(b, offered)
		b = binary.BigEndian.AppendUint32(b, h.Expiry)
		b = append(b, h.Hash[:]...)
		b = h.Sigs.append(b)
	}
	return b
}

// readHTLCs adds what appendHTLCs writes.
func (j *Justice) readHTLCs(plain []byte) error {
	r := codec.NewReader(plain)
	var own, other keys.Public
	r.Fill(own[:])
	r.Fill(other[:])
	n := r.U8()
	if n < 1 || n > htlcsPerBlob {
		r.Fail(fmt.Errorf("blob has %d HTLCs; it must be 1 to %d", n, htlcsPerBlob))
		n = 0
	}
	list := make([]HTLC, n)
	for i := range list {
		h := &list[i]
		h.Vout = r.U16()
		switch offered := r.U8(); offered {
		case 0, 1:
			h.Offered = offered == 1
		default:
			r.Fail(fmt.Errorf("HTLC in a blob has direction %d", offered))
		}
		h.Expiry = r.U32()
		r.Fill(h.Hash[:])
		h.Sigs.read(r)
	}
	if err := filled(r); err != nil {
		return err
	}
	j.Keys.HTLC, j.Keys.OtherHTLC = own, other
	j.HTLCs = append(j.HTLCs, list...)
	return nil
}

// append writes j in the open, for the tower's own record of a breach.
func (j *Justice) append(b []byte) []byte {
	b = codec.AppendBytes(b, j.appendMain(nil))
	for n := 1; n < j.parts(); n++ {
		b = codec.AppendBytes(b, j.appendHTLCs(nil, n))
	}
	return b
}

func readJustice(r *codec.Reader) *Justice {
	j, parts, err := readMain(r.Bytes(plainSize, "justice"))
	for n := 1; n < parts && err == nil; n++ {
		err = j.readHTLCs(r.Bytes(plainSize, "justice"))
	}
	if err != nil {
		r.Fail(err)
	}
	return j
}
