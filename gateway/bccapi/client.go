package bccapi

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// A Client asks a server. What it returns are the server's claims, of which only
// the shape has been checked; see [Output.Check]. It has no key and signs
// nothing.
type Client struct {
	URL    string           // such as https://host:port, to which /ng/ is added
	Params *chaincfg.Params // of the chain; nil means regtest
	// HTTP is where a server's certificate is pinned, as the original did. Nil
	// means one that waits for Timeout.
	HTTP *http.Client
}

// A Lie is a server's claim that is not true.
type Lie struct {
	Claim string
	Truth string
}

// Error names the claim and the truth.
func (l *Lie) Error() string { return fmt.Sprintf("the bccapi server lies: %s; %s", l.Claim, l.Truth) }

// Balance asks for what addresses have, at most MaxAddresses.
func (c *Client) Balance(ctx context.Context, addresses ...Address) (Balance, error) {
	m, err := call[BalanceResponse](ctx, c, "queryBalance", BalanceRequest{addresses})
	return m.Balance, err
}

// Unspent asks for the unspent outputs of addresses, at most MaxAddresses. An
// output of another script, a value that cannot be and an output twice are a
// *Lie.
func (c *Client) Unspent(ctx context.Context, addresses ...Address) (UnspentResponse, error) {
	m, err := call[UnspentResponse](ctx, c, "queryUnspentOutputs", UnspentRequest{addresses})
	if err == nil {
		err = c.plausible(m, addresses)
	}
	if err != nil {
		return UnspentResponse{}, err
	}
	return m, nil
}

func (c *Client) plausible(m UnspentResponse, addresses []Address) error {
	scripts, seen := map[string]bool{}, map[wire.OutPoint]bool{}
	for _, a := range addresses {
		script, err := a.Script(cmp.Or(c.Params, &chaincfg.RegressionNetParams))
		if err != nil {
			return err
		}
		scripts[string(script)] = true
	}
	for _, set := range [][]Output{m.Unspent, m.Change, m.Receiving} {
		for _, o := range set {
			switch {
			case !scripts[string(o.Script)]:
				return &Lie{fmt.Sprintf("output %v pays script %x", o.Point, o.Script), "none of the addresses has it"}
			case o.Value < 0 || o.Value > btcutil.MaxSatoshi:
				return &Lie{fmt.Sprintf("output %v is worth %d sat", o.Point, o.Value), "there is no such amount"}
			case seen[o.Point]:
				return &Lie{fmt.Sprintf("output %v is there twice", o.Point), "it can be spent once"}
			}
			seen[o.Point] = true
		}
	}
	return nil
}

// Inventory asks for the newest transactions of addresses.
func (c *Client) Inventory(ctx context.Context, limit int32, addresses ...Address) (InventoryResponse, error) {
	return call[InventoryResponse](ctx, c, "queryTransactionInventory", InventoryRequest{addresses, limit})
}

// Summary asks who paid whom.
func (c *Client) Summary(ctx context.Context, ids ...chainhash.Hash) (SummaryResponse, error) {
	return call[SummaryResponse](ctx, c, "queryTransactionSummary", SummaryRequest{ids})
}

// Broadcast hands over a signed transaction. Doing it again, or to another
// server, is harmless. An answer that names another transaction is a *Lie.
func (c *Client) Broadcast(ctx context.Context, t *wire.MsgTx) error {
	m, err := call[BroadcastResponse](ctx, c, "broadcastTransaction", BroadcastRequest{t})
	if err != nil {
		return err
	}
	if id := t.TxHash(); m.ID != id {
		return &Lie{fmt.Sprintf("it broadcast transaction %v", m.ID), fmt.Sprintf("it was given %v", id)}
	}
	return nil
}

// Check holds the output against the transaction that makes it, which the
// protocol does not carry: fetch it from somebody else, or in a proof. Without
// this a P2PKH input must not be signed, because its signature does not cover
// what it is worth. The error is a *Lie.
func (o Output) Check(prev *wire.MsgTx) error {
	if id := prev.TxHash(); id != o.Point.Hash {
		return &Lie{fmt.Sprintf("output %v", o.Point), fmt.Sprintf("the transaction shown is %v", id)}
	}
	if uint64(o.Point.Index) >= uint64(len(prev.TxOut)) {
		return &Lie{fmt.Sprintf("output %v", o.Point), fmt.Sprintf("its transaction has %d outputs", len(prev.TxOut))}
	}
	out := prev.TxOut[o.Point.Index]
	if out.Value != o.Value {
		return &Lie{fmt.Sprintf("output %v is worth %d sat", o.Point, o.Value), fmt.Sprintf("it is worth %d sat", out.Value)}
	}
	if !bytes.Equal(out.PkScript, o.Script) {
		return &Lie{fmt.Sprintf("output %v pays script %x", o.Point, o.Script), fmt.Sprintf("it pays %x", out.PkScript)}
	}
	return nil
}

// call makes one round. The error is an *Error if the server answered with one,
// or not as it should.
func call[M Message](ctx context.Context, c *Client, name string, m Message) (answer M, err error) {
	url := strings.TrimSuffix(c.URL, "/") + "/ng/" + name
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(Append(nil, m)))
	if err != nil {
		return answer, err
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	got, err := cmp.Or(c.HTTP, &http.Client{Timeout: Timeout}).Do(r)
	if err != nil {
		return answer, err
	}
	defer got.Body.Close()
	if got.StatusCode != http.StatusOK {
		return answer, &Error{UnexpectedServerResponse, fmt.Sprintf("status %d", got.StatusCode)}
	}
	body, err := io.ReadAll(io.LimitReader(got.Body, MaxResponse+1))
	if err != nil {
		return answer, err
	}
	if len(body) > MaxResponse {
		return answer, &Error{InvalidServerResponse, fmt.Sprintf("the answer is longer than %d bytes", MaxResponse)}
	}
	frame, err := Decode(body)
	if err != nil {
		return answer, &Error{InvalidServerResponse, err.Error()}
	}
	switch m := frame.(type) {
	case M:
		return m, nil
	case *Error:
		return answer, m
	}
	return answer, &Error{InvalidServerResponse, fmt.Sprintf("frame type 0x%02x answers %s", uint8(frame.kind()), name)}
}
