package mqtt_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"coinop.dev/core/money"
	"coinop.dev/gateway/mqtt"
)

// answer is what a buyer reads.
type answer struct {
	ID    string
	State string
	Offer *struct {
		Order money.OrderID
		Token string
		Due   uint64 `json:"due_msat"`
		Ways  []struct{ Pay string }
	}
	Order *struct {
		Order   money.OrderID
		Payload []byte
	}
	Error *struct{ Kind, Detail string }
}

func parse(t testing.TB, raw []byte) (a answer) {
	t.Helper()
	if err := json.Unmarshal(raw, &a); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return a
}

func (c thing) ask(topic, request string) answer {
	c.t.Helper()
	c.publish(mqtt.Message{Topic: topic, Payload: []byte(request), QoS: 1})
	return parse(c.t, next[mqtt.Message](c).Payload)
}

// Ask for an offer, pay it elsewhere, show the proof, get the tea: with nothing
// but JSON on two topics, by an old client.
func TestABuyer(t *testing.T) {
	t.Parallel()
	w := newWorld()
	b, _ := listen(t, w, mqtt.Options{})
	c := connect(t, b.Addr().String(), "", false)
	const topic = "coinop/offers/client-of-"
	c.subscribe(topic + "/reply")
	request := `{"id":"a","do":"offer","service":"tea","units":2}`
	a := c.ask(topic, request)
	if a.ID != "a" || a.State != "quoted" || a.Offer == nil || a.Offer.Due != 1000 || a.Offer.Ways[0].Pay != "lightning:x" {
		t.Fatalf("%+v", a)
	}
	if again := c.ask(topic, request); again.Offer.Order != a.Offer.Order || w.quotes != 1 {
		t.Fatalf("asked again with the same id: %+v", again)
	}
	if other := c.ask(topic, `{"id":"a","do":"offer","service":"tea","units":3}`); other.Error == nil || other.Error.Kind != "invalid" {
		t.Fatalf("another request with the same id: %+v", other)
	}
	pay := func(preimage string) string {
		return fmt.Sprintf(`{"id":"b","do":"pay","token":%q,"preimage":%q}`, a.Offer.Token, preimage)
	}
	if wrong := c.ask(topic, pay("00ff")); wrong.Error == nil || wrong.Error.Kind != "invalid" || wrong.State != "failed" {
		t.Fatalf("a wrong preimage: %+v", wrong)
	}
	if paid := c.ask(topic, pay(preimage(a.Offer.Order))); paid.State != "paid" || paid.ID != "b" {
		t.Fatalf("%+v", paid)
	}
	// It goes away before the tea is there, and asks again when it is back.
	c.Close()
	w.until(t, "it is gone", func() bool { return true })
	w.deliver()
	c = connect(t, b.Addr().String(), "", false)
	c.subscribe(topic + "/reply")
	done := c.ask(topic, pay(preimage(a.Offer.Order)))
	if done.State != "delivered" || string(done.Order.Payload) != "a cup of tea" {
		t.Fatalf("%+v", done)
	}
	// Whoever knows only the order's number is told how it stands, and no more.
	if o := c.ask(topic, fmt.Sprintf(`{"id":"c","do":"order","order":"%v"}`, a.Offer.Order)); o.State != "delivered" || o.Order.Payload != nil {
		t.Fatalf("%+v", o)
	}
	for _, bad := range []string{`{"id":"x","do":"steal"}`, `{"do":"offer"}`, `{"id":"x","do":"offer","service":"tea","units":0}`, `{"id":"x","extra":1}`, `[]`, ``, `{`} {
		if a := c.ask(topic, bad); a.Error == nil || a.Error.Kind != "invalid" {
			t.Errorf("%s: %+v", bad, a)
		}
	}
	if a := c.ask(topic, `{"id":"x","do":"offer","service":"gold","units":1}`); a.Error == nil || a.ID != "x" {
		t.Errorf("%+v", a)
	}
	if n := w.served[a.Offer.Order]; n != 1 {
		t.Errorf("served %d times", n)
	}
}

