package onion

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"golang.org/x/crypto/chacha20poly1305"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// A Path is a route that does not say through whom it goes, but for the first
// node (BOLT 4, "Route Blinding"). The payee makes it, and the payer ends its
// own route with it.
type Path struct {
	First keys.Public // introduction node
	Key   keys.Public // first_path_key
	Hops  []BlindedHop
}

// A BlindedHop is a node under another name, with what only that node can read.
type BlindedHop struct {
	Node      keys.Public // blinded_node_id
	Encrypted []byte      // encrypted_recipient_data
}

// Blind makes a path of hops, the payee last. The payload of each is its
// HopData. session must be random and used for this path only.
func Blind(session keys.Secret, hops []Hop) (p Path, err error) {
	if len(hops) == 0 || len(hops) > MaxHops {
		return Path{}, fmt.Errorf("blinded path of %d hops; it takes 1 to %d", len(hops), MaxHops)
	}
	p.First = hops[0].Node
	secrets, err := agree(session, hops, &p.Key)
	if err != nil {
		return Path{}, err
	}
	for i, h := range hops {
		tweak := nodeTweak(&secrets[i])
		blinded, err := multiply(&tweak, &h.Node)
		if err != nil {
			return Path{}, err
		}
		sealed := recipientCipher(&secrets[i]).seal(h.Payload)
		p.Hops = append(p.Hops, BlindedHop{blinded, sealed})
	}
	return p, nil
}

// Unblinded is what a node of a blinded path knows from its path key.
type Unblinded struct {
	Node keys.Secret // of the blinded node: what Peel needs if the path key came in update_add_htlc

	key    keys.Public
	shared [32]byte
}

// Unblind takes the path key that came with an HTLC, or in the payload at the
// introduction node.
func Unblind(node keys.Secret, pathKey keys.Public) (u Unblinded, err error) {
	u.key = pathKey
	if u.shared, err = ecdh(node, &u.key); err != nil {
		return Unblinded{}, err
	}
	k, tweak := scalar(node), nodeTweak(&u.shared)
	b := k.Mul(&tweak).Bytes()
	u.Node, err = keys.SecretFromBytes(b[:])
	return u, err
}

// Open decrypts encrypted_recipient_data.
func (u Unblinded) Open(encrypted []byte) (HopData, error) {
	b, err := recipientCipher(&u.shared).open(encrypted)
	if err != nil {
		return HopData{}, err
	}
	return ParseHopData(b)
}

// Next is the path key for the next node, unless d names another.
func (u Unblinded) Next(d HopData) (keys.Public, error) {
	if d.NextKey != (keys.Public{}) {
		return d.NextKey, nil
	}
	return nextKey(&u.key, &u.shared)
}

// nodeTweak is what hides a node's key: without the secret nobody can tell the
// blinded one from random.
func nodeTweak(secret *[32]byte) (k secp256k1.ModNScalar) {
	b := derive("blinded_node_id", secret)
	k.SetBytes(&b)
	return k
}

// recipient is the key that seals a hop's data. It does so once, so the nonce
// is zero.
type recipient [32]byte

func recipientCipher(secret *[32]byte) recipient { return derive("rho", secret) }

func (r recipient) seal(b []byte) []byte {
	aead, err := chacha20poly1305.New(r[:])
	if err != nil {
		panic(err) // of a wrong size, which the types rule out
	}
	return aead.Seal(nil, make([]byte, aead.NonceSize()), b, nil)
}

func (r recipient) open(b []byte) ([]byte, error) {
	aead, err := chacha20poly1305.New(r[:])
	if err != nil {
		panic(err) // of a wrong size, which the types rule out
	}
	if b, err = aead.Open(nil, make([]byte, aead.NonceSize()), b, nil); err != nil {
		return nil, errRecipient
	}
	return b, nil
}

var errRecipient = errors.New("recipient data does not decrypt: it was made for another node, another path, or changed")

// HopData is what the maker of a path says to one hop of it
// (encrypted_data_tlv). Zero means absent.
type HopData struct {
	Padding  int         // zero bytes, to make all hops look the same
	Next     uint64      // short_channel_id to forward over
	NextNode keys.Public // or the node, whatever the channel
	PathID   []byte      // the payee's note to itself
	NextKey  keys.Public // next_path_key_override: another path begins here
	Relay    *Relay
	Bounds   *Bounds
	Features []byte // allowed_features, a bit vector; nil is absent, which means none
}

// A Relay is a hop's price and delay.
type Relay struct {
	Delta uint16 // cltv_expiry_delta, blocks
	Rate  uint32 // fee_proportional_millionths
	Base  uint32 // fee_base_msat
}

// Bounds keep a path from being probed later or with dust.
type Bounds struct {
	MaxExpiry uint32       // max_cltv_expiry, block height
	Least     money.Amount // htlc_minimum_msat
}

