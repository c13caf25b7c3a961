// Package receipt lets one signature acknowledge many orders, so that each
// order still has a proof of its own that anybody can check offline.
//
// The payee stamps the Merkle root of the orders it has taken together; the
// payer keeps the stamp with the list. A proof is the stamp and the order's
// path to the root, hashed as RFC 6962 section 2.1 does (leaf 0x00, node 0x01,
// so a node cannot pass for an order). Above its top the root has the number of
// orders, or a proof could be bent without breaking.
package receipt

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// MaxEntries bounds the orders under one stamp: 2^12 of them need a path of 12
// hashes, and their list fits a BOLT 8 message.
const MaxEntries = 4096

const maxPath = 12

const (
	stampTag = "coinop/receipt/stamp"
	boundTag = "coinop/receipt/payee"
)

// An Entry is one order as the two ends of a channel write it down.
type Entry struct {
	Order  money.OrderID
	Amount money.Amount
}

// AppendEntries writes what ReadEntries reads.
func AppendEntries(b []byte, entries []Entry) []byte {
	b = codec.AppendUint(b, len(entries))
	for i := range entries {
		b = append(b, entries[i].Order[:]...)
		b = codec.AppendUint(b, entries[i].Amount)
	}
	return b
}

// ReadEntries reads at most MaxEntries entries.
func ReadEntries(r *codec.Reader) []Entry {
	n := r.Int(MaxEntries, "number of orders")
	// An entry is at least 17 bytes, so a short message cannot ask for much.
	if n > r.Len()/17 {
		r.Fail(codec.ErrShort)
		return nil
	}
	if n == 0 {
		return nil
	}
	entries := make([]Entry, n)
	for i := range entries {
		r.Fill(entries[i].Order[:])
		entries[i].Amount = r.Amount()
	}
	return entries
}

// Sum adds the entries' amounts.
func Sum(entries []Entry) (total money.Amount, ok bool) {
	for i := range entries {
		if total, ok = total.Add(entries[i].Amount); !ok {
			return 0, false
		}
	}
	return total, true
}

type hash = [sha256.Size]byte

func leaf(e *Entry) hash {
	var b [1 + 16 + 8]byte
	copy(b[1:], e.Order[:])
	binary.BigEndian.PutUint64(b[17:], uint64(e.Amount))
	return sha256.Sum256(b[:])
}

func node(l, r *hash) hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], l[:])
	copy(b[1+sha256.Size:], r[:])
	return sha256.Sum256(b[:])
}

// crown is the root over n orders whose tree ends in top.
func crown(n int, top *hash) hash {
	var b [1 + 8 + sha256.Size]byte
	b[0] = 2
	binary.BigEndian.PutUint64(b[1:], uint64(n))
	copy(b[9:], top[:])
	return sha256.Sum256(b[:])
}

// A Tree is the Merkle tree over some entries, kept level by level: level 0 is
// the leaves, and an odd last node moves up unchanged.
type Tree struct{ levels [][]hash }

// NewTree hashes entries. No entries give the zero root.
func NewTree(entries []Entry) Tree {
	level := make([]hash, len(entries))
	for i := range entries {
		level[i] = leaf(&entries[i])
	}
	t := Tree{levels: [][]hash{level}}
	for len(level) > 1 {
		next := make([]hash, (len(level)+1)/2)
		for i := range next {
			if 2*i+1 < len(level) {
				next[i] = node(&level[2*i], &level[2*i+1])
			} else {
				next[i] = level[2*i]
			}
		}
		t.levels = append(t.levels, next)
		level = next
	}
	return t
}

// Root is the hash that stands for all entries.
func (t Tree) Root() (root [32]byte) {
	if top := t.levels[len(t.levels)-1]; len(top) == 1 {
		return crown(len(t.levels[0]), &top[0])
	}
	return root
}

func (t Tree) path(i int) (path []hash) {
	path = make([]hash, 0, len(t.levels)-1)
	for _, level := range t.levels[:len(t.levels)-1] {
		if sibling := i ^ 1; sibling < len(level) {
			path = append(path, level[sibling])
		}
		i /= 2
	}
	return path
}

// climb redoes path from the leaf of e, the i-th of n.
func climb(e *Entry, i, n int, path []hash) (root hash, ok bool) {
	h := leaf(e)
	for width := n; width > 1; i, width = i/2, (width+1)/2 {
		if i^1 >= width {
			continue // the odd one out moves up
		}
		if len(path) == 0 {
			return root, false
		}
		if i&1 == 0 {
			h = node(&h, &path[0])
		} else {
			h = node(&path[0], &h)
		}
		path = path[1:]
	}
	return crown(n, &h), len(path) == 0
}

// A Payee is who acknowledges: a stamp key, and the node key's word that the
// stamp key speaks for it on one channel.
type Payee struct {
	Node  keys.Public
	Stamp keys.StampPublic
	Bound keys.Signature
}

// Bind makes the Payee of a node for a channel.
func Bind(node keys.Secret, channel [16]byte, stamp keys.StampPublic) Payee {
	p := Payee{Node: node.Public(), Stamp: stamp}
	p.Bound = node.Sign(p.digest(channel))
	return p
}

// Check reports whether the node key vouches for the stamp key.
func (p Payee) Check(channel [16]byte) bool { return p.Node.Verify(p.digest(channel), p.Bound) }

func (p Payee) digest(channel [16]byte) [32]byte {
	return keys.Digest(boundTag, channel[:], p.Stamp[:])
}

