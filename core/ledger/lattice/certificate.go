package lattice

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/codec"
)

const (
	// MaxWeights bounds a table: no more than a thousand representatives have a
	// thousandth each, below which their votes are not passed on.
	MaxWeights = 1000
	// QuorumPercent is how much of the weight must have voted finally.
	QuorumPercent = 67

	maxCertificate = MaxWeights * (voteHead + 32*MaxVoteHashes + 3)
)

// A Weight is what is delegated to a representative.
type Weight struct {
	Rep    Key
	Weight Raw
}

// Weights is who has a say, in ascending order of their keys, without nothings.
// Who holds one that is right needs no ledger to check a Certificate.
type Weights []Weight

// Check finds what is wrong with a table.
func (w Weights) Check() error {
	if len(w) == 0 || len(w) > MaxWeights {
		return fmt.Errorf("weight table has %d representatives; it must have 1 to %d", len(w), MaxWeights)
	}
	var total Raw
	for i, row := range w {
		if i > 0 && bytes.Compare(w[i-1].Rep[:], row.Rep[:]) >= 0 {
			return fmt.Errorf("weight table is not in ascending order at %s", row.Rep)
		}
		if row.Weight.IsZero() {
			return fmt.Errorf("weight table has %s, who has no weight", row.Rep)
		}
		var ok bool
		if total, ok = total.Add(row.Weight); !ok {
			return fmt.Errorf("weight table sums to more than %s raw", MaxRaw)
		}
	}
	return nil
}

// Total is all weight.
func (w Weights) Total() (total Raw) {
	for _, row := range w {
		total, _ = total.Add(row.Weight)
	}
	return total
}

// Quorum is QuorumPercent of Total, rounded up.
func (w Weights) Quorum() Raw { return w.Total().Percent(QuorumPercent) }

// Of is a representative's weight.
func (w Weights) Of(rep Key) Raw {
	at, ok := slices.BinarySearchFunc(w, rep, func(row Weight, rep Key) int { return bytes.Compare(row.Rep[:], rep[:]) })
	if !ok {
		return Raw{}
	}
	return w[at].Weight
}

// Digest names a table.
func (w Weights) Digest() [32]byte { return sum([]byte("coinop/lattice/weights"), w.Append(nil)) }

// Append encodes the table.
func (w Weights) Append(b []byte) []byte {
	b = codec.AppendUint(b, len(w))
	for _, row := range w {
		b = row.Weight.Append(append(b, row.Rep[:]...))
	}
	return b
}

// DecodeWeights reads what Append wrote, and checks it.
func DecodeWeights(raw []byte) (Weights, error) {
	r := codec.NewReader(raw)
	n := r.Int(MaxWeights, "representatives")
	if n*(32+RawSize) != r.Len() {
		r.Fail(fmt.Errorf("%d bytes follow; %d representatives take %d", r.Len(), n, n*(32+RawSize)))
	}
	if r.Err() != nil {
		return nil, fmt.Errorf("weight table: %w", r.Err())
	}
	w := make(Weights, n)
	for i := range w {
		r.Fill(w[i].Rep[:])
		w[i].Weight = readRaw(r)
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("weight table: %w", err)
	}
	return w, w.Check()
}

// A Certificate shows without a ledger that a block is final: final votes for it
// by QuorumPercent of the weight. It is an extension of ours. Two certificates for
// blocks of one root take representatives who have taken back a final vote, with a
// third of the weight.
type Certificate struct {
	Hash  Hash
	Votes []Vote
}

// Verify checks a certificate against a table, which the caller must know to be
// right: it should come from who is paid, signed, not from who pays.
func (c *Certificate) Verify(table Weights) error {
	if err := table.Check(); err != nil {
		return err
	}
	if len(c.Votes) > len(table) {
		return fmt.Errorf("certificate has %d votes; there are %d representatives", len(c.Votes), len(table))
	}
	var weight Raw
	voted := make(map[Key]bool, len(c.Votes))
	batch := NewBatch(nil)
	for i := range c.Votes {
		v := &c.Votes[i]
		of := table.Of(v.Account)
		switch {
		case of.IsZero():
			return fmt.Errorf("certificate has a vote of %s, who has no weight", v.Account)
		case voted[v.Account]:
			return fmt.Errorf("certificate has two votes of %s", v.Account)
		case !v.Final():
			return fmt.Errorf("certificate has a vote of %s that is not final", v.Account)
		case len(v.Hashes) > MaxVoteHashes || !slices.Contains(v.Hashes, c.Hash):
			return fmt.Errorf("certificate has a vote of %s for another block than %s", v.Account, c.Hash)
		}
		voted[v.Account] = true
		weight, _ = weight.Add(of)
		digest := v.Digest()
		batch.Add(v.Account, digest[:], v.Signature)
	}
	if quorum := table.Quorum(); weight.Cmp(quorum) < 0 {
		return fmt.Errorf("certificate has final votes of %s raw; %d %% of the weight is %s", weight, QuorumPercent, quorum)
	}
	if all, each := batch.Verify(); !all {
		return fmt.Errorf("certificate has a vote that %s did not sign", c.Votes[slices.Index(each, false)].Account)
	}
	return nil
}

// Append encodes the certificate.
func (c *Certificate) Append(b []byte) []byte {
	b = append(b, c.Hash[:]...)
	b = codec.AppendUint(b, len(c.Votes))
	var vote []byte
	for i := range c.Votes {
		vote = c.Votes[i].Append(vote[:0])
		b = codec.AppendBytes(b, vote)
	}
	return b
}

// DecodeCertificate reads what Append wrote. It says nothing about the votes.
func DecodeCertificate(raw []byte) (c Certificate, err error) {
	if len(raw) > maxCertificate {
		return c, errors.New("certificate: more than the votes of all representatives")
	}
	r := codec.NewReader(raw)
	r.Fill(c.Hash[:])
	for range r.Int(MaxWeights, "votes") {
		vote, err := DecodeVote(r.Bytes(voteHead+32*MaxVoteHashes, "vote"))
		if r.Err() == nil && err != nil {
			r.Fail(err)
		}
		if r.Err() != nil {
			break
		}
		c.Votes = append(c.Votes, vote)
	}
	if err := r.Close(); err != nil {
		return Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	return c, nil
}
