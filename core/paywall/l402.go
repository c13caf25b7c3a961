// Package paywall is the texts by which HTTP servers ask for money and clients
// prove that they paid, in three dialects:
//
//   - L402 (github.com/lightninglabs/L402), and its elder form LSAT;
//   - the "Payment" authentication scheme (draft-httpauth-payment-00) with the
//     intents charge and session (draft-lightning-charge-00,
//     draft-lightning-session-00), for Lightning and for coinop's own rails;
//   - x402, version 2, and what version 1 sends.
//
// It decides nothing about money: gateway/paywall does, with a shop behind it.
package paywall

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
)

const (
	l402Version    = 0
	identifierSize = 2 + 32 + 32
)

// An Identifier is what the macaroon of an L402 token is baked with: the payment
// it needs and whose it is. Of the 32 bytes that L402 calls the token's or user's
// ID the first half is our order, and the rest is the shop's choice.
type Identifier struct {
	Hash  [32]byte // of the payment; zero if no way to pay has one
	Order money.OrderID
	Tail  [16]byte
}

// Append writes what ReadIdentifier reads.
func (id Identifier) Append(b []byte) []byte {
	b = append(b, 0, l402Version)
	b = append(b, id.Hash[:]...)
	b = append(b, id.Order[:]...)
	return append(b, id.Tail[:]...)
}

// ReadIdentifier reads the identifier of a token.
func ReadIdentifier(b []byte) (id Identifier, err error) {
	if len(b) != identifierSize {
		return id, fmt.Errorf("the token's identifier is %d bytes; L402's is %d", len(b), identifierSize)
	}
	r := codec.NewReader(b)
	if v := r.U16(); v != l402Version {
		return id, fmt.Errorf("the token is of L402 version %d; only %d is known", v, l402Version)
	}
	r.Fill(id.Hash[:])
	r.Fill(id.Order[:])
	r.Fill(id.Tail[:])
	return id, r.Close()
}

// L402 is one challenge: pay this invoice, and its preimage makes the token good.
type L402 struct {
	Token   string // a macaroon's text
	Invoice string // BOLT 11
}

// Headers are values of WWW-Authenticate: one for clients of L402, and one for
// those that know it as LSAT and its token as a macaroon. The token is in padded
// standard base64, because that is what those clients decode.
func (c L402) Headers() []string {
	token := c.Token
	if raw, err := base64.RawURLEncoding.DecodeString(token); err == nil {
		token = base64.StdEncoding.EncodeToString(raw)
	}
	return []string{
		join("L402", param{"version", fmt.Sprint(l402Version)}, param{"token", token}, param{"invoice", c.Invoice}),
		join("LSAT", param{"macaroon", token}, param{"invoice", c.Invoice}),
	}
}

// L402 reads a challenge of the schemes L402 and LSAT.
func (o Offer) L402() (c L402, ok bool) {
	if o.Scheme != "l402" && o.Scheme != "lsat" {
		return c, false
	}
	if c.Token = o.Params["token"]; c.Token == "" {
		c.Token = o.Params["macaroon"]
	}
	c.Invoice = o.Params["invoice"]
	return c, c.Token != "" && c.Invoice != "" && !strings.ContainsAny(c.Token, ": ,") && len(c.Token) <= macaroon.MaxText
}

// Credential is the value of Authorization that shows an L402 token paid.
func (c L402) Credential(preimage [32]byte) string {
	return "L402 " + c.Token + ":" + hex.EncodeToString(preimage[:])
}

var errL402 = errors.New("an L402 credential is one token in base64, a colon, and the preimage in 64 hex digits")

// readL402 reads what follows the scheme in Authorization.
func readL402(text string) (token string, preimage [32]byte, err error) {
	token, digits, ok := strings.Cut(text, ":")
	if !ok || token == "" || len(digits) != 2*len(preimage) || len(token) > macaroon.MaxText {
		return "", preimage, errL402
	}
	if _, err := hex.Decode(preimage[:], []byte(digits)); err != nil {
		return "", preimage, errL402
	}
	return token, preimage, nil
}
