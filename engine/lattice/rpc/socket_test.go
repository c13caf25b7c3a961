package rpc_test

import (
	"context"
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/coder/websocket"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	nanonet "coinop.dev/engine/lattice"
	"coinop.dev/engine/lattice/rpc"
)

// hear opens the WebSocket and says something.
func (w *world) hear(say ...string) *websocket.Conn {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, w.ws.URL, nil)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.CloseNow() })
	for _, what := range say {
		if err := c.Write(ctx, websocket.MessageText, []byte(what)); err != nil {
			w.Fatal(err)
		}
	}
	return c
}

// next is what a client hears next.
func (w *world) next(c *websocket.Conn) map[string]any {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
	defer cancel()
	_, b, err := c.Read(ctx)
	if err != nil {
		w.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		w.Fatal(err)
	}
	return v
}

// Wallets hear of what concerns them, as soon as it is cemented.
func TestWebSocket(t *testing.T) {
	w := newWorld(t, rpc.Options{})
	bank, shop, other := w.purse("genesis"), w.purse("shop"), w.purse("other")
	all := w.hear(`{"action":"ping","id":"7"}`, `{"action":"subscribe","topic":"confirmation","ack":"true","id":1,"options":{"include_election_info_with_votes":"true","include_linked_account":true}}`)
	if pong := w.next(all); pong["ack"] != "pong" || pong["id"] != "7" || pong["time"] == nil {
		t.Errorf("a ping is answered %v", pong)
	}
	if ack := w.next(all); ack["ack"] != "subscribe" || ack["id"] != "1" {
		t.Errorf("a subscription is answered %v", ack)
	}
	mine := w.hear(`{"action":"subscribe","topic":"confirmation","ack":true,"options":{"accounts":["`+other.key().String()+`"],"include_block":"false"}}`,
		`{"action":"update","topic":"confirmation","ack":true,"options":{"accounts_add":["`+shop.key().String()+`"],"accounts_del":["`+other.key().String()+`"]}}`)
	if a, b := w.next(mine), w.next(mine); a["ack"] != "subscribe" || b["ack"] != "update" {
		t.Errorf("%v, then %v", a, b)
	}
	rest := w.hear(`{"action":"subscribe","topic":"vote","ack":true}`, `{"action":"subscribe","topic":"new_unconfirmed_block","ack":true}`,
		`{"action":"subscribe","topic":"started_election","ack":true}`, `{"action":"subscribe","topic":"weather","ack":true}`,
		`{"action":"unsubscribe","topic":"work","ack":true}`)
	for range 4 {
		if ack := w.next(rest); ack["ack"] == nil {
			t.Errorf("%v", ack)
		}
	}

	w.process(bank.send(lattice.RawOf(1), other.key()))
	send := bank.send(lattice.RawOf(2), shop.key())
	w.process(send)
	w.next(all)
	v := w.next(all)
	m := v["message"].(map[string]any)
	b, info := m["block"].(map[string]any), m["election_info"].(map[string]any)
	if v["topic"] != "confirmation" || m["account"] != bank.key().String() || m["amount"] != "2" || m["hash"] != send.Hash().String() ||
		m["confirmation_type"] != "active_quorum" || b["link_as_account"] != shop.key().String() || b["subtype"] != "send" ||
		b["linked_account"] != shop.key().String() || info["voters"] != "1" || len(info["votes"].([]any)) != 1 {
		t.Errorf("a confirmation is %v", v)
	}
	m = w.next(mine)["message"].(map[string]any)
	if m["hash"] != send.Hash().String() || m["block"] != nil {
		t.Errorf("who wants to hear of the shop hears first %v", m)
	}
	heard := map[any]bool{}
	for range 4 {
		heard[w.next(rest)["topic"]] = true
	}
	if !heard["new_unconfirmed_block"] || !heard["started_election"] {
		t.Errorf("heard %v", heard)
	}
	rude := w.hear(`{"action":`)
	if _, _, err := rude.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("half an object is answered %v", err)
	}
}

// On a network of two nodes, the one that is asked tells of the other: where it is,
// how it says it is, and what its representative votes.
func TestPeersAndVotes(t *testing.T) {
	rep, err := nanonet.Open(t.Context(), newMachine(t), nanonet.Options{
		Config: node.Config{Network: network(), ID: secretOf("rep's"), Reps: []eddsa.Secret{secretOf("genesis")}}, Listen: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rep.Close() })
	w := newWorldOf(t, rpc.Options{}, nanonet.Options{
		Config: node.Config{Network: network(), ID: secretOf("id")}, Peers: []string{rep.Addr().String()},
	})
	for len(w.node.Peers()) == 0 {
		time.Sleep(time.Millisecond)
	}
	c := w.hear(`{"action":"subscribe","topic":"vote","ack":true,"options":{"representatives":["`+w.purse("genesis").key().String()+`"]}}`,
		`{"action":"subscribe","topic":"telemetry","ack":true}`)
	w.next(c)
	w.next(c)
	send := w.purse("genesis").send(lattice.RawOf(1), w.purse("shop").key())
	w.process(send)
	for voted := false; !voted; {
		v := w.next(c)
		m := v["message"].(map[string]any)
		if voted = v["topic"] == "vote"; voted && (m["account"] != w.purse("genesis").key().String() || m["blocks"].([]any)[0] != send.Hash().String()) {
			t.Errorf("a vote is %v", m)
		}
	}
	at := "[::ffff:127.0.0.1]:" + portOf(rep)
	id := rep.ID().Node()
	if p := w.askFor(`{"action":"peers"}`)["peers"].(map[string]any); p[at] != "21" {
		t.Errorf("peers are %v", p)
	}
	if p := w.askFor(`{"action":"peers","peer_details":true}`)["peers"].(map[string]any); p[at].(map[string]any)["node_id"] != id {
		t.Errorf("peers are %v", p)
	}
	for range 500 {
		if metrics, ok := w.askFor(`{"action":"telemetry","raw":"true"}`)["metrics"].([]any); ok {
			if m := metrics[0].(map[string]any); m["node_id"] != id || m["address"] != "::ffff:127.0.0.1" || m["port"] != portOf(rep) {
				t.Errorf("telemetry of peers is %v", metrics)
			}
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if m := w.askFor(`{"action":"telemetry","address":"::ffff:127.0.0.1","port":"` + portOf(rep) + `"}`); m["node_id"] != id {
		t.Errorf("telemetry of the peer is %v", m)
	}
}

func portOf(n *nanonet.Node) string {
	_, port, _ := net.SplitHostPort(n.Addr().String())
	return port
}
