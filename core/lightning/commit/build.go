package commit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
)

// Expected weights of BOLT 3, appendix A, by Type.
var (
	commitWeight  = [...]int64{StaticRemoteKey: 724, Anchors: 1124}
	timeoutWeight = [...]int64{StaticRemoteKey: 663, Anchors: 0} // anchors: the fee is added later
	successWeight = [...]int64{StaticRemoteKey: 703, Anchors: 0}
)

const (
	htlcOutputWeight = 172
	// MaxFeeRate bounds what a fee is computed from, in satoshi per 1,000
	// weight: a feerate_per_kw has 32 bits.
	MaxFeeRate int64 = 1<<32 - 1
)

// Fee is what the opener pays for owner's commitment with a number of untrimmed
// HTLCs, in satoshi and without the anchors (BOLT 3, fee calculation).
func (c *Channel) Fee(_ Owner, feeRate int64, untrimmed int) int64 {
	return feeRate * (commitWeight[c.Type] + htlcOutputWeight*int64(untrimmed)) / 1000
}

// HTLCFee is the fee of the second-stage transaction of an HTLC, in satoshi; 0
// with anchors.
func (t Type) HTLCFee(offered bool, feeRate int64) int64 {
	if offered {
		return feeRate * timeoutWeight[t] / 1000
	}
	return feeRate * successWeight[t] / 1000
}

// Offered reports whether h is offered by the owner of a commitment.
func (h *HTLC) Offered(owner Owner) bool { return h.Ours == (owner == Local) }

// Trimmed reports whether h has no output in owner's commitment because that,
// less the fee of the second stage, would be below owner's dust limit.
func (c *Channel) Trimmed(owner Owner, feeRate int64, h HTLC) bool {
	return h.Amount.Sats()-c.Type.HTLCFee(h.Offered(owner), feeRate) < c.Party(owner).Dust
}

// A Commitment is one owner's commitment transaction. "Local" in the names of
// its outputs is BOLT 3's: the owner of the commitment.
type Commitment struct {
	Tx      *wire.MsgTx // without a witness
	ID      chainhash.Hash
	Owner   Owner
	Point   keys.Public  // the per-commitment point
	Outputs []HTLCOutput // untrimmed HTLCs, in the order of outputs and signatures
	// The outputs that are no HTLC's, or -1.
	ToLocal, ToRemote, LocalAnchor, RemoteAnchor int
	// Fee is the capacity less all outputs, in satoshi: the base fee and what
	// was trimmed or rounded off.
	Fee  int64
	Keys Keys // HTLC and OtherHTLC may be zero without Outputs

	channel *Channel
	// second is the scriptPubKey of all second-stage outputs.
	second []byte
}

// An HTLCOutput is the output of an untrimmed HTLC.
type HTLCOutput struct {
	HTLC    int // index in State.HTLCs
	Vout    uint32
	Value   int64  // satoshi
	Script  []byte // witness script
	Offered bool   // by the owner of the commitment: its second stage is HTLC-timeout
	Expiry  uint32
	Hash    [32]byte
	Fee     int64 // of the second-stage transaction, satoshi
}

// What an output is, while it has no place yet.
const (
	toLocal = -1 - iota
	toRemote
	localAnchor
	remoteAnchor
)

// draft is an output before the outputs are ordered.
type draft struct {
	value    int64
	pkScript []byte
	expiry   uint32
	what     int // index in State.HTLCs, or one of the names above
	script   []byte
}

// order is BIP 69's, and by expiry between HTLCs that are otherwise the same.
func order(a, b *draft) int {
	return cmp.Or(cmp.Compare(a.value, b.value), bytes.Compare(a.pkScript, b.pkScript), cmp.Compare(a.expiry, b.expiry), cmp.Compare(a.what, b.what))
}

// Build makes owner's commitment transaction for s with owner's per-commitment
// point (BOLT 3, commitment transaction construction). It fails if s is no state
// of the channel, if a point is not on the curve, or if the opener has so little
// that the anchors would come out of nothing.
func (c *Channel) Build(owner Owner, point keys.Public, s State) (*Commitment, error) {
	if err := c.check(s); err != nil {
		return nil, err
	}
	derive := c.outputKeys
	if c.untrimmed(owner, s) > 0 {
		derive = c.Keys
	}
	k, err := derive(owner, point)
	if err != nil {
		return nil, fmt.Errorf("%v commitment: %w", owner, err)
	}
	return c.BuildWith(k, owner, point, s)
}