// MQTT 5: publish to a command that costs something, and the acknowledgement says
// what; publish again with the proof.
func TestAPricedCommand(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle")
	b, _ := listen(t, w, mqtt.Options{})
	c := connect(t, b.Addr().String(), "", true)
	c.subscribe("coinop/offers/client-of-/#")
	m := mqtt.Message{Topic: "coinop/default/kettle/command/tea", Reply: "coinop/offers/client-of-/tea", Match: []byte{1, 2}}
	v := c.tell(m)
	text, ok := (&mqtt.Message{User: v.User}).Property(mqtt.PropOffer)
	if v.Code != mqtt.NotAuthorized || !ok {
		t.Fatalf("unpaid: %+v", v)
	}
	var o struct {
		Order money.OrderID
		Token string
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	again := c.tell(m)
	if same, _ := (&mqtt.Message{User: again.User}).Property(mqtt.PropOffer); same != text {
		t.Errorf("the second offer is %s", same)
	}
	m.User = []mqtt.Property{{Name: mqtt.PropProof, Value: o.Token + ":0000"}}
	if v := c.tell(m); v.Code != mqtt.NotAuthorized {
		t.Fatalf("a wrong proof: %+v", v)
	}
	m.User = []mqtt.Property{{Name: mqtt.PropProof, Value: o.Token + ":" + preimage(o.Order)}}
	for range 3 {
		if v := c.tell(m); v.Code != mqtt.Success {
			t.Fatalf("paid: %+v", v)
		}
	}
	w.deliver()
	receipt := next[mqtt.Message](c)
	if a := parse(t, receipt.Payload); a.State != "delivered" || receipt.Topic != m.Reply || string(receipt.Match) != "\x01\x02" {
		t.Fatalf("%+v: %+v", receipt, a)
	}
	if w.served[o.Order] != 1 {
		t.Errorf("served %d times", w.served[o.Order])
	}
	// A command that nobody sells reaches nobody.
	if v := c.tell(mqtt.Message{Topic: "coinop/default/kettle/command/open"}); v.Code != mqtt.NotAuthorized {
		t.Errorf("%+v", v)
	}
}

// A tenant pays for each message that it relays, out of a prepaid session; a
// repeated one is not charged twice.
func TestPricedEvents(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle")
	s := w.setup()
	s.Priced = func(t mqtt.Topic) string {
		if t.Class == mqtt.Event && t.Kind == mqtt.Meter {
			return "relay"
		}
		return ""
	}
	d := mqtt.New(s)
	b, err := mqtt.Listen(mqtt.Options{Addr: "127.0.0.1:0"}, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); d.Close() })
	c := connect(t, b.Addr().String(), "kettle", true)
	m := mqtt.Message{Topic: "coinop/default/kettle/event/meter", Payload: []byte("1")}
	v := c.tell(m)
	text, ok := (&mqtt.Message{User: v.User}).Property(mqtt.PropOffer)
	if v.Code != mqtt.NotAuthorized || !ok || !strings.Contains(text, `"session":true`) {
		t.Fatalf("unpaid: %+v", v)
	}
	var o struct {
		Order money.OrderID
		Token string
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	w.balance = 2
	m.User = []mqtt.Property{{Name: mqtt.PropProof, Value: o.Token + ":" + preimage(o.Order)}}
	for _, payload := range []string{"1", "1", "2", "1"} {
		m.Payload = []byte(payload)
		if v := c.tell(m); v.Code != mqtt.Success {
			t.Fatalf("%s: %+v", payload, v)
		}
	}
	if m.Payload = []byte("3"); c.tell(m).Code != mqtt.NotAuthorized {
		t.Error("the session is empty, and the message accepted")
	}
	if got := strings.Join(w.metered, ","); got != "kettle/meter 1,kettle/meter 2" {
		t.Errorf("passed on: %s", got)
	}
}

// Every message of ten buyers is repeated and reordered, as QoS 1 may do; each
// order is made once, and each answer is the same.
func TestRepeatedAndReordered(t *testing.T) {
	t.Parallel()
	w := newWorld()
	b, _ := listen(t, w, mqtt.Options{Rate: 1e6, Burst: 1e6})
	c := connect(t, b.Addr().String(), "", false)
	const topic = "coinop/offers/client-of-"
	c.subscribe(topic + "/reply")
	random := rand.New(rand.NewPCG(1, 2))
	const orders, copies = 7, 3
	send := func(messages []string) map[string]map[string]int {
		var all []string
		for range copies {
			all = append(all, messages...)
		}
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, m := range all {
			c.publish(mqtt.Message{Topic: topic, Payload: []byte(m), QoS: 1})
		}
		got := map[string]map[string]int{}
		for range all {
			raw := next[mqtt.Message](c).Payload
			a := parse(t, raw)
			if got[a.ID] == nil {
				got[a.ID] = map[string]int{}
			}
			got[a.ID][string(raw)]++
		}
		return got
	}
	var offers, pays []string
	for i := range orders {
		offers = append(offers, fmt.Sprintf(`{"id":"o%d","do":"offer","service":"tea","units":%d}`, i, i+1))
	}
	for id, answers := range send(offers) {
		if len(answers) != 1 {
			t.Errorf("%s has %d different answers", id, len(answers))
		}
		for raw := range answers {
			o := parse(t, []byte(raw)).Offer
			pays = append(pays, fmt.Sprintf(`{"id":"p%s","do":"pay","token":%q,"preimage":%q}`, id, o.Token, preimage(o.Order)))
		}
	}
	for id, answers := range send(pays) {
		if len(answers) != 1 {
			t.Errorf("%s has %d different answers", id, len(answers))
		}
	}
	w.deliver()
	for range orders {
		if a := parse(t, next[mqtt.Message](c).Payload); a.State != "delivered" {
			t.Errorf("receipt: %+v", a)
		}
	}
	if w.quotes != orders || len(w.served) != orders {
		t.Errorf("%d quotes and %d orders; %d were asked for", w.quotes, len(w.served), orders)
	}
	for id, n := range w.served {
		if n != 1 {
			t.Errorf("order %v is made %d times", id, n)
		}
	}
}