// Append writes what ReadPayee reads.
func (p Payee) Append(b []byte) []byte {
	b = append(b, p.Node[:]...)
	b = append(b, p.Stamp[:]...)
	return append(b, p.Bound[:]...)
}

// ReadPayee reads a Payee; Check is up to the caller.
func ReadPayee(r *codec.Reader) (p Payee) {
	r.Fill(p.Node[:])
	r.Fill(p.Stamp[:])
	r.Fill(p.Bound[:])
	return p
}

// A Stamped is the payee's word that it took a run of orders: numbers From+1 to
// To of the channel's tickets, Total in all since the channel opened.
type Stamped struct {
	From, To uint64
	Total    money.Amount
	Sig      [64]byte
}

func (s Stamped) message(channel [16]byte, root [32]byte) []byte {
	b := make([]byte, 0, len(stampTag)+16+8+8+8+32)
	b = append(b, stampTag...)
	b = append(b, channel[:]...)
	b = binary.BigEndian.AppendUint64(b, s.From)
	b = binary.BigEndian.AppendUint64(b, s.To)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Total))
	return append(b, root[:]...)
}

// Sign fills in s.Sig.
func (s *Stamped) Sign(key keys.Stamp, channel [16]byte, root [32]byte) {
	s.Sig = key.Sign(s.message(channel, root))
}

// Verify checks s.Sig.
func (s Stamped) Verify(key keys.StampPublic, channel [16]byte, root [32]byte) bool {
	return key.Verify(s.message(channel, root), s.Sig)
}

// Append writes what ReadStamped reads.
func (s Stamped) Append(b []byte) []byte {
	b = codec.AppendUint(b, s.From)
	b = codec.AppendUint(b, s.To)
	b = codec.AppendUint(b, s.Total)
	return append(b, s.Sig[:]...)
}

// ReadStamped reads a Stamped.
func ReadStamped(r *codec.Reader) (s Stamped) {
	s.From, s.To, s.Total = r.Uvarint(), r.Uvarint(), r.Amount()
	r.Fill(s.Sig[:])
	if s.To <= s.From {
		r.Fail(fmt.Errorf("stamp covers tickets %d to %d, which is none", s.From, s.To))
	}
	return s
}

// A Batch is a stamp with the orders it covers: all that is needed to prove any
// one of them.
type Batch struct {
	Channel [16]byte
	Payee   Payee
	Stamped Stamped
	Entries []Entry
	Tree    Tree
}

// Proof returns the bytes that prove entry i, for money.Receipt.Proof.
func (b *Batch) Proof(i int) []byte {
	path := b.Tree.path(i)
	out := make([]byte, 0, 1+16+len(b.Payee.Node)+len(b.Payee.Stamp)+64+3*10+64+2*2+1+32*len(path))
	out = append(out, proofVersion)
	out = append(out, b.Channel[:]...)
	out = b.Payee.Append(out)
	out = b.Stamped.Append(out)
	out = codec.AppendUint(out, len(b.Entries))
	out = codec.AppendUint(out, i)
	out = codec.AppendUint(out, len(path))
	for k := range path {
		out = append(out, path[k][:]...)
	}
	return out
}

const proofVersion = 1

// ErrForged means a proof does not prove what it should.
var ErrForged = errors.New("proof does not fit")

// Verify checks offline that the holder of the node key took e, and returns
// the channel it was paid on.
func Verify(e Entry, node keys.Public, proof []byte) (channel [16]byte, err error) {
	r := codec.NewReader(proof)
	if v := r.U8(); v != proofVersion && r.Err() == nil {
		return channel, fmt.Errorf("proof has version %d; this build reads version %d", v, proofVersion)
	}
	r.Fill(channel[:])
	payee := ReadPayee(r)
	stamped := ReadStamped(r)
	n := r.Int(MaxEntries, "number of orders")
	i := r.Int(MaxEntries, "order's place")
	path := make([]hash, r.Int(maxPath, "path length"))
	for k := range path {
		r.Fill(path[k][:])
	}
	if err := r.Close(); err != nil {
		return channel, fmt.Errorf("proof: %w", err)
	}
	if i >= n {
		return channel, fmt.Errorf("%w: order %d of %d", ErrForged, i, n)
	}
	root, ok := climb(&e, i, n, path)
	switch {
	case payee.Node != node:
		return channel, fmt.Errorf("%w: it is signed for node %s, not %s", ErrForged, payee.Node, node)
	case !payee.Check(channel):
		return channel, fmt.Errorf("%w: the node key does not vouch for the stamp key", ErrForged)
	case !ok || !stamped.Verify(payee.Stamp, channel, root):
		return channel, fmt.Errorf("%w: order %s of %v is not under the stamp", ErrForged, e.Order, e.Amount)
	}
	return channel, nil
}

// Evidence is an order that was paid, with its proof: the value of the outcome
// by which a core answers its payer.
type Evidence interface {
	Entry() Entry
	Proof() []byte
}

// Income is an order that was paid to us: the value of the outcome by which a
// core tells the till.
type Income interface{ Income() Entry }

// Paid is one order of a batch: the outcome of a channel core at either end.
type Paid struct {
	Batch *Batch
	I     int
}

// Entry is the order that was paid.
func (p Paid) Entry() Entry { return p.Batch.Entries[p.I] }

// Income is Entry: of a channel in one direction, whose core has one end, the
// outcome says the same to both.
func (p Paid) Income() Entry { return p.Entry() }

// Proof is Batch.Proof of the order.
func (p Paid) Proof() []byte { return p.Batch.Proof(p.I) }
