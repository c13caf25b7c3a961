// Package payword is a meter of hash-chain coins (Rivest & Shamir, "PayWord and
// MicroMint", 1996): one hash pays, and real money moves rarely.
//
// The payer makes a chain of words, each the hash of the next, and signs the
// first. Every further word it shows is one more coin that it owes. The coins
// are a promise, not money: the payee lets at most Credit of them run up, and
// the payer settles every Every of them with an order on another rail of the
// same machine, usually a one-way channel. So a coin costs both ends a hash,
// and what the payee can lose is small and known.
//
// Coins are counted from 1 over the life of the channel. A commitment says
// "I owe Start coins, and one more for each word after Root"; when a chain runs
// out, the payer signs a commitment to the next one, an epoch later, that starts
// at the new total. A total is therefore proved by a commitment, an index and a
// word, whatever the epoch (Terms.Owed).
//
// As in package oneway, the orders of a step go out together under one word,
// the payee acknowledges a step's orders with one stamp, and the stamp is each
// order's proof (package receipt).
//
// Invariants, asserted at every step:
//
//   - payer: settled+owed ≤ acked ≤ total ≤ settled+Credit, in coins; total is
//     the chain's start and index; pending tickets are consecutive and their
//     orders add up to total − acked; an order waits only while a settlement is
//     under way or coming.
//   - payee: settled ≤ total ≤ settled+Credit, and total is proved by the
//     commitment and the word it keeps.
//   - an order is in at most one ticket; settlement k is counted once, after
//     k−1.
package payword

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
)

// An ID names a channel: the first 16 bytes of a digest of the two node keys
// and a number.
type ID [16]byte

// String is the ID in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is String, for JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// IDOf returns the ID of a channel between two nodes. A payer uses a number
// once for a payee: it seeds the chains.
func IDOf(payer, payee keys.Public, number uint64) (id ID) {
	d := keys.Digest("coinop/payword/id", payer[:], payee[:], binary.BigEndian.AppendUint64(nil, number))
	copy(id[:], d[:])
	return id
}

// Terms are what both ends agreed to when the channel opened. They never
// change.
type Terms struct {
	Proposal
	Answer
}

// A Proposal is the payer's half of the terms.
type Proposal struct {
	PayerNode keys.Public // signs the commitments
	Number    uint64      // tells apart the channels between two nodes
	Coin      money.Amount
	Length    uint64 // coins in a chain, a power of two
	Every     uint64 // coins in a settlement
	Credit    uint64 // coins that may be unsettled
	Settle    string // the core of the payer's machine that settles
}

// An Answer is the payee's half of the terms.
type Answer struct{ Payee receipt.Payee }

// Limits on the terms.
const (
	// MinLength and MaxLength bound a chain. A payer that starts hashes as many
	// words as the chain has, which at 2^24 takes seconds.
	MinLength = 2
	MaxLength = 1 << maxLevels
	// DefaultLength takes a payer tenths of a second to start.
	DefaultLength = 1 << 20
	// MaxGap bounds the hashes by which a payee checks a word, and so what a
	// wrong word costs it: tens of milliseconds. No more coins can be unsettled
	// than this, so no honest word is further away.
	MaxGap = 1 << 18
	// MaxSettle bounds the name of the core that settles.
	MaxSettle = 128
)

// ID names the channel.
func (t *Terms) ID() ID { return IDOf(t.PayerNode, t.Payee.Node, t.Number) }

// check reports what is wrong with a proposal, whoever made it.
func (p *Proposal) check() error {
	switch {
	case p.Coin == 0 || p.Coin > money.MaxAmount:
		return fmt.Errorf("coin is %v; it must be %v to %v", p.Coin, money.Msat, money.MaxAmount)
	case !validLength(p.Length):
		return fmt.Errorf("chain has %d words; it must be a power of two from %d to %d", p.Length, MinLength, MaxLength)
	case p.Credit > MaxGap:
		return fmt.Errorf("credit is %d coins; the limit is %d", p.Credit, MaxGap)
	case p.Every == 0 || p.Every > p.Credit/2:
		return fmt.Errorf("%d coins are settled at a time; it must be 1 to half the credit of %d", p.Every, p.Credit)
	case p.Settle == "" || len(p.Settle) > MaxSettle:
		return fmt.Errorf("the name of the core that settles has %d bytes; it must have 1 to %d", len(p.Settle), MaxSettle)
	}
	if _, ok := p.Coin.Times(p.Credit); !ok {
		return fmt.Errorf("credit of %d coins of %v is more than the bitcoin there can be", p.Credit, p.Coin)
	}
	_, err := keys.ParsePublic(p.PayerNode[:])
	return err
}

// Check reports what is wrong with the terms, whoever made them.
func (t *Terms) Check() error {
	if err := t.Proposal.check(); err != nil {
		return err
	}
	switch {
	case t.Payee.Node == t.PayerNode:
		return errors.New("payer and payee are the same node")
	case !t.Payee.Check(t.ID()):
		return errors.New("payee's node key does not vouch for its stamp key")
	}
	return nil
}