// TLV types of encrypted_data_tlv.
const (
	typePadding    = 1
	typePathSCID   = 2
	typeNextNode   = 4
	typePathID     = 6
	typeNextKey    = 8
	typeRelay      = 10
	typeBounds     = 12
	typeFeatures   = 14
	hopDataMaximum = PayloadsSize
)

// Append writes d as a TLV stream.
func (d HopData) Append(b []byte) []byte {
	if d.Padding > 0 {
		b = codec.AppendTLV(b, typePadding, make([]byte, min(d.Padding, hopDataMaximum)))
	}
	if d.Next != 0 {
		b = binary.BigEndian.AppendUint64(append(b, typePathSCID, 8), d.Next)
	}
	if d.NextNode != (keys.Public{}) {
		b = codec.AppendTLV(b, typeNextNode, d.NextNode[:])
	}
	if len(d.PathID) != 0 {
		b = codec.AppendTLV(b, typePathID, d.PathID)
	}
	if d.NextKey != (keys.Public{}) {
		b = codec.AppendTLV(b, typeNextKey, d.NextKey[:])
	}
	if r := d.Relay; r != nil {
		v := binary.BigEndian.AppendUint16(nil, r.Delta)
		v = binary.BigEndian.AppendUint32(v, r.Rate)
		b = codec.AppendTLV(b, typeRelay, codec.AppendTU(v, r.Base))
	}
	if l := d.Bounds; l != nil {
		v := binary.BigEndian.AppendUint32(nil, l.MaxExpiry)
		b = codec.AppendTLV(b, typeBounds, codec.AppendTU(v, l.Least))
	}
	if d.Features != nil {
		b = codec.AppendTLV(b, typeFeatures, d.Features)
	}
	return b
}

// ParseHopData reads what Append writes; slices stay pieces of b. Unknown
// records of odd type are dropped, of even type refused.
func ParseHopData(b []byte) (d HopData, err error) {
	if err := codec.TLVs(b, d.read); err != nil {
		return HopData{}, fmt.Errorf("recipient data: %w", err)
	}
	if d.Next != 0 && d.NextNode != (keys.Public{}) {
		return HopData{}, errors.New("recipient data names both a channel and a node to forward to")
	}
	return d, nil
}

func (d *HopData) read(typ uint64, value []byte) (understood bool, err error) {
	r := codec.NewReader(value)
	switch typ {
	case typePadding:
		d.Padding = len(r.Take(r.Len()))
	case typePathSCID:
		if d.Next = r.U64(); d.Next == 0 {
			r.Fail(errZero)
		}
	case typeNextNode:
		r.Fill(d.NextNode[:])
	case typePathID:
		d.PathID = r.Take(r.Len())
	case typeNextKey:
		r.Fill(d.NextKey[:])
	case typeRelay:
		d.Relay = &Relay{Delta: r.U16(), Rate: r.U32(), Base: r.TU32()}
	case typeBounds:
		d.Bounds = &Bounds{MaxExpiry: r.U32(), Least: readTU64(r)}
	case typeFeatures:
		d.Features = r.Take(r.Len())
	default:
		return false, nil
	}
	return true, r.Close()
}

// Check says whether an HTLC may use the path: amount and expiry, a block
// height, are those of the incoming HTLC. The answer to every error is
// invalid_onion_blinding.
func (d HopData) Check(final bool, amount money.Amount, expiry uint32) error {
	if l := d.Bounds; l != nil && (expiry > l.MaxExpiry || amount < l.Least) {
		return fmt.Errorf("blinded path takes at least %s until height %d; the HTLC has %s until %d", l.Least, l.MaxExpiry, amount, expiry)
	}
	for _, bit := range d.Features {
		if bit != 0 {
			return fmt.Errorf("blinded path wants features %x; we know none", d.Features)
		}
	}
	switch {
	case final:
		return nil
	case d.Next == 0 && d.NextNode == keys.Public{}:
		return errors.New("blinded path does not say where to forward to")
	case d.Relay == nil:
		return errors.New("blinded path does not say for what fee to forward")
	}
	return nil
}

// Forward is what the next HTLC is to have, from what the incoming one has: all
// but the fee, rounded up, and an earlier expiry. It is false if the incoming
// HTLC cannot pay for that.
func (r Relay) Forward(amount money.Amount, expiry uint32) (money.Amount, uint32, bool) {
	if amount < money.Amount(r.Base) || amount > money.MaxAmount || expiry < uint32(r.Delta) {
		return 0, 0, false
	}
	const million = 1_000_000
	whole := million + uint64(r.Rate)
	hi, lo := bits.Mul64(uint64(amount)-uint64(r.Base), million)
	lo, carry := bits.Add64(lo, whole-1, 0)
	next, _ := bits.Div64(hi+carry, lo, whole) // fits: hi is below MaxAmount*million>>64
	return money.Amount(next), expiry - uint32(r.Delta), next > 0 && next <= math.MaxInt64
}