// BuildWith is Build with keys derived before: of all that a small commitment
// costs, deriving its keys is the larger half.
func (c *Channel) BuildWith(derived Keys, owner Owner, point keys.Public, s State) (*Commitment, error) {
	if err := c.check(s); err != nil {
		return nil, err
	}
	untrimmed := c.untrimmed(owner, s)
	k := &Commitment{Owner: owner, Point: point, Keys: derived, channel: c, ToLocal: -1, ToRemote: -1, LocalAnchor: -1, RemoteAnchor: -1}
	outputs := k.balances(c, s, untrimmed, make([]draft, 0, untrimmed+4))
	outputs = k.htlcs(c, s, untrimmed, outputs)
	slices.SortFunc(outputs, func(a, b draft) int { return order(&a, &b) })
	if err := k.assemble(c, s, outputs); err != nil {
		return nil, err
	}
	return k, nil
}

// untrimmed is how many HTLCs of s have an output.
func (c *Channel) untrimmed(owner Owner, s State) (n int) {
	for i := range s.HTLCs {
		if !c.Trimmed(owner, s.FeeRate, s.HTLCs[i]) {
			n++
		}
	}
	return n
}

// balances adds what is no HTLC's.
func (k *Commitment) balances(c *Channel, s State, untrimmed int, outputs []draft) []draft {
	own, other := c.Party(k.Owner), c.Party(k.Owner.Other())
	cost := c.Fee(k.Owner, s.FeeRate, untrimmed)
	if c.Type == Anchors {
		cost += 2 * AnchorValue
	}
	mine, theirs := s.Local.Sats(), s.Remote.Sats()
	if k.Owner == Remote {
		mine, theirs = theirs, mine
	}
	if c.Opener == k.Owner {
		mine = max(mine-cost, 0)
	} else {
		theirs = max(theirs-cost, 0)
	}
	revocable := ToLocalScript(k.Keys.Revocation, k.Keys.Delayed, own.Delay)
	k.second = tx.P2WSH(revocable)
	hasMine, hasTheirs := mine >= own.Dust, theirs >= own.Dust
	if hasMine {
		outputs = append(outputs, draft{value: mine, pkScript: k.second, what: toLocal})
	}
	if hasTheirs {
		outputs = append(outputs, draft{value: theirs, pkScript: c.Type.ToRemotePkScript(k.Keys.Payment), what: toRemote})
	}
	if c.Type != Anchors {
		return outputs
	}
	if hasMine || untrimmed > 0 {
		outputs = append(outputs, draft{value: AnchorValue, pkScript: tx.P2WSH(AnchorScript(own.Funding)), what: localAnchor})
	}
	if hasTheirs || untrimmed > 0 {
		outputs = append(outputs, draft{value: AnchorValue, pkScript: tx.P2WSH(AnchorScript(other.Funding)), what: remoteAnchor})
	}
	return outputs
}

// pkScriptSize is the size of a P2WSH scriptPubKey.
const pkScriptSize = 34

// htlcs adds the untrimmed HTLCs. All scripts share two buffers.
func (k *Commitment) htlcs(c *Channel, s State, untrimmed int, outputs []draft) []draft {
	if untrimmed == 0 {
		return outputs
	}
	scripts := newHTLCScripts(c.Type, &k.Keys)
	witness := make([]byte, 0, untrimmed*maxHTLCScript)
	pk := make([]byte, 0, untrimmed*pkScriptSize)
	for i := range s.HTLCs {
		h := &s.HTLCs[i]
		if c.Trimmed(k.Owner, s.FeeRate, *h) {
			continue
		}
		from, pkFrom := len(witness), len(pk)
		witness = scripts.append(witness, h.Offered(k.Owner), &h.Hash, h.Expiry)
		script := witness[from:len(witness):len(witness)]
		pk = appendP2WSH(pk, script)
		outputs = append(outputs, draft{h.Amount.Sats(), pk[pkFrom:len(pk):len(pk)], h.Expiry, i, script})
	}
	return outputs
}

