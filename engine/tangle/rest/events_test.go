package rest_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/step"
	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/engine/tangle/rest"
)

// ears are one client's, for events.
type ears struct {
	w    *world
	conn *websocket.Conn
}

func (w *world) listen(topics ...string) *ears {
	w.Helper()
	conn, _, err := websocket.Dial(w.Context(), strings.Replace(w.http.URL, "http", "ws", 1)+"/api/coinop/v1/events", nil)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(1 << 20)
	e := &ears{w, conn}
	for _, topic := range topics {
		e.say(object{"action": "subscribe", "topic": topic})
		e.hears(func(m message) bool { return m.Ack == "subscribe" && m.Topic == topic })
	}
	return e
}

func (e *ears) say(v any) {
	e.w.Helper()
	if err := e.conn.Write(e.w.Context(), websocket.MessageText, []byte(jsonOf(e.w.TB, v))); err != nil {
		e.w.Fatal(err)
	}
}

type message struct {
	Ack, Topic string
	Error      struct{ Code, Message string }
	Payload    json.RawMessage
}

// hears waits for a message.
func (e *ears) hears(is func(message) bool) message {
	e.w.Helper()
	ctx, cancel := context.WithTimeout(e.w.Context(), 5*time.Second)
	defer cancel()
	for {
		_, raw, err := e.conn.Read(ctx)
		if err != nil {
			e.w.Fatal("the message that was waited for has not come: ", err)
		}
		var m message
		if err := json.Unmarshal(raw, &m); err != nil {
			e.w.Fatal(err)
		}
		if is(m) {
			return m
		}
	}
}

func (e *ears) topic(name string) message {
	e.w.Helper()
	return e.hears(func(m message) bool { return m.Topic == name && m.Ack == "" })
}

// block is the block that a payload is.
func (m message) block(t *testing.T) *tangle.Block {
	t.Helper()
	var text string
	if err := json.Unmarshal(m.Payload, &text); err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.TrimPrefix(text, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := tangle.DecodeBlock(raw)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEvents: a shop hears of its money without asking, in every way there is.
func TestEvents(t *testing.T) {
	w := newWorld(t, rest.Options{})
	tx := w.pay(tangle.GenesisOutput(0), 1000, note, to("shop", 300), to("rich", 700))
	id := tx.ID()
	shop, rich := "outputs/unlock/address/"+addressOf("shop").Bech32("tst"), "outputs/unlock/address/"+addressOf("rich").Bech32("tst")
	one := "outputs/" + tangle.NewOutputID(id, 0).String()
	topics := []string{shop, rich + "/spent", one, "transactions/" + id.String() + "/included-block", "blocks", "milestones", "milestone-info/latest"}
	ears := map[string]*ears{}
	for _, topic := range topics {
		ears[topic] = w.listen(topic)
	}
	if a := w.post(object{"protocolVersion": 2, "payload": tx}); a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, topic := range []string{shop, one, rich + "/spent"} {
		var v struct {
			Metadata struct {
				TransactionID tangle.TransactionID
				IsSpent       bool
			}
			Output tangle.BasicOutput
		}
		if err := json.Unmarshal(ears[topic].topic(topic).Payload, &v); err != nil {
			t.Fatal(err)
		}
		want := to("shop", 300)
		if topic == rich+"/spent" {
			want = to("rich", 1000)
		}
		if v.Output != want || v.Metadata.IsSpent != (want.Amount == 1000) {
			t.Errorf("%s: %+v", topic, v)
		}
	}
	included := ears[topics[3]].topic(topics[3]).block(t)
	for {
		if b := ears["blocks"].topic("blocks").block(t); b.ID() == included.ID() {
			break
		}
	}
	var milestone string
	if err := json.Unmarshal(ears["milestones"].topic("milestones").Payload, &milestone); err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.TrimPrefix(milestone, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := tangle.DecodeMilestone(raw); err != nil || m.Verify(w.net) != nil {
		t.Errorf("milestone: %v", err)
	}
	var last, now struct{ Index uint32 }
	for range 3 {
		if err := json.Unmarshal(ears["milestone-info/latest"].topic("milestone-info/latest").Payload, &now); err != nil {
			t.Fatal(err)
		}
		if last.Index != 0 && now.Index != last.Index && now.Index != last.Index+1 {
			t.Errorf("milestone %d comes after %d", now.Index, last.Index)
		}
		last = now
	}

	t.Log("who asks later is told at once")
	about := "block-metadata/" + included.ID().String()
	late := w.listen(about)
	if m := late.topic(about); !strings.Contains(string(m.Payload), `"ledgerInclusionState":"included"`) {
		t.Errorf("%s", m.Payload)
	}
	late.say(object{"action": "subscribe", "topic": topics[3]})
	if b := late.topic(topics[3]).block(t); b.ID() != included.ID() {
		t.Error("another block is told")
	}
	late.say(object{"action": "subscribe", "topic": one})
	late.topic(one)

	t.Log("what makes no sense is said so")
	for _, v := range []object{
		{"action": "subscribe", "topic": "else"}, {"action": "subscribe", "topic": "outputs/nft/0x00"},
		{"action": "subscribe", "topic": "block-metadata/0x00"}, {"action": "dance", "topic": "blocks"},
	} {
		late.say(v)
		if m := late.hears(func(m message) bool { return m.Topic == v["topic"] }); m.Error.Code != "400" {
			t.Errorf("%v: %+v", v, m)
		}
	}
	late.say(object{"action": "ping"})
	late.hears(func(m message) bool { return m.Ack == "ping" })
	late.say(object{"action": "unsubscribe", "topic": one})
	late.hears(func(m message) bool { return m.Ack == "unsubscribe" })
	if err := late.conn.Write(t.Context(), websocket.MessageText, []byte("{")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := late.conn.Read(t.Context()); err == nil {
		t.Error("the connection lives on nonsense")
	}
}

// TestManyTopics: topics are counted, and those of a client that is gone are free.
func TestManyTopics(t *testing.T) {
	w := newWorld(t, rest.Options{})
	e := w.listen()
	go func() {
		for i := range rest.MaxTopics + 1 {
			raw := fmt.Sprintf(`{"action":"subscribe","topic":"outputs/unlock/address/%s"}`, tangle.Address{1: byte(i), 2: byte(i >> 8)}.Bech32("tst"))
			if e.conn.Write(w.Context(), websocket.MessageText, []byte(raw)) != nil {
				return
			}
		}
	}()
	heard := 0
	m := e.hears(func(m message) bool {
		heard++
		return m.Error.Code != ""
	})
	if heard != rest.MaxTopics+1 || !strings.Contains(m.Error.Message, "no more topics") {
		t.Errorf("after %d topics: %+v", heard, m)
	}
	if err := w.server.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.conn.Read(t.Context()); err == nil {
		t.Error("a server that is closed still speaks")
	}
}

// TestBlocks: a block is told when it is attached, once, and not when a milestone
// includes it, which here is an hour later.
func TestBlocks(t *testing.T) {
	w := newWorld(t, rest.Options{}, func(o *tanglenet.Options) { o.Config.Coordinator.Interval = step.Hour })
	e := w.listen("blocks")
	for i := range 3 {
		data := &tangle.TaggedData{Data: fmt.Append(nil, i)}
		if a := w.post(object{"protocolVersion": 2, "payload": data}); a.status != 201 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		got, ok := e.topic("blocks").block(t).Payload.(*tangle.TaggedData)
		if !ok || string(got.Data) != string(data.Data) {
			t.Fatalf("of %s it is told %+v", data.Data, got)
		}
	}
}