// Policy is what a payee takes.
type Policy struct {
	MaxCredit money.Amount // that it lets run unsettled
	MinSettle money.Amount // that is worth an order on the other rail
}

// Consider answers a proposal, or says why not. The answer depends on nothing
// but its arguments, so a payee keeps no state for proposals: when the payer
// agrees it answers again and gets the same.
func Consider(p Proposal, policy Policy, node keys.Secret) (Answer, error) {
	if err := p.check(); err != nil {
		return Answer{}, err
	}
	credit, every := p.Coin*money.Amount(p.Credit), p.Coin*money.Amount(p.Every)
	switch {
	case credit > policy.MaxCredit:
		return Answer{}, fmt.Errorf("credit is %v; this payee gives at most %v", credit, policy.MaxCredit)
	case every < policy.MinSettle:
		return Answer{}, fmt.Errorf("settlements are of %v; this payee takes at least %v", every, policy.MinSettle)
	}
	id := IDOf(p.PayerNode, node.Public(), p.Number)
	return Answer{receipt.Bind(node, id, node.Stamp(stampPurpose).Public())}, nil
}

const stampPurpose = "payword"

// coins returns a in whole coins, or false if there is something over.
func (p *Proposal) coins(a money.Amount) (uint64, bool) {
	return uint64(a / p.Coin), a != 0 && a%p.Coin == 0
}

// worth is the amount of n coins, which no channel lets grow past MaxAmount.
func (p *Proposal) worth(n uint64) money.Amount { return p.Coin * money.Amount(n) }

// maxTotal is how many coins a channel can carry in its life.
func (p *Proposal) maxTotal() uint64 { return uint64(money.MaxAmount / p.Coin) }

// SettlementID is the order that settles a channel for the k-th time, from 1.
func SettlementID(id ID, k uint64) (order money.OrderID) {
	d := keys.Digest("coinop/payword/settle", id[:], binary.BigEndian.AppendUint64(nil, k))
	copy(order[:], d[:])
	return order
}

// A Commitment is the payer's word that it owes Start coins, and one more for
// each word that leads to Root.
type Commitment struct {
	Epoch uint64 // from 1; each chain of a channel has its own
	Start uint64
	Root  Word
	Sig   keys.Signature
}

func (t *Terms) digest(c *Commitment) [32]byte {
	terms := keys.Digest("coinop/payword/terms", t.append(nil))
	numbers := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, c.Epoch), c.Start)
	return keys.Digest("coinop/payword/commitment", terms[:], numbers, c.Root[:])
}

// Committed reports whether the payer signed c.
func (t *Terms) Committed(c *Commitment) bool { return t.PayerNode.Verify(t.digest(c), c.Sig) }

// Owed checks offline what a payee can show, the commitment and the word at
// index, and returns how many coins the payer owed in all.
func (t *Terms) Owed(c *Commitment, index uint64, w Word) (coins uint64, ok bool) {
	if index > t.Length || w.Back(index) != c.Root || !t.Committed(c) {
		return 0, false
	}
	return c.Start + index, true
}

func (p *Proposal) append(b []byte) []byte {
	b = append(b, p.PayerNode[:]...)
	b = codec.AppendUint(b, p.Number)
	b = codec.AppendUint(b, p.Coin)
	b = codec.AppendUint(b, p.Length)
	b = codec.AppendUint(b, p.Every)
	b = codec.AppendUint(b, p.Credit)
	return codec.AppendBytes(b, p.Settle)
}

func readProposal(r *codec.Reader) (p Proposal) {
	r.Fill(p.PayerNode[:])
	p.Number, p.Coin = r.Uvarint(), r.Amount()
	p.Length = uint64(r.Int(MaxLength, "chain length"))
	p.Every = uint64(r.Int(MaxGap, "coins in a settlement"))
	p.Credit = uint64(r.Int(MaxGap, "credit"))
	p.Settle = r.String(MaxSettle, "settling core")
	return p
}

func (t *Terms) append(b []byte) []byte { return t.Payee.Append(t.Proposal.append(b)) }

func readTerms(r *codec.Reader) Terms {
	return Terms{Proposal: readProposal(r), Answer: Answer{receipt.ReadPayee(r)}}
}

func (c *Commitment) append(b []byte) []byte {
	b = codec.AppendUint(b, c.Epoch)
	b = codec.AppendUint(b, c.Start)
	b = append(b, c.Root[:]...)
	return append(b, c.Sig[:]...)
}

func readCommitment(r *codec.Reader) (c Commitment) {
	c.Epoch, c.Start = r.Uvarint(), r.Uvarint()
	r.Fill(c.Root[:])
	r.Fill(c.Sig[:])
	return c
}
