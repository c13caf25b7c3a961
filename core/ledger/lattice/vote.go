package lattice

import (
	"encoding/binary"
	"fmt"
	"math"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/eddsa"
)

const (
	// FinalTimestamp is the timestamp of a vote that is never taken back.
	FinalTimestamp = math.MaxUint64
	// MaxVoteHashes is how many blocks a vote may be for: its count has eight bits.
	MaxVoteHashes = 255

	voteHead     = 32 + 64 + 8
	durationBits = 0xf
)

// A Vote is a representative's word for blocks, each against all others that have
// its root.
type Vote struct {
	Account   Key // the representative
	Signature [64]byte
	Timestamp uint64 // see VoteTimestamp
	Hashes    []Hash // 1 to MaxVoteHashes
}

// VoteTimestamp puts milliseconds since 1970, to 16 of them, and a duration
// together: 2^(duration+4) ms, for duration up to 15, in which the representative
// will not vote again. A vote counts instead of an earlier one.
func VoteTimestamp(millis uint64, duration uint8) uint64 {
	return millis&^durationBits | uint64(duration)&durationBits
}

// Final reports whether the vote is never taken back.
func (v *Vote) Final() bool { return v.Timestamp == FinalTimestamp }

// Millis is when the vote was made, since 1970. A final vote does not say.
func (v *Vote) Millis() uint64 { return v.Timestamp &^ durationBits }

// Duration is for how many milliseconds the vote stands at least.
func (v *Vote) Duration() uint64 { return 16 << (v.Timestamp & durationBits) }

// Digest is what the representative signs.
func (v *Vote) Digest() [32]byte {
	b := append(make([]byte, 0, 5+32*len(v.Hashes)+8), "vote "...)
	for i := range v.Hashes {
		b = append(b, v.Hashes[i][:]...)
	}
	return sum(binary.LittleEndian.AppendUint64(b, v.Timestamp))
}

// Sign makes the vote s's.
func (v *Vote) Sign(s eddsa.Secret) {
	v.Account = s.Public()
	digest := v.Digest()
	v.Signature = s.Sign(digest[:])
}

// Signed reports whether the representative has signed; see Verify.
func (v *Vote) Signed() bool {
	digest := v.Digest()
	return Verify(v.Account, digest[:], v.Signature)
}

// Append encodes the vote as a confirm_ack has it. How many hashes there are is
// told by its length.
func (v *Vote) Append(b []byte) []byte {
	b = append(b, v.Account[:]...)
	b = append(b, v.Signature[:]...)
	b = binary.LittleEndian.AppendUint64(b, v.Timestamp)
	for i := range v.Hashes {
		b = append(b, v.Hashes[i][:]...)
	}
	return b
}

// DecodeVote reads what Append wrote.
func DecodeVote(raw []byte) (v Vote, err error) {
	n := (len(raw) - voteHead) / 32
	if n < 1 || n > MaxVoteHashes || len(raw) != voteHead+32*n {
		return v, fmt.Errorf("vote is %d bytes; it must be %d and 32 for each of 1 to %d hashes", len(raw), voteHead, MaxVoteHashes)
	}
	r := codec.NewReader(raw)
	r.Fill(v.Account[:])
	r.Fill(v.Signature[:])
	v.Timestamp = binary.LittleEndian.Uint64(r.Take(8))
	v.Hashes = make([]Hash, n)
	for i := range v.Hashes {
		r.Fill(v.Hashes[i][:])
	}
	return v, r.Close()
}
