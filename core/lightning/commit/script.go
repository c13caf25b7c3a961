package commit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/btcsuite/btcd/txscript/v2"
	"golang.org/x/crypto/ripemd160" //lint:ignore SA1019 Bitcoin's HASH160 is RIPEMD-160 over SHA-256

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
)

// Scripts are put together by hand: a commitment has hundreds, and all but one
// or two pushes of each are the same.

func pushKey(b []byte, k *keys.Public) []byte {
	return append(append(b, txscript.OP_DATA_33), k[:]...)
}

// pushNumber pushes a script number that is not negative, in the shortest way.
func pushNumber(b []byte, n uint32) []byte {
	switch {
	case n == 0:
		return append(b, txscript.OP_0)
	case n <= 16:
		return append(b, txscript.OP_1-1+byte(n))
	}
	var le [5]byte
	binary.LittleEndian.PutUint32(le[:], n)
	size := 5
	for le[size-1] == 0 && le[size-2] < 0x80 { // the top bit is the sign
		size--
	}
	return append(append(b, byte(size)), le[:size]...)
}

func appendFundingScript(b []byte, one, two *keys.Public) []byte {
	if bytes.Compare(one[:], two[:]) > 0 {
		one, two = two, one
	}
	b = pushKey(append(b, txscript.OP_2), one)
	return append(pushKey(b, two), txscript.OP_2, txscript.OP_CHECKMULTISIG)
}

// ToLocalScript is the witness script of to_local and of the output of a
// second-stage transaction: the owner's after delay blocks, or the other side's
// at once when it has the revocation key.
func ToLocalScript(revocation, delayed keys.Public, delay uint16) []byte {
	b := make([]byte, 0, 79)
	b = pushKey(append(b, txscript.OP_IF), &revocation)
	b = pushNumber(append(b, txscript.OP_ELSE), uint32(delay))
	b = pushKey(append(b, txscript.OP_CHECKSEQUENCEVERIFY, txscript.OP_DROP), &delayed)
	return append(b, txscript.OP_ENDIF, txscript.OP_CHECKSIG)
}

// ToRemoteScript is the witness script of to_remote with anchors: spendable
// after one block, so that it cannot be used to pin the commitment. With
// static_remotekey to_remote is P2WPKH and has none.
func ToRemoteScript(payment keys.Public) []byte {
	b := pushKey(make([]byte, 0, 37), &payment)
	return append(b, txscript.OP_CHECKSIGVERIFY, txscript.OP_1, txscript.OP_CHECKSEQUENCEVERIFY)
}

// AnchorScript is the witness script of the anchor of whoever has the funding
// key; after 16 blocks it is anybody's.
func AnchorScript(funding keys.Public) []byte {
	b := pushKey(make([]byte, 0, 40), &funding)
	return append(b, txscript.OP_CHECKSIG, txscript.OP_IFDUP, txscript.OP_NOTIF,
		txscript.OP_16, txscript.OP_CHECKSEQUENCEVERIFY, txscript.OP_ENDIF)
}

// HTLCScript is the witness script of an HTLC output in a commitment with keys
// k. offered means that the commitment's owner offered the HTLC.
func (t Type) HTLCScript(k Keys, offered bool, hash [32]byte, expiry uint32) []byte {
	return newHTLCScripts(t, &k).append(make([]byte, 0, maxHTLCScript), offered, &hash, expiry)
}

// maxHTLCScript bounds the bytes of an HTLC's witness script: a received one
// with an expiry of five bytes, and what anchors add.
const maxHTLCScript = 145

// htlcScripts has the parts that are the same in all HTLC scripts of a
// commitment.
type htlcScripts struct {
	head          []byte // up to and with OP_EQUAL after OP_SIZE 32
	offered       []byte // from there up to the payment hash
	tail          []byte // the end of both
	ownKey, other keys.Public
}

func newHTLCScripts(t Type, k *Keys) *htlcScripts {
	s := &htlcScripts{ownKey: k.HTLC, other: k.OtherHTLC}
	b := append(make([]byte, 0, 72), txscript.OP_DUP, txscript.OP_HASH160, txscript.OP_DATA_20)
	b = append(b, tx.Hash160(k.Revocation[:])...)
	b = append(b, txscript.OP_EQUAL, txscript.OP_IF, txscript.OP_CHECKSIG, txscript.OP_ELSE)
	b = pushKey(b, &k.OtherHTLC)
	s.head = append(b, txscript.OP_SWAP, txscript.OP_SIZE, txscript.OP_DATA_1, 32, txscript.OP_EQUAL)

	b = append(make([]byte, 0, 48), txscript.OP_NOTIF, txscript.OP_DROP, txscript.OP_2, txscript.OP_SWAP)
	b = pushKey(b, &k.HTLC)
	s.offered = append(b, txscript.OP_2, txscript.OP_CHECKMULTISIG, txscript.OP_ELSE, txscript.OP_HASH160, txscript.OP_DATA_20)

	s.tail = []byte{txscript.OP_CHECKSIG, txscript.OP_ENDIF}
	if t == Anchors {
		s.tail = append(s.tail, txscript.OP_1, txscript.OP_CHECKSEQUENCEVERIFY, txscript.OP_DROP)
	}
	s.tail = append(s.tail, txscript.OP_ENDIF)
	return s
}

func (s *htlcScripts) append(b []byte, offered bool, hash *[32]byte, expiry uint32) []byte {
	r := ripemd160.New()
	r.Write(hash[:])
	b = append(b, s.head...)
	if offered {
		b = r.Sum(append(b, s.offered...))
		b = append(b, txscript.OP_EQUALVERIFY)
		return append(b, s.tail...)
	}
	b = append(b, txscript.OP_IF, txscript.OP_HASH160, txscript.OP_DATA_20)
	b = r.Sum(b)
	b = append(b, txscript.OP_EQUALVERIFY, txscript.OP_2, txscript.OP_SWAP)
	b = pushKey(b, &s.ownKey)
	b = append(b, txscript.OP_2, txscript.OP_CHECKMULTISIG, txscript.OP_ELSE, txscript.OP_DROP)
	b = pushNumber(b, expiry)
	b = append(b, txscript.OP_CHECKLOCKTIMEVERIFY, txscript.OP_DROP)
	return append(b, s.tail...)
}

// appendP2WSH writes the scriptPubKey that pays to a witness script.
func appendP2WSH(b, script []byte) []byte {
	sum := sha256.Sum256(script)
	return append(append(b, txscript.OP_0, txscript.OP_DATA_32), sum[:]...)
}

// FundingScript is the witness script of the funding output: 2 of 2, the lesser
// key first.
func (c *Channel) FundingScript() []byte {
	return appendFundingScript(make([]byte, 0, 71), &c.Local.Funding, &c.Remote.Funding)
}

// ToRemotePkScript is the scriptPubKey of to_remote that pays to a payment
// basepoint.
func (t Type) ToRemotePkScript(payment keys.Public) []byte {
	if t == Anchors {
		return tx.P2WSH(ToRemoteScript(payment))
	}
	return tx.P2WPKH(payment)
}
