package claim

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/step"
)

// The records: "case", "head", and one for each preimage and coin.

func (c *Claim) caseRecord() step.Record {
	return step.Record{Key: c.prefix + "case", Value: c.Case.append(nil)}
}

func (c *Claim) head() step.Record {
	b := codec.AppendUint(nil, int64(c.rate))
	for i := 0; i < len(c.reported); i += 8 {
		bits := byte(0)
		for j, r := range c.reported[i:min(i+8, len(c.reported))] {
			if r {
				bits |= 1 << j
			}
		}
		b = append(b, bits)
	}
	if f := c.finished; f != nil {
		// Ours can be negative; the three are the capacity.
		b = codec.AppendUint(b, f.Ours+maxSpent)
		b = codec.AppendUint(b, f.Theirs)
	}
	return step.Record{Key: c.prefix + "head", Value: b}
}

// maxSpent bounds what the wallet can lose on a channel, in satoshi.
const maxSpent = 21_000_000 * 100_000_000

func (c *Claim) preimageRecord(hash [32]byte) step.Record {
	p := c.preimages[hash]
	return step.Record{Key: c.prefix + "preimage/" + hex.EncodeToString(hash[:]), Value: p[:]}
}

func (c *Claim) coinRecord(spent wire.OutPoint) step.Record {
	coin := c.coins[spent]
	return step.Record{
		Key:   c.prefix + "coin/" + hex.EncodeToString(appendPoint(nil, spent)),
		Value: codec.AppendUint(appendPoint(nil, coin.Point), coin.Value),
	}
}

// Durable is everything the claim has on disk, for whoever wants to check it or
// to delete it after Finished.
func (c *Claim) Durable() []step.Record {
	all := []step.Record{c.caseRecord(), c.head()}
	for _, point := range c.coinPoints() {
		all = append(all, c.coinRecord(point))
	}
	var hashes [][32]byte
	for hash := range c.preimages {
		hashes = append(hashes, hash)
	}
	slices.SortFunc(hashes, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	for _, hash := range hashes {
		all = append(all, c.preimageRecord(hash))
	}
	return all
}

// Forget deletes all that Durable lists. A caller may, once it has Finished.
func (c *Claim) Forget() []step.Record {
	all := c.Durable()
	for i := range all {
		all[i].Value = nil
	}
	return all
}

// coinPoints are the keys of coins in order.
func (c *Claim) coinPoints() []wire.OutPoint {
	var points []wire.OutPoint
	for p := range c.coins {
		points = append(points, p)
	}
	slices.SortFunc(points, func(a, b wire.OutPoint) int {
		return bytes.Compare(appendPoint(nil, a), appendPoint(nil, b))
	})
	return points
}

// Load reads a claim back. secrets and wallet are those given to New.
func Load(db step.Reader, id [32]byte, secrets commit.Secrets, wallet keys.Secret) (*Claim, error) {
	prefix := Name(id) + "/"
	var k Case
	if err := codec.Record(db, prefix+"case", func(r *codec.Reader) { k = readCase(r) }); err != nil {
		return nil, err
	}
	c, err := newClaim(k, secrets, wallet)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w", prefix+"case", err)
	}
	c.saved = true
	if err := codec.Record(db, prefix+"head", c.readHead); err != nil {
		return nil, err
	}
	err = codec.Scan(db, prefix+"preimage/", func(name string, r *codec.Reader) {
		var hash, preimage [32]byte
		if n, err := hex.Decode(hash[:], []byte(name)); err != nil || n != len(hash) {
			r.Fail(fmt.Errorf("%q is not a hash", name))
		}
		r.Fill(preimage[:])
		c.preimages[hash] = preimage
	})
	if err != nil {
		return nil, err
	}
	return c, codec.Scan(db, prefix+"coin/", func(name string, r *codec.Reader) {
		raw, err := hex.DecodeString(name)
		if err != nil {
			r.Fail(err)
		}
		key := codec.NewReader(raw)
		spent := readPoint(key)
		if err := key.Close(); err != nil {
			r.Fail(err)
		}
		c.coins[spent] = tx.Coin{Point: readPoint(r), Value: int64(r.Uint(maxSpent, "value"))}
	})
}