// assemble makes the transaction of ordered outputs and notes where they are.
func (k *Commitment) assemble(c *Channel, s State, outputs []draft) error {
	obscured := s.Number ^ c.obscurer()
	in := &wire.TxIn{PreviousOutPoint: c.Funding, Sequence: 0x80<<24 | uint32(obscured>>24)}
	k.Tx = &wire.MsgTx{
		Version: 2, LockTime: 0x20<<24 | uint32(obscured&0xffffff),
		TxIn: []*wire.TxIn{in}, TxOut: make([]*wire.TxOut, len(outputs)),
	}
	values := make([]wire.TxOut, len(outputs))
	k.Fee = c.Capacity
	for i := range outputs {
		o := &outputs[i]
		values[i] = wire.TxOut{Value: o.value, PkScript: o.pkScript}
		k.Tx.TxOut[i] = &values[i]
		k.Fee -= o.value
		switch o.what {
		case toLocal:
			k.ToLocal = i
		case toRemote:
			k.ToRemote = i
		case localAnchor:
			k.LocalAnchor = i
		case remoteAnchor:
			k.RemoteAnchor = i
		default:
			if k.Outputs == nil {
				k.Outputs = make([]HTLCOutput, 0, len(outputs))
			}
			h := &s.HTLCs[o.what]
			offered := h.Offered(k.Owner)
			k.Outputs = append(k.Outputs, HTLCOutput{
				HTLC: o.what, Vout: uint32(i), Value: o.value, Script: o.script, Offered: offered,
				Expiry: h.Expiry, Hash: h.Hash, Fee: c.Type.HTLCFee(offered, s.FeeRate),
			})
		}
	}
	if k.Fee < 0 {
		return fmt.Errorf("%w: the opener is %d sat short of the anchors", ErrState, -k.Fee)
	}
	k.ID = txid(k.Tx)
	return nil
}

// obscurer hides the number of a commitment from all but the two ends: the
// lower 48 bits of SHA256(opener's payment basepoint || the other's).
func (c *Channel) obscurer() uint64 {
	sum := tweak(c.Party(c.Opener).Payment, c.Party(c.Opener.Other()).Payment)
	return binary.BigEndian.Uint64(sum[24:]) & MaxNumber
}

// Number is the commitment number in a transaction that spends the funding
// output, if it looks like a commitment at all.
func (c *Channel) Number(t *wire.MsgTx) (n uint64, ok bool) {
	if len(t.TxIn) != 1 || t.TxIn[0].PreviousOutPoint != c.Funding || t.LockTime>>24 != 0x20 || t.TxIn[0].Sequence>>24 != 0x80 {
		return 0, false
	}
	obscured := uint64(t.TxIn[0].Sequence&0xffffff)<<24 | uint64(t.LockTime&0xffffff)
	return obscured ^ c.obscurer(), true
}

// FundingOutput is the output that all commitments spend.
func (c *Channel) FundingOutput() *wire.TxOut {
	return wire.NewTxOut(c.Capacity, tx.P2WSH(c.FundingScript()))
}

// txid is the hash of a transaction with one input and without its witness.
func txid(t *wire.MsgTx) chainhash.Hash {
	b := make([]byte, 0, 64+len(t.TxOut)*(9+pkScriptSize))
	b = binary.LittleEndian.AppendUint32(b, uint32(t.Version))
	b = append(b, 1)
	b = appendPoint(b, &t.TxIn[0].PreviousOutPoint)
	b = append(b, 0)
	b = binary.LittleEndian.AppendUint32(b, t.TxIn[0].Sequence)
	b = appendCompact(b, len(t.TxOut))
	b = appendOutputs(b, t.TxOut)
	b = binary.LittleEndian.AppendUint32(b, t.LockTime)
	return double(b)
}

func appendPoint(b []byte, p *wire.OutPoint) []byte {
	return binary.LittleEndian.AppendUint32(append(b, p.Hash[:]...), p.Index)
}

// appendCompact writes Bitcoin's CompactSize of a small count.
func appendCompact(b []byte, n int) []byte {
	if n < 0xfd {
		return append(b, byte(n))
	}
	return binary.LittleEndian.AppendUint16(append(b, 0xfd), uint16(n))
}

func appendOutputs(b []byte, outs []*wire.TxOut) []byte {
	for _, o := range outs {
		b = binary.LittleEndian.AppendUint64(b, uint64(o.Value))
		b = appendCompact(b, len(o.PkScript))
		b = append(b, o.PkScript...)
	}
	return b
}

// double is SHA-256 twice.
func double(b []byte) [32]byte {
	sum := sha256.Sum256(b)
	return sha256.Sum256(sum[:])
}
