package rpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"coinop.dev/core/ledger/lattice"
)

const (
	// MaxAnswer bounds what a node answers, in bytes.
	MaxAnswer = 8 << 20
	// AskTime bounds one question, but for one for work.
	AskTime = 20 * time.Second
)

// ErrNoCertificates says that a node is one of Nano's own, which cannot show that a
// block is final.
var ErrNoCertificates = errors.New(`the node does not know the action "certificate": it is no coinop node, so payments get no proof; set another node's URL`)

// A Client asks a node over its RPC. The zero HTTP is http.DefaultClient.
type Client struct {
	URL  string
	HTTP *http.Client
}

// Do asks for an action, whose name the question has, and decodes the answer. What
// the node refuses is a Fault.
func (c *Client) Do(ctx context.Context, question map[string]any, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("ask the lattice node: %w", err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("ask the lattice node: %w", err)
	case len(raw) > MaxAnswer:
		return fmt.Errorf("the lattice node answers more than %d bytes", MaxAnswer)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("the lattice node at %s answers %s", c.URL, response.Status)
	}
	var fault struct{ Error Fault }
	if err := json.Unmarshal(raw, &fault); err != nil {
		return fmt.Errorf("the lattice node's answer: %w", err)
	}
	if fault.Error != "" {
		return fault.Error
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("the lattice node's answer: %w", err)
	}
	return nil
}

// A decimal is a number in text.
type decimal uint64

func (d *decimal) UnmarshalJSON(b []byte) error {
	n, ok := number(string(bytes.Trim(b, `"`)))
	if *d = decimal(n); !ok {
		return fmt.Errorf("%.20q is no number", b)
	}
	return nil
}

// State is an account as the node has it.
func (c *Client) State(ctx context.Context, k lattice.Key) (s lattice.State, err error) {
	s.Account = k
	var info struct {
		Frontier       lattice.Hash
		Balance        lattice.Raw
		Representative lattice.Key
		Height         decimal `json:"block_count"`
		Confirmed      decimal `json:"confirmation_height"`
	}
	err = c.Do(ctx, map[string]any{"action": "account_info", "account": k, "representative": "true"}, &info)
	if err != nil && !errors.Is(err, accountNotFound) {
		return s, err
	}
	if err == nil {
		s.Frontier, s.Balance, s.Representative = info.Frontier, info.Balance, info.Representative
		s.Height, s.Confirmed = uint64(info.Height), uint64(info.Confirmed)
	}
	s.Receivable, err = c.receivable(ctx, k)
	return s, err
}

func (c *Client) receivable(ctx context.Context, k lattice.Key) (list []lattice.Receivable, err error) {
	var answer struct{ Blocks json.RawMessage }
	question := map[string]any{"action": "receivable", "account": k, "count": fmt.Sprint(lattice.MaxReceivable),
		"source": "true", "sorting": "true", "include_only_confirmed": "true"}
	if err := c.Do(ctx, question, &answer); err != nil {
		return nil, err
	}
	blocks, err := inOrder(answer.Blocks)
	if err != nil {
		return nil, err
	}
	for _, b := range blocks {
		var what struct {
			Amount lattice.Raw
			Source lattice.Key
		}
		source, err := lattice.ParseHash(b.name)
		if err == nil {
			err = json.Unmarshal(b.value, &what)
		}
		if err != nil || len(list) >= lattice.MaxReceivable {
			return nil, fmt.Errorf("the lattice node's answer: %d receivable blocks, %w", len(blocks), err)
		}
		list = append(list, lattice.Receivable{Source: source, From: what.Source, Amount: what.Amount})
	}
	return list, nil
}

type member struct {
	name  string
	value json.RawMessage
}

// inOrder reads the members of an object, or of the empty text that stands for
// none, as they come.
func inOrder(raw json.RawMessage) (list []member, err error) {
	if string(raw) == `""` {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("the lattice node answers no list of blocks")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: name.(string)}
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// A block in an answer.
type said struct{ lattice.Block }

func (s *said) UnmarshalJSON(raw []byte) error {
	if string(raw) == `""` {
		return nil
	}
	r, err := parse(raw)
	if err == nil {
		s.Block, err = readBlock(r.values)
	}
	return err
}

// Block finds a block.
func (c *Client) Block(ctx context.Context, h lattice.Hash) (b lattice.Block, confirmed bool, err error) {
	var answer struct {
		Contents  said
		Confirmed string
	}
	err = c.Do(ctx, map[string]any{"action": "block_info", "hash": h, "json_block": "true"}, &answer)
	if b = answer.Contents.Block; err == nil && b.Hash() != h {
		err = fmt.Errorf("the lattice node answers block %s for %s", b.Hash(), h)
	}
	return b, answer.Confirmed == "true", err
}

// Process hands a block to the node. Its kind guards against a wrong balance.
func (c *Client) Process(ctx context.Context, b *lattice.Block, k lattice.Kind) error {
	var answer struct{ Hash lattice.Hash }
	return c.Do(ctx, map[string]any{"action": "process", "json_block": "true", "subtype": subtype(k), "block": contents(b)}, &answer)
}

// Work has the node do work.
func (c *Client) Work(ctx context.Context, root [32]byte, difficulty uint64) (work uint64, err error) {
	var answer struct{ Work string }
	question := map[string]any{"action": "work_generate", "hash": lattice.Hash(root), "difficulty": hex16(difficulty)}
	if err := c.Do(ctx, question, &answer); err != nil {
		return 0, err
	}
	r := &request{values: map[string]any{"work": answer.Work}}
	if work = r.hex64("work", 0, badWork); r.fault == nil && lattice.WorkValue(root, work) < difficulty {
		r.fail(badWork)
	}
	return work, r.fault
}

// Final asks for what shows that a block is final. A fault whose text is "Block is
// not cemented" says that it is not yet.
func (c *Client) Final(ctx context.Context, h lattice.Hash) (f lattice.Final, err error) {
	var answer struct {
		Block       said
		Previous    said
		Certificate string
	}
	err = c.Do(ctx, map[string]any{"action": "certificate", "hash": h}, &answer)
	if errors.Is(err, unknownCommand) {
		err = ErrNoCertificates
	}
	if err != nil {
		return f, err
	}
	raw, err := hex.DecodeString(answer.Certificate)
	if err != nil {
		return f, fmt.Errorf("the lattice node's certificate: %w", err)
	}
	f = lattice.Final{Block: answer.Block.Block, Previous: answer.Previous.Block}
	if f.Proof, err = lattice.DecodeCertificate(raw); err != nil {
		return f, err
	}
	if previous := f.Previous.Hash(); f.Block.Hash() != h || f.Proof.Hash != h || !f.Block.Previous.IsZero() && f.Block.Previous != previous {
		return f, fmt.Errorf("the lattice node answers what is not about block %s", h)
	}
	return f, nil
}
