package wallet

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/money"
)

// Unit is how many raw are one msat on our networks. What is below it tells bills
// apart.
const Unit = 1_000_000_000_000_000

// Raw is an amount of msat in raw.
func Raw(a money.Amount) lattice.Raw { return lattice.Mul64(uint64(a), Unit) }

// Amount is how many whole msat an amount of raw has; false if there cannot be so
// much money.
func Amount(r lattice.Raw) (money.Amount, bool) {
	whole, _ := r.Div(Unit)
	return money.Amount(whole.Lo), whole.Hi == 0 && whole.Lo <= uint64(money.MaxAmount)
}

// A Bill is what an order is paid by: so much raw, exactly, to an account, by the
// final votes of those whose weights have the digest Table.
type Bill struct {
	Account lattice.Key
	Amount  lattice.Raw
	Table   [32]byte
}

const tableParam = "table"

// String writes the bill: a payment URI with one more parameter, which other wallets
// pass over.
func (b Bill) String() string {
	return lattice.URI{Account: b.Account, Amount: b.Amount}.String() + "&" + tableParam + "=" + hex.EncodeToString(b.Table[:])
}

// ParseBill reads what String writes, and nothing else, so that a signed bill has
// one meaning.
func ParseBill(text string) (b Bill, err error) {
	u, err := lattice.ParseURI(text)
	if err != nil {
		return b, err
	}
	parsed, err := url.Parse(text)
	if err != nil {
		return b, fmt.Errorf("bill %.100q: %w", text, err)
	}
	b = Bill{Account: u.Account, Amount: u.Amount}
	table := parsed.Query().Get(tableParam)
	if n, err := hex.Decode(b.Table[:min(len(table)/2, len(b.Table))], []byte(table[:min(len(table), 2*len(b.Table))])); err != nil || n != len(b.Table) {
		return b, fmt.Errorf("bill %.100q has no digest of a table in 64 hex digits", text)
	}
	if b.Amount.IsZero() || b.String() != text {
		return b, fmt.Errorf("bill %.100q is not written as the payee's machine does", text)
	}
	return b, nil
}

// table is whose final votes a network trusts.
func table(n *lattice.Network) lattice.Weights {
	if len(n.Reps) > 0 {
		return n.Reps
	}
	return lattice.Weights{{Rep: n.Genesis.Representative, Weight: n.Supply()}}
}

// Table is the digest of whose final votes a network trusts: of its table, or where
// it has none of its genesis representative with the whole supply.
func Table(n *lattice.Network) [32]byte { return table(n).Digest() }

// A proof is the payer's block without what follows from the bill, the block before
// it, whose votes count, and final votes.
type proof struct {
	payer          lattice.Key
	previous       lattice.Block // of the payer; without signature and work
	representative lattice.Key
	table          lattice.Weights
	votes          lattice.Certificate
}

func newProof(f *lattice.Final, w lattice.Weights) proof {
	return proof{f.Block.Account, f.Previous, f.Block.Representative, w, f.Proof}
}

func (p *proof) append(b []byte) []byte {
	b = append(b, p.payer[:]...)
	b = append(b, p.previous.Previous[:]...)
	b = append(b, p.previous.Representative[:]...)
	b = p.previous.Balance.Append(b)
	b = append(b, p.previous.Link[:]...)
	b = append(b, p.representative[:]...)
	b = codec.AppendBytes(b, p.table.Append(nil))
	return p.votes.Append(b)
}

const maxTable = lattice.MaxWeights*(32+lattice.RawSize) + 2

func readProof(raw []byte) (p proof, err error) {
	r := codec.NewReader(raw)
	r.Fill(p.payer[:])
	p.previous.Account = p.payer
	r.Fill(p.previous.Previous[:])
	r.Fill(p.previous.Representative[:])
	p.previous.Balance = lattice.Raw{Hi: r.U64(), Lo: r.U64()}
	r.Fill(p.previous.Link[:])
	r.Fill(p.representative[:])
	weights := r.Bytes(maxTable, "weight table")
	votes := r.Take(r.Len())
	if err := r.Close(); err != nil {
		return p, err
	}
	if p.table, err = lattice.DecodeWeights(weights); err != nil {
		return p, err
	}
	p.votes, err = lattice.DecodeCertificate(votes)
	return p, err
}

// Verify checks offline that a final block sends a bill's exact amount to its
// account. It trusts the table that the bill names.
func Verify(b Bill, raw []byte) error {
	p, err := readProof(raw)
	if err != nil {
		return err
	}
	if p.table.Digest() != b.Table {
		return errors.New("the proof is by another table of weights than the bill says")
	}
	left, ok := p.previous.Balance.Sub(b.Amount)
	if !ok {
		return fmt.Errorf("the payer had %s raw; the bill is of %s", p.previous.Balance, b.Amount)
	}
	send := lattice.Block{
		Account: p.payer, Previous: p.previous.Hash(), Representative: p.representative,
		Balance: left, Link: b.Account,
	}
	if p.votes.Hash != send.Hash() {
		return fmt.Errorf("the votes are for block %s, and not for one that pays the bill", p.votes.Hash)
	}
	return p.votes.Verify(p.table)
}
