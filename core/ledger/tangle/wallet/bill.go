package wallet

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/money"
)

// A base unit of our networks is one msat.

// Scheme begins the bills.
const Scheme = "iota:"

// Tag is that of the tagged data of a transaction that pays orders. The data are
// their IDs, each at the place of its output.
const Tag = "coinop"

// A Bill is what an order is paid by: an output of exactly so much, in a transaction
// that names the order, applied by those whose keys have the digest Keys.
type Bill struct {
	HRP     string
	Address tangle.Address
	Amount  money.Amount
	Order   money.OrderID
	Keys    tangle.Hash
}

// String writes the bill as a payment URI.
func (b Bill) String() string {
	return fmt.Sprintf("%s%s?amount=%d&order=%v&keys=%s", Scheme, b.Address.Bech32(b.HRP), uint64(b.Amount), b.Order, hex.EncodeToString(b.Keys[:]))
}

// ParseBill reads what String writes, and nothing else, so that a signed bill has
// one meaning.
func ParseBill(text string) (b Bill, err error) {
	u, q, err := parse(text)
	if err != nil {
		return b, err
	}
	b = Bill{HRP: u.HRP, Address: u.Address, Amount: u.Amount, Order: u.Order}
	if err := b.Keys.UnmarshalText([]byte("0x" + q.Get("keys"))); err != nil {
		return b, fmt.Errorf("bill %.100q: %w", text, err)
	}
	if b.Amount == 0 || b.String() != text {
		return b, fmt.Errorf("bill %.100q is not written as the payee's machine does", text)
	}
	return b, nil
}

// A URI asks for a payment: iota:<address>?amount=<base units>&order=<ID>.
// Parameters that it does not know it passes over.
type URI struct {
	HRP     string
	Address tangle.Address
	Amount  money.Amount  // 0: the payer chooses
	Order   money.OrderID // as the payee knows it; zero: it says none
}

// ParseURI reads a URI of any network.
func ParseURI(text string) (URI, error) {
	u, _, err := parse(text)
	return u, err
}

func parse(text string) (u URI, q url.Values, err error) {
	if len(text) > maxURI {
		return u, nil, fmt.Errorf("uri is %d bytes; the limit is %d", len(text), maxURI)
	}
	rest, ok := strings.CutPrefix(text, Scheme)
	if !ok {
		return u, nil, fmt.Errorf("uri %.30q does not begin with %s", text, Scheme)
	}
	address, query, _ := strings.Cut(rest, "?")
	u.HRP = address[:max(0, strings.LastIndexByte(address, '1'))]
	if u.Address, err = tangle.ParseAddress(u.HRP, address); err != nil {
		return u, nil, err
	}
	if q, err = url.ParseQuery(query); err != nil {
		return u, nil, fmt.Errorf("uri %.100q: %w", text, err)
	}
	if amount := q.Get("amount"); amount != "" {
		n, err := strconv.ParseUint(amount, 10, 64)
		if err != nil || n == 0 || n > uint64(money.MaxAmount) {
			return u, nil, fmt.Errorf("uri %.100q: the amount is not 1 to %d base units", text, uint64(money.MaxAmount))
		}
		u.Amount = money.Amount(n)
	}
	if order := q.Get("order"); order != "" {
		if err := u.Order.UnmarshalText([]byte(order)); err != nil {
			return u, nil, fmt.Errorf("uri %.100q: %w", text, err)
		}
	}
	return u, q, nil
}

const maxURI = 2048

// orders are those that a transaction pays, by its note.
func orders(note *tangle.TaggedData) []money.OrderID {
	const size = len(money.OrderID{})
	if note == nil || string(note.Tag) != Tag || len(note.Data) == 0 || len(note.Data)%size != 0 || len(note.Data)/size > tangle.MaxOutputs {
		return nil
	}
	list := make([]money.OrderID, len(note.Data)/size)
	for i := range list {
		copy(list[i][:], note.Data[i*size:])
	}
	return list
}

// paidBy is the order that an output pays: the one at its place. What comes after
// them is change, which must not pass for a payment: whose order ID it is that we pay
// by a plain address, its payee chooses.
func paidBy(note *tangle.TaggedData, output uint16) (id money.OrderID, ok bool) {
	if list := orders(note); int(output) < len(list) {
		return list[output], true
	}
	return id, false
}

// Verify checks offline that a transaction with an output of a bill's amount to its
// address, for its order, was applied. It trusts the keys that the bill names.
func Verify(b Bill, raw []byte) error {
	r := codec.NewReader(raw)
	keys := tangle.ReadCoordinators(r)
	proof := tangle.ReadProof(r)
	if err := r.Close(); err != nil {
		return err
	}
	if keys.Digest() != b.Keys {
		return errors.New("the proof is by other coordinators than the bill says")
	}
	t, err := proof.Verify(keys)
	if err != nil {
		return err
	}
	for i, out := range t.Essence.Outputs {
		if id, ok := paidBy(t.Essence.Payload, uint16(i)); ok && id == b.Order && out.Address == b.Address && out.Amount == uint64(b.Amount) {
			return nil
		}
	}
	return fmt.Errorf("transaction %s has no output that pays %v of order %v", t.ID(), b.Amount, b.Order)
}

func appendProof(b []byte, c tangle.Coordinators, p *tangle.Proof) []byte {
	return p.Append(c.Append(b))
}
