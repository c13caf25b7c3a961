package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	tanglenet "coinop.dev/engine/tangle"
)

const (
	// MaxAnswer bounds what a node answers, in bytes.
	MaxAnswer = 8 << 20
	// AskTime bounds one question, but for the work of a block.
	AskTime = 20 * time.Second
)

// ErrNoProofs says that a node is one of Stardust's own, which cannot show that a
// transaction was applied.
var ErrNoProofs = errors.New(`the node has no route ` + ours + `: it is no coinop node, so payments get no proof; set another node's URL`)

// A Client asks a node over its REST. The zero HTTP is http.DefaultClient.
type Client struct {
	URL  string // without a path: http://host:port
	HTTP *http.Client
}

// Do asks, and gives the body of the answer. body is nil or a value for JSON; accept
// is the form that is wanted, "" for JSON. What the node refuses is a *Fault.
func (c *Client) Do(ctx context.Context, method, path, accept string, body any) ([]byte, error) {
	var send io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		send = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.URL, "/")+path, send)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the Tangle node: %w", err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask the Tangle node: %w", err)
	case len(raw) > MaxAnswer:
		return nil, fmt.Errorf("the Tangle node answers more than %d bytes", MaxAnswer)
	case response.StatusCode == http.StatusOK, response.StatusCode == http.StatusCreated:
		return raw, nil
	}
	return nil, readFault(response.StatusCode, raw)
}

// readFault is what a node says is wrong, whoever wrote it.
func readFault(status int, raw []byte) *Fault {
	var e envelope
	if err := json.Unmarshal(raw, &e); err != nil || e.Error.Message == "" {
		e.Error.Message = http.StatusText(status)
	}
	return &Fault{status, fmt.Sprintf("%.300s", e.Error.Message), e.Error.Refusal}
}

// ask decodes an answer in JSON.
func (c *Client) ask(ctx context.Context, method, path string, body, answer any) error {
	raw, err := c.Do(ctx, method, path, "", body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("the Tangle node's answer: %w", err)
	}
	return nil
}

// Tips are parents for a new block.
func (c *Client) Tips(ctx context.Context) ([]tangle.BlockID, error) {
	var answer struct{ Tips []tangle.BlockID }
	err := c.ask(ctx, http.MethodGet, core+"/tips", nil, &answer)
	if n := len(answer.Tips); err == nil && (n == 0 || n > tangle.MaxParents) {
		err = fmt.Errorf("the Tangle node knows %d tips; a block has 1 to %d parents", n, tangle.MaxParents)
	}
	slices.SortFunc(answer.Tips, func(a, b tangle.BlockID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(answer.Tips), err
}

// Block finds a block.
func (c *Client) Block(ctx context.Context, id tangle.BlockID) (*tangle.Block, error) {
	raw, err := c.Do(ctx, http.MethodGet, core+"/blocks/"+id.String(), binary, nil)
	if err != nil {
		return nil, err
	}
	if got := tangle.IDOf(raw); got != id {
		return nil, fmt.Errorf("the Tangle node answers block %s for %s", got, id)
	}
	return tangle.DecodeBlock(raw)
}

// Submit has a payload attached. If the node does no work, or not enough, it is done
// here, for the network n; the context bounds it.
func (c *Client) Submit(ctx context.Context, n *tangle.Network, p tangle.Payload) (tangle.BlockID, error) {
	payload, err := json.Marshal(p)
	if err != nil {
		return tangle.BlockID{}, err
	}
	var answer created
	loose := object{"protocolVersion": tangle.Protocol, "parents": []string{}, "payload": json.RawMessage(payload), "nonce": "0"}
	err = c.ask(ctx, http.MethodPost, core+"/blocks", loose, &answer)
	var f *Fault
	if err == nil || !errors.As(err, &f) || !f.mayWantWork() {
		return answer.Block, err
	}
	b := &tangle.Block{Protocol: tangle.Protocol, Payload: p}
	if b.Parents, err = c.Tips(ctx); err != nil {
		return tangle.BlockID{}, err
	}
	unworked := b.AppendUnworked(nil)
	zeros := n.ZerosNeeded(len(unworked) + tangle.NonceSize)
	if zeros == 0 {
		return tangle.BlockID{}, f
	}
	if b.Nonce, err = tanglenet.Work(ctx, unworked, zeros); err != nil {
		return tangle.BlockID{}, err
	}
	err = c.ask(ctx, http.MethodPost, core+"/blocks", b, &answer)
	return answer.Block, err
}

// mayWantWork reports whether a block may have been refused because the node does no
// work for others. Nodes say that in different words.
func (f *Fault) mayWantWork() bool {
	return (f.Status == http.StatusBadRequest || f.Status == http.StatusServiceUnavailable) && (f.Refusal == "" || f.Refusal == tangle.Busy)
}

// State is what an address of the network with the prefix hrp has.
func (c *Client) State(ctx context.Context, hrp string, a tangle.Address) (s tangle.State, err error) {
	text := a.Bech32(hrp)
	var answer State
	if err := c.ask(ctx, http.MethodGet, ours+"/addresses/"+text, nil, &answer); err != nil {
		return s, orNoProofs(err)
	}
	if n := len(answer.Outputs); answer.Address != text || n > tangle.MaxUnspent {
		return s, fmt.Errorf("the Tangle node answers %d outputs of address %.100q for %s", n, answer.Address, text)
	}
	s = tangle.State{Address: a, Index: answer.Ledger}
	for _, o := range answer.Outputs {
		amount, err := strconv.ParseUint(o.Amount, 10, 64)
		if err != nil {
			return s, fmt.Errorf("the Tangle node's answer: output %s has %.30q", o.ID, o.Amount)
		}
		s.Unspent = append(s.Unspent, tangle.Unspent{ID: o.ID, Amount: amount, Note: o.Note})
	}
	return s, nil
}

// orNoProofs tells a node that does not know our routes from one that does not know
// an answer.
func orNoProofs(err error) error {
	var f *Fault
	if errors.As(err, &f) && f.Status == http.StatusNotFound && f.Message != notApplied.Message && f.Refusal == "" {
		return ErrNoProofs
	}
	return err
}

// Final asks for what shows that a milestone has applied a transaction:
// node.ErrNotApplied if none has yet.
func (c *Client) Final(ctx context.Context, id tangle.TransactionID) (f tangle.Final, err error) {
	raw, err := c.Do(ctx, http.MethodGet, ours+"/transactions/"+id.String()+"/proof", proofType, nil)
	var fault *Fault
	if errors.As(err, &fault) && fault.Message == notApplied.Message {
		return f, node.ErrNotApplied
	}
	if err != nil {
		return f, orNoProofs(err)
	}
	f.Transaction = id
	if f.Proof, err = readProof(raw); err != nil {
		return f, fmt.Errorf("the Tangle node's proof: %w", err)
	}
	return f, nil
}
