package mqtt

import (
	"bufio"
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

func FuzzParseTopic(f *testing.F) {
	for _, s := range []string{"coinop/t/d/event/up", "coinop/t/d/command/open", "coinop/t/d/offer", "coinop/offers/c", "coinop/offers/c/reply", "coinop//", "coinop/gateways/g/up", "coinop/t/d/event/up/x", "coinop/+/#"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		topic, err := ParseTopic(s)
		if err != nil {
			return
		}
		if topic.String() != s {
			t.Errorf("%q is read as %+v, which is %q", s, topic, topic)
		}
		if !matches("#", s) || !matches(s, s) || strings.ContainsAny(s, "+#") {
			t.Errorf("%q is no topic", s)
		}
	})
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"id":"a","do":"services"}`, `{"id":"a","do":"offer","service":"tea","units":1,"session":true}`, `{"id":"a","do":"pay","token":"t","preimage":"00"}`,
		`{"id":"a","do":"pay","token":"t","receipt":{"order":"00000000000000000000000000000001","amount_msat":1,"to":"x:y","at_ms":1,"proof":"AA=="}}`,
		`{"id":"a","do":"order","order":"00000000000000000000000000000001"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseRequest(raw)
		if err != nil {
			return
		}
		if r.ID == "" || len(r.ID) > MaxID {
			t.Errorf("%s has id %q", raw, r.ID)
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseRequest(text); len(text) <= MaxRequest && (err != nil || !reflect.DeepEqual(again, r)) {
			t.Errorf("%s is %+v, then %s is %+v, %v", raw, r, text, again, err)
		}
	})
}

func FuzzProof(f *testing.F) {
	for _, s := range []string{"token", "token:00ff", `{"token":"t","receipt":{}}`, ":", "{"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := parseProof(s); err == nil && p.Token == "" {
			t.Errorf("%q is %+v", s, p)
		}
	})
}

func FuzzPublish(f *testing.F) {
	m := Message{Topic: "coinop/t/d/event/pay", Payload: []byte("x"), QoS: 1, Reply: "coinop/t/d/receipt", Match: []byte{1}, User: []Property{{PropProof, "t:00"}}}
	for _, v5 := range []bool{false, true} {
		raw := appendPublish(nil, &m, 7, v5)
		f.Add(raw, v5)
		f.Add(appendPuback(nil, 7, Verdict{NotAuthorized, m.User}, v5), v5)
	}
	f.Fuzz(func(t *testing.T, raw []byte, v5 bool) {
		first, body, err := readPacket(bufio.NewReader(bytes.NewReader(raw)), nil)
		if err != nil {
			return
		}
		if first&0xf0 == typePuback {
			if id, v, err := parsePuback(body, v5); err == nil {
				_, again, _ := readPacket(bufio.NewReader(bytes.NewReader(appendPuback(nil, id, v, v5))), nil)
				if id2, v2, err := parsePuback(again, v5); err != nil || id2 != id || v2.Code != v.Code || !reflect.DeepEqual(v2.User, v.User) {
					t.Errorf("%x: %d %+v, then %d %+v, %v", raw, id, v, id2, v2, err)
				}
			}
			return
		}
		got, id, err := parsePublish(first, body, v5)
		if err != nil {
			return
		}
		first, again, err := readPacket(bufio.NewReader(bytes.NewReader(appendPublish(nil, &got, id, v5))), nil)
		if err != nil {
			t.Fatal(err)
		}
		second, id2, err := parsePublish(first, again, v5)
		if err != nil || id2 != id || !reflect.DeepEqual(second, got) {
			t.Errorf("%x is %+v, then %+v, %v", raw, got, second, err)
		}
	})
}

// The examples of MQTT 5, section 4.7.
func TestMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/#", "sport", true},
		{"#", "sport", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"sport", "sport/tennis", false},
	} {
		if got := matches(c.filter, c.topic); got != c.want {
			t.Errorf("%s fits %s: %v", c.topic, c.filter, got)
		}
	}
}

// anyone lets everybody in.
type anyone struct{}

func (anyone) Login(l Login) (Who, error)            { return Who{Tenant: "t", Name: "d"}, nil }
func (anyone) Find(tenant, name string) (Who, error) { return Who{Tenant: tenant, Name: name}, nil }
func (anyone) Join(Who, Peer) (Session, error)       { return anyone{}, nil }
func (anyone) Received(Incoming) Verdict             { return Verdict{} }
func (anyone) Retained(Topic) []byte                 { return nil }
func (anyone) Heard()                                {}
func (anyone) Close()                                {}

// wire is a connection whose other end has said all it will.
type wire struct {
	net.Conn
	in *bytes.Reader
}

func (w wire) Read(b []byte) (int, error)       { return w.in.Read(b) }
func (w wire) Write(b []byte) (int, error)      { return len(b), nil }
func (w wire) Close() error                     { return nil }
func (w wire) SetReadDeadline(time.Time) error  { return nil }
func (w wire) SetDeadline(time.Time) error      { return nil }
func (w wire) SetWriteDeadline(time.Time) error { return nil }
func (w wire) RemoteAddr() net.Addr             { return nil }

// Whatever a connection says, it ends, and the broker does not.
func FuzzConnection(f *testing.F) {
	for _, v5 := range []bool{false, true} {
		raw := appendConnect(nil, Login{"c", "u", "p"}, &Message{Topic: "coinop/t/d/event/up", Payload: []byte("x")}, 60, v5)
		raw = appendSubscribe(raw, 1, 1, v5, "coinop/t/d/command/+", "#")
		raw = appendPublish(raw, &Message{Topic: "coinop/t/d/event/pay", Payload: []byte("x"), QoS: 1}, 2, v5)
		raw = append(raw, 0xa2, 5, 0, 1, 0, 1, '#')
		f.Add(append(raw, typePingreq, 0, typeDisconnect, 0))
	}
	b := &Embedded{
		Options: Options{MaxConnections: 1, MaxBuyers: 1, Rate: 1e9, Burst: 1e9, Log: slog.New(slog.DiscardHandler)},
		handler: anyone{}, dirty: make(chan *conn, 16), conns: map[*conn]struct{}{}, clients: map[string]*conn{},
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := &conn{Conn: wire{in: bytes.NewReader(raw)}, b: b}
		c.serve()
		c.Close()
		if len(b.clients) != 0 {
			t.Errorf("%x: a client is left", raw)
		}
	})
}
