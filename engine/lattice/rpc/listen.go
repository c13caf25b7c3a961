package rpc

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/coder/websocket"

	"coinop.dev/core/ledger/lattice"
)

// hear hears of cemented blocks over the WebSocket, until that is lost.
func (r *Remote) hear() error {
	ctx, cancel := context.WithTimeout(r.ctx, AskTime)
	conn, _, err := websocket.Dial(ctx, r.Socket, nil)
	cancel()
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(MaxAnswer)
	if err := r.say(conn, "subscribe", "accounts", nil); err != nil {
		return err
	}
	r.listens(conn)
	defer r.listens(nil)
	for {
		_, raw, err := conn.Read(r.ctx)
		if err != nil {
			return err
		}
		var v struct {
			Ack     string
			Topic   string
			Message struct {
				Hash  lattice.Hash
				Block struct {
					Account lattice.Key
					Link    lattice.Key `json:"link_as_account"`
				}
			}
		}
		switch err := json.Unmarshal(raw, &v); {
		case err != nil:
			continue
		case v.Ack == "update":
			r.acknowledged()
			continue
		case v.Topic != topicConfirmation:
			continue
		}
		r.mu.Lock()
		for _, k := range []lattice.Key{v.Message.Block.Account, v.Message.Block.Link} {
			if a := r.accounts[k]; a != nil {
				a.due = time.Time{}
			}
		}
		if s := r.submits[v.Message.Hash]; s != nil {
			s.due = time.Time{}
		}
		r.mu.Unlock()
		r.errands.Nudge()
	}
}

// listens notes that the WebSocket is there, or gone. Either way whatever may have
// been missed is asked for.
func (r *Remote) listens(conn *websocket.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn, r.told, r.said = conn, r.told[:0], nil
	for k, a := range r.accounts {
		r.told = append(r.told, k)
		a.due = time.Time{}
	}
	r.errands.Nudge()
}

// tellSocket adds accounts to what the WebSocket tells of.
func (r *Remote) tellSocket() {
	r.mu.Lock()
	conn := r.conn
	var some []lattice.Key
	if conn != nil {
		n := min(len(r.told), someAccounts)
		if some = slices.Clone(r.told[:n]); n > 0 {
			r.told = r.told[n:]
			r.said = append(r.said, some)
		}
		if len(r.told) > 0 {
			r.errands.Nudge()
		}
	}
	r.mu.Unlock()
	var accounts list
	for _, k := range some {
		accounts = append(accounts, k)
	}
	if accounts != nil && r.say(conn, "update", "accounts_add", accounts) != nil {
		conn.CloseNow() // and again from the beginning
	}
}

// acknowledged has accounts looked at that the WebSocket tells of from now on: what
// was cemented just before, it has told nobody.
func (r *Remote) acknowledged() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.said) == 0 {
		return
	}
	for _, k := range r.said[0] {
		if a := r.accounts[k]; a != nil {
			a.due = time.Time{}
		}
	}
	r.said = r.said[1:]
	r.errands.Nudge()
}

func (r *Remote) say(conn *websocket.Conn, action, name string, accounts list) error {
	ctx, cancel := context.WithTimeout(r.ctx, sayTime)
	defer cancel()
	o := new(object).put("action", action).put("topic", topicConfirmation).put("ack", action == "update").
		put("options", new(object).put(name, accounts).put("include_block", "true"))
	return conn.Write(ctx, websocket.MessageText, appendValue(nil, o))
}