func (c *Claim) readHead(r *codec.Reader) {
	c.rate = tx.FeeRate(r.Int(int(tx.MaxFeeRate), "fee rate"))
	for i, bits := range r.Take((len(c.reported) + 7) / 8) {
		for j := range 8 {
			switch n, done := 8*i+j, bits>>j&1 == 1; {
			case n < len(c.reported):
				c.reported[n] = done
			case done:
				r.Fail(fmt.Errorf("HTLC %d is reported; there are %d", n, len(c.reported)))
			}
		}
	}
	if r.Len() > 0 {
		f := Finished{Ours: int64(r.Uint(2*maxSpent, "what is ours")) - maxSpent, Theirs: int64(r.Uint(maxSpent, "what is theirs"))}
		f.Fees = c.Channel.Capacity - f.Ours - f.Theirs
		c.finished = &f
	}
}

func appendPoint(b []byte, p wire.OutPoint) []byte {
	b = append(b, p.Hash[:]...)
	return codec.AppendUint(b, p.Index)
}

func readPoint(r *codec.Reader) (p wire.OutPoint) {
	r.Fill(p.Hash[:])
	p.Index = uint32(r.Int(math.MaxUint16, "output index"))
	return p
}

func (k *Case) append(b []byte) []byte {
	b = k.Channel.Append(b)
	b = k.Local.Append(b)
	b = append(b, k.LocalSig[:]...)
	b = codec.AppendUint(b, len(k.LocalHTLCSigs))
	for i := range k.LocalHTLCSigs {
		b = append(b, k.LocalHTLCSigs[i][:]...)
	}
	b = k.Remote.Append(b)
	b = append(b, k.RemotePoint[:]...)
	b = appendFlag(b, k.Next != nil)
	if k.Next != nil {
		b = append(k.Next.Append(b), k.NextPoint[:]...)
	}
	b = k.Revealed.Append(b)
	b = codec.AppendUint(b, len(k.Traces))
	for i := range k.Traces {
		t := &k.Traces[i]
		b = t.HTLC.Append(b)
		b = codec.AppendUint(b, t.First)
		b = codec.AppendUint(b, t.Last)
	}
	b = codec.AppendUint(b, len(k.HTLCs))
	for i := range k.HTLCs {
		b = k.HTLCs[i].Append(b)
	}
	b = codec.AppendBytes(b, k.Payout)
	b = codec.AppendUint(b, int64(k.FeeRate))
	b = codec.AppendUint(b, k.Depth)
	b = codec.AppendUint(b, k.Height)
	return appendFlag(b, k.Force)
}

func appendFlag(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func readCase(r *codec.Reader) (k Case) {
	k.Channel = commit.ReadChannel(r)
	k.Local = commit.ReadState(r)
	r.Fill(k.LocalSig[:])
	for range r.Int(commit.MaxHTLCs, "number of signatures") {
		if r.Err() != nil {
			return k
		}
		var sig keys.Signature
		r.Fill(sig[:])
		k.LocalHTLCSigs = append(k.LocalHTLCSigs, sig)
	}
	k.Remote = commit.ReadState(r)
	r.Fill(k.RemotePoint[:])
	if r.Int(1, "flag") == 1 {
		next := commit.ReadState(r)
		k.Next = &next
		r.Fill(k.NextPoint[:])
	}
	k.Revealed = commit.ReadRevealed(r)
	for range r.Int(MaxTraces, "number of traces") {
		if r.Err() != nil {
			return k
		}
		k.Traces = append(k.Traces, Trace{HTLC: commit.ReadHTLC(r), First: r.Uvarint(), Last: r.Uvarint()})
	}
	for range r.Int(maxReported, "number of HTLCs") {
		if r.Err() != nil {
			return k
		}
		k.HTLCs = append(k.HTLCs, commit.ReadHTLC(r))
	}
	k.Payout = r.Bytes(MaxPayout, "script")
	k.FeeRate = tx.FeeRate(r.Int(int(tx.MaxFeeRate), "fee rate"))
	k.Depth, k.Height = r.Height(), r.Height()
	k.Force = r.Int(1, "flag") == 1
	return k
}
