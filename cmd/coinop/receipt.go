package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/receipt"
	"coinop.dev/rail"
)

func receiptCommand(u *ui) *cobra.Command {
	c := &cobra.Command{
		Use: "receipt", Short: "Check what was paid and delivered, without asking anybody",
		Long: "Receipts are those that coinop pay prints (the payee's word, or the proof of a payment), and those that a gateway\n" +
			"gives for an order (GET /v1/orders/ID/receipt, coinop orders receipt): the seller's word on all of it.",
	}
	var seller string
	verify := &cobra.Command{
		Use: "verify <file|->", Short: "Verify a receipt offline, part by part", Args: exactly("<file|->", 1),
		Long: `Says of each part whether it holds: the seller's signature, the payment's own proof, the rate
that was stamped on it, and the acknowledgement that the device has signed. A part that does not hold
is an error (exit code 1). A signature shows that the holder of a key said so; that the key is that of
the shop you mean, only you can know: name it with --seller.`,
		Example: "  coinop receipt verify receipt.json\n  curl -s https://shop.example/v1/orders/01ab…/receipt | coinop receipt verify --seller 02ab… -",
		RunE:    func(_ *cobra.Command, args []string) error { return u.verifyReceipt(args[0], seller) },
	}
	verify.Flags().StringVar(&seller, "seller", "", "the node key that must have signed, in hex")
	c.AddCommand(verify)
	return c
}

// A part is what a receipt says, and whether that holds.
type part struct {
	What  string `json:"what"`
	State string `json:"state"` // ok, wrong, or unchecked: there is nothing to check it by
	Say   string `json:"say"`
}

const unchecked = "unchecked"

func (u *ui) verifyReceipt(path, seller string) error {
	raw, err := u.readReceipt(path)
	if err != nil {
		return err
	}
	var s receipt.Sale
	if err := json.Unmarshal(raw, &s); err != nil || len(s.Sig) == 0 {
		if seller != "" {
			return usage{errors.New("--seller is for the receipt of an order; this is that of a payment")}
		}
		return u.verifyPayment(raw)
	}
	parts := saleParts(s, seller)
	wrong := 0
	for _, p := range parts {
		if p.State == bad {
			wrong++
		}
	}
	v := map[string]any{"valid": wrong == 0, "order": s.Order, "state": s.State, "seller": s.Seller, "parts": parts}
	if err := u.show(v, func(w io.Writer) {
		for _, p := range parts {
			fmt.Fprintf(w, "%-9s %-9s %s\n", p.State, p.What, clean(p.Say))
		}
	}); err != nil {
		return err
	}
	if wrong > 0 {
		return exit{fmt.Errorf("receipt: %d of %d parts do not hold", wrong, len(parts)), exitFailed}
	}
	return nil
}

// saleParts checks what stands in the seller's statement.
func saleParts(s receipt.Sale, seller string) []part {
	said := fmt.Sprintf("%v says: order %v of %d %s is %s, %v was paid", s.Seller, s.Order, s.Units, s.Item, s.State, s.Paid)
	if s.Back > 0 {
		said += fmt.Sprintf(", %v was given back", s.Back)
	}
	if s.Test {
		said += "; it was a test, and nobody paid"
	}
	parts := []part{{"seller", fine, said}}
	without := s
	without.Payment = nil // it is checked on its own
	switch err := without.Verify(); {
	case err != nil:
		parts[0] = part{"seller", bad, err.Error()}
	case seller != "" && !strings.EqualFold(seller, s.Seller.String()):
		parts[0] = part{"seller", bad, fmt.Sprintf("%v has signed, and not %s", s.Seller, seller)}
	}
	parts = append(parts, paymentPart(s))
	if s.Currency != "" {
		parts = append(parts, ratePart(s))
	}
	if s.Device != "" || len(s.Ack) > 0 {
		parts = append(parts, ackPart(s))
	}
	return parts
}

func paymentPart(s receipt.Sale) part {
	if s.Payment == nil {
		return part{"payment", unchecked, "the payer's own proof is not with it; the seller's word is"}
	}
	switch {
	case s.Payment.Order != s.Order:
		return part{"payment", bad, fmt.Sprintf("it is of order %v", s.Payment.Order)}
	case s.Payment.Amount < s.Due:
		return part{"payment", bad, fmt.Sprintf("%v was paid, and %v was due", s.Payment.Amount, s.Due)}
	}
	if err := rail.Default.Verify(*s.Payment); err != nil {
		return part{"payment", bad, err.Error()}
	}
	return part{"payment", fine, fmt.Sprintf("%v is paid to %s, and the proof holds", s.Payment.Amount, s.Payment.To)}
}

// ratePart recounts nothing that the seller has not signed: that the source said so
// is the seller's word.
func ratePart(s receipt.Sale) part {
	rate := offer.Rate{Currency: s.Currency, Micro: s.Rate, Source: s.Source, At: s.RateAt}
	if s.Rate == 0 || s.Source == "" || s.RateAt == 0 {
		return part{"rate", bad, "the stamp of the rate is not whole"}
	}
	if s.RateAt > s.At {
		return part{"rate", bad, "the rate is younger than the order's last change"}
	}
	return part{"rate", fine, fmt.Sprintf("%v were worth %v: a bitcoin cost %v by %s at %s", s.Due, rate.Worth(s.Due),
		offer.Fiat{Currency: s.Currency, Micro: s.Rate}, s.Source, time.UnixMilli(int64(s.RateAt)).UTC().Format(time.RFC3339))}
}

func ackPart(s receipt.Sale) part {
	if len(s.Ack) == 0 {
		return part{"device", unchecked, s.Device + " has signed nothing that is shown here"}
	}
	a, err := fleet.ParseAck(s.Ack)
	switch {
	case err != nil:
		return part{"device", bad, "the acknowledgement: " + err.Error()}
	case a.Order != s.Order || a.Device != s.Device:
		return part{"device", bad, fmt.Sprintf("the acknowledgement is of order %v, by %s", a.Order, a.Device)}
	}
	say := fmt.Sprintf("%s has acknowledged command %d, with its acknowledgement %d: %s", a.Device, a.Seq, a.Counter,
		map[bool]string{true: "done", false: "not done"}[a.OK])
	if a.Why != "" {
		say += ", " + a.Why
	}
	switch {
	case s.DeviceKey == (keys.Public{}):
		return part{"device", unchecked, say + "; it signs with a secret that only it and the seller know"}
	case !a.Verify(s.DeviceKey, keys.Secret{}):
		return part{"device", bad, fmt.Sprintf("the acknowledgement was not signed by %v", s.DeviceKey)}
	}
	return part{"device", fine, say}
}

// readReceipt reads a file, or standard input. pay prints {"receipt": …}; the bare
// receipt is as good.
func (u *ui) readReceipt(path string) (json.RawMessage, error) {
	in := u.in
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, exit{err, exitNotFound}
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, coinop.MaxConfig))
	if err != nil {
		return nil, err
	}
	var wrapped struct{ Receipt json.RawMessage }
	if err := json.Unmarshal(raw, &wrapped); err == nil && wrapped.Receipt != nil {
		return wrapped.Receipt, nil
	}
	return raw, nil
}

// verifyPayment verifies what a payment alone is proved by.
func (u *ui) verifyPayment(raw []byte) error {
	var r money.Receipt
	if err := json.Unmarshal(raw, &r); err != nil {
		return usage{fmt.Errorf("receipt: %w", err)}
	}
	if scheme, _, ok := strings.Cut(r.To, ":"); !ok || scheme == "" {
		return usage{errors.New("receipt: it names no payee")}
	}
	if err := rail.Default.Verify(r); err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	return u.show(map[string]any{"valid": true, "order": r.Order, "amount_msat": uint64(r.Amount), "to": r.To}, func(w io.Writer) {
		fmt.Fprintf(w, "valid: order %v of %v is paid to %s\n", r.Order, r.Amount, r.To)
	})
}
