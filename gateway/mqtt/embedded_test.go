package mqtt_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/fleet"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/gateway/mqtt"
)

func both(t *testing.T, f func(t *testing.T, v5 bool)) {
	t.Run("3.1.1", func(t *testing.T) { f(t, false) })
	t.Run("5", func(t *testing.T) { f(t, true) })
}

func TestADevicePaysThroughItsTopics(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v5 bool) {
		w := newWorld("kettle")
		b, _ := listen(t, w, mqtt.Options{})
		c := connect(t, b.Addr().String(), "kettle", v5)
		if got := c.subscribe("coinop/default/kettle/command/+", "coinop/default/kettle/offer"); !bytes.Equal(got, []byte{1, 1}) {
			t.Fatalf("granted %x", got)
		}
		if m := next[mqtt.Message](c); m.Topic != "coinop/default/kettle/offer" || !m.Retain || !strings.Contains(string(m.Payload), `"tea"`) {
			t.Fatalf("the price list is %+v", m)
		}
		for qos := byte(0); qos < 2; qos++ {
			c.publish(mqtt.Message{Topic: "coinop/default/kettle/event/pay", Payload: trade.Browse{}.Append(nil), QoS: qos})
			m := next[mqtt.Message](c)
			answer, err := message.Decode(m.Payload)
			if _, ok := answer.(trade.Tariff); err != nil || !ok || m.Topic != "coinop/default/kettle/command/pay" {
				t.Fatalf("QoS %d: %+v is %T, %v", qos, m, answer, err)
			}
		}
		if got := b.Connected(); len(got) != 1 || got[0] != "default/kettle" {
			t.Fatalf("connected: %v", got)
		}
		c.Disconnect()
		w.until(t, "it is offline", func() bool { return !w.online["kettle"] && len(w.outlets) == 0 })
	})
}

// A maker's device without a key: commands and acknowledgements are JSON.
func TestACommandAndItsAcknowledgement(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.devices["switch"] = mqtt.Device{Name: "switch", Tenant: "cafe"}
	b, _ := listen(t, w, mqtt.Options{})
	c := connect(t, b.Addr().String(), "switch", false)
	c.subscribe("coinop/cafe/switch/command/#")
	w.until(t, "it has an outlet", func() bool { return w.outlets["device/switch"] != nil })
	command := fleet.Command{Device: "switch", Seq: 7, Order: money.OrderID{1}, Verb: fleet.Open, Item: "tea", Units: 1, Sig: make([]byte, 32)}
	w.outlets["device/switch"](step.Packet{Msg: command})
	m := next[mqtt.Message](c)
	var got fleet.Command
	if err := json.Unmarshal(m.Payload, &got); err != nil || m.Topic != "coinop/cafe/switch/command/open" || m.QoS != 1 || got.Seq != 7 {
		t.Fatalf("%+v: %+v, %v", m, got, err)
	}
	ack := fleet.Ack{Device: "switch", Seq: 7, Order: got.Order, Counter: 1, OK: true, Sig: make([]byte, 32)}
	for _, who := range []string{"switch", "other"} {
		ack.Device = who
		raw, err := json.Marshal(ack)
		if err != nil {
			t.Fatal(err)
		}
		c.tell(mqtt.Message{Topic: "coinop/cafe/switch/event/ack", Payload: raw})
	}
	c.tell(mqtt.Message{Topic: "coinop/cafe/switch/event/fault", Payload: []byte(`{"text":"no water"}`)})
	c.tell(mqtt.Message{Topic: "coinop/cafe/switch/event/meter", Payload: []byte(`{"wh":12}`)})
	w.until(t, "all is told, and another device's ack is not", func() bool {
		return len(w.acks) == 1 && w.acks[0].Seq == 7 && len(w.faults) == 1 && w.faults[0] == "switch: no water" && len(w.metered) == 1
	})
}

// The last will of a device that loses its link.
func TestLastWill(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle")
	b, _ := listen(t, w, mqtt.Options{})
	c, err := mqtt.Connect(t.Context(), mqtt.ClientOptions{
		Addr: b.Addr().String(), Login: mqtt.Login{ClientID: "k", User: "kettle", Password: "secret kettle"}, V5: true,
		Will: &mqtt.Message{Topic: "coinop/default/kettle/event/fault", Payload: []byte("power lost")},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Ping()
	w.until(t, "it is online", func() bool { return w.online["kettle"] })
	c.Close()
	w.until(t, "its will is done", func() bool { return !w.online["kettle"] && len(w.faults) == 1 })
}

func TestWhoComesBackTakesOver(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v5 bool) {
		w := newWorld("kettle")
		b, _ := listen(t, w, mqtt.Options{})
		first := connect(t, b.Addr().String(), "kettle", v5)
		w.until(t, "it is online", func() bool { return w.online["kettle"] })
		second, err := dial(t, b.Addr().String(), "kettle", "another-client-id", v5)
		if err != nil {
			t.Fatal(err)
		}
		if err := first.ended(); v5 && err != mqtt.Refusal(0x8e) {
			t.Fatalf("the first ends with %v", err)
		}
		second.subscribe("coinop/default/kettle/command/pay")
		second.publish(mqtt.Message{Topic: "coinop/default/kettle/event/pay", Payload: trade.Browse{}.Append(nil)})
		next[mqtt.Message](second)
		time.Sleep(20 * time.Millisecond)
		w.until(t, "it is online still", func() bool { return w.online["kettle"] && w.outlets["device/kettle"] != nil })
		// A buyer that calls itself like the device's client takes nothing over.
		if _, err := dial(t, b.Addr().String(), "", "another-client-id", v5); err != nil {
			t.Fatal(err)
		}
		second.Ping()
		next[mqtt.Pong](second)
	})
}

func TestWhatIsNotOnesOwn(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle", "lamp")
	b, _ := listen(t, w, mqtt.Options{})
	addr := b.Addr().String()
	if _, err := dial(t, addr, "ghost", "c", true); err != mqtt.Refusal(0x86) {
		t.Fatalf("an unknown device: %v", err)
	}
	if _, err := dial(t, addr, "", "", true); err != mqtt.Refusal(0x86) {
		t.Fatalf("a buyer without a name: %v", err)
	}
	lamp := connect(t, addr, "lamp", true)
	kettle := connect(t, addr, "kettle", true)
	kettle.subscribe("coinop/default/kettle/#")
	for _, filter := range []string{"#", "coinop/#", "coinop/+/+/command/+", "coinop/default/kettle/command/+", "coinop/default/+/event/pay", "$share/g/coinop/default/lamp/#", "$SYS/#", "coinop/offers/x/reply"} {
		if got := lamp.subscribe(filter); got[0] != 0x87 {
			t.Errorf("%s is granted: %x", filter, got)
		}
	}
	old := connect(t, addr, "lamp", false)
	if got := old.subscribe("#"); got[0] != 0x80 {
		t.Errorf("3.1.1: %x", got)
	}
	lamp = connect(t, addr, "lamp", true)
	for topic, code := range map[string]byte{
		"coinop/default/kettle/event/pay": 0x87, "coinop/default/kettle/command/pay": 0x87, "coinop/default/lamp/command/open": 0x87,
		"coinop/default/lamp/offer": 0x87, "coinop/offers/lamp": 0x87, "coinop/default/lamp/event/pay/deeper": 0x90, "elsewhere": 0x90, "coinop/default/LAMP/event/up": 0x90,
		"coinop/gateways/x/up": 0x90,
	} {
		if v := lamp.tell(mqtt.Message{Topic: topic, Payload: []byte("x")}); v.Code != code {
			t.Errorf("%s: %#x, want %#x", topic, v.Code, code)
		}
	}
	if v := lamp.tell(mqtt.Message{Topic: "coinop/default/lamp/event/pay", Payload: []byte(`{"id":"1","do":"services"}`), Reply: "coinop/default/kettle/command/open"}); v.Code != 0x87 {
		t.Errorf("an answer on another one's topic: %#x", v.Code)
	}
	// Nothing retained, nothing forwarded.
	lamp.tell(mqtt.Message{Topic: "coinop/default/lamp/event/pay", Payload: trade.Browse{}.Append(nil), Retain: true})
	kettle.subscribe("coinop/default/kettle/offer")
	if m := next[mqtt.Message](kettle); m.Topic != "coinop/default/kettle/offer" {
		t.Errorf("the kettle got %+v", m)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle", "lamp", "fan")
	b, _ := listen(t, w, mqtt.Options{MaxConnections: 2, MaxBuyers: 1, Rate: 50, Burst: 100})
	addr := b.Addr().String()
	c := connect(t, addr, "kettle", true)
	if v := c.tell(mqtt.Message{Topic: "coinop/default/kettle/event/meter", Payload: make([]byte, mqtt.MaxPayload)}); v.Code != 0 {
		t.Errorf("the largest payload: %#x", v.Code)
	}
	if v := c.tell(mqtt.Message{Topic: "coinop/default/kettle/event/meter", Payload: make([]byte, mqtt.MaxPayload+1)}); v.Code != mqtt.PacketTooLarge {
		t.Errorf("one byte more: %#x", v.Code)
	}
	if v := c.tell(mqtt.Message{Topic: "coinop/default/kettle/event/" + strings.Repeat("x", 300), Payload: nil}); v.Code != mqtt.TopicInvalid {
		t.Errorf("a long topic: %#x", v.Code)
	}
	for i := range mqtt.MaxFilters + 1 {
		want := byte(1)
		if i == mqtt.MaxFilters {
			want = mqtt.QuotaExceeded
		}
		if got := c.subscribe(fmt.Sprintf("coinop/default/kettle/command/v%d", i)); got[0] != want {
			t.Errorf("filter %d: %x", i, got)
		}
	}
	second := connect(t, addr, "lamp", false)
	if _, err := dial(t, addr, "fan", "f", false); err == nil {
		t.Error("three connections where two are allowed")
	}
	for i := range 101 {
		if _, err := c.Publish(mqtt.Message{Topic: "coinop/default/kettle/event/meter", Payload: []byte{byte(i)}}); err != nil {
			break
		}
	}
	if err := c.ended(); err != mqtt.Refusal(mqtt.RateTooHigh) {
		t.Errorf("too many messages: %v", err)
	}
	second.publish(mqtt.Message{Topic: "coinop/default/lamp/event/meter", Payload: make([]byte, mqtt.MaxPacket+1)})
	if err := second.ended(); err == nil {
		t.Error("an oversized packet")
	}
	w.until(t, "both are gone", func() bool {
		open, _ := b.Counts()
		return open == 0 && !w.online["kettle"] && !w.online["lamp"]
	})
	first, err := dial(t, addr, "", "buyer-1", true)
	if err != nil {
		t.Fatal(err)
	}
	first.subscribe("coinop/offers") // whoever is answered is in: the next one is not before it
	late := connect(t, addr, "", true)
	if err := late.ended(); err != mqtt.Refusal(mqtt.QuotaExceeded) {
		t.Errorf("a second buyer: %v", err)
	}
}

// Raw packets that are wrong in every way end the connection, and nothing else.
func TestNonsense(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle")
	b, _ := listen(t, w, mqtt.Options{})
	hello := "\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04quux"
	for name, raw := range map[string]string{
		"no CONNECT":         "\xc0\x00",
		"HTTP":               "GET / HTTP/1.1\r\n\r\n",
		"endless length":     "\x10\xff\xff\xff\xff\xff",
		"huge length":        "\x10\xff\xff\xff\x7f",
		"MQTT 3.1":           "\x10\x12\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x04quux",
		"a second CONNECT":   hello + hello,
		"QoS 2":              hello + "\x34\x07\x00\x01a\x00\x01xx",
		"QoS 3":              hello + "\x36\x07\x00\x01a\x00\x01xx",
		"packet id 0":        hello + "\x32\x07\x00\x01a\x00\x00xx",
		"a topic cut short":  hello + "\x30\x02\x00\x09",
		"SUBSCRIBE, nothing": hello + "\x82\x02\x00\x01",
		"SUBSCRIBE, short":   hello + "\x82\x05\x00\x01\x00\x09x",
		"PUBREL":             hello + "\x62\x02\x00\x01",
	} {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(raw))
		c.SetReadDeadline(time.Now().Add(3 * time.Second))
		buf := make([]byte, 1024)
		for err == nil {
			_, err = c.Read(buf)
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s: the connection is open", name)
		}
		c.Close()
	}
	connect(t, b.Addr().String(), "kettle", true)
}

// A client that does not read loses messages, not memory, and hears what is said
// after it reads again.
func TestASlowConsumer(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle")
	b, _ := listen(t, w, mqtt.Options{})
	c := connect(t, b.Addr().String(), "kettle", true)
	c.subscribe("coinop/default/kettle/command/+")
	send := func(n int) (err error) {
		return b.Publish(mqtt.Message{Topic: "coinop/default/kettle/command/pay", Payload: append(bytes.Repeat([]byte{'x'}, 10_000), byte(n))})
	}
	lost := 0
	for i := 0; lost < 100; i++ {
		if err := send(1); errors.Is(err, mqtt.ErrSlow) {
			lost++
		} else if err != nil {
			t.Fatal(err)
		}
		if i > 100_000 {
			t.Fatal("a hundred thousand messages wait for a client that does not read")
		}
	}
	if _, counted := b.Counts(); counted < 100 {
		t.Errorf("%d lost messages are counted", counted)
	}
	for done := false; !done; {
		send(2)
		m := next[mqtt.Message](c)
		done = m.Payload[len(m.Payload)-1] == 2
	}
}

func TestTheBrokerComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle")
	addr := freePort(t)
	d := mqtt.New(w.setup())
	defer d.Close()
	for range 3 {
		b, err := mqtt.Listen(mqtt.Options{Addr: addr}, d)
		if err != nil {
			t.Fatal(err)
		}
		c := connect(t, addr, "kettle", true)
		c.subscribe("coinop/default/kettle/command/+")
		c.publish(mqtt.Message{Topic: "coinop/default/kettle/event/pay", Payload: trade.Browse{}.Append(nil)})
		next[mqtt.Message](c)
		closed := make(chan error, 1)
		go func() { closed <- b.Close() }()
		if err := c.ended(); err != mqtt.Refusal(0x8b) {
			t.Errorf("the broker ends with %v", err)
		}
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		if d.Online("", "kettle") {
			t.Error("it is online at a broker that has ended")
		}
	}
}

// A client that asks for no keepalive is told how long it may be silent; one that
// stays silent longer than it said is gone.
func TestKeepalive(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle")
	b, _ := listen(t, w, mqtt.Options{})
	c, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("\x10\x11\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x04quux"))
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 256)
	n, err := c.Read(buf)
	if err != nil || !bytes.Contains(buf[:n], []byte{0x13, 600 >> 8, 600 & 0xff}) {
		t.Fatalf("CONNACK %x, %v", buf[:n], err)
	}
	silent, err := mqtt.Connect(t.Context(), mqtt.ClientOptions{
		Addr: b.Addr().String(), Login: mqtt.Login{ClientID: "k", User: "kettle", Password: "secret kettle"}, Keepalive: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	silent.Ping()
	w.until(t, "it is online", func() bool { return w.online["kettle"] })
	start := time.Now()
	w.until(t, "it is gone", func() bool { return !w.online["kettle"] })
	if silence := time.Since(start); silence < time.Second || silence > 4*time.Second {
		t.Errorf("after %v", silence)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle")
	server := httptest.NewUnstartedServer(nil) // has a certificate
	server.StartTLS()
	defer server.Close()
	b, _ := listen(t, w, mqtt.Options{TLS: server.TLS})
	trust := x509.NewCertPool()
	trust.AddCert(server.Certificate())
	c, err := mqtt.Connect(t.Context(), mqtt.ClientOptions{
		Addr: b.Addr().String(), TLS: &tls.Config{RootCAs: trust, ServerName: "example.com"},
		Login: mqtt.Login{ClientID: "k", User: "kettle", Password: "secret kettle"}, V5: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k := thing{c, t}
	k.subscribe("coinop/default/kettle/command/+")
	for range 20 {
		k.publish(mqtt.Message{Topic: "coinop/default/kettle/event/pay", Payload: trade.Browse{}.Append(nil)})
		next[mqtt.Message](k)
	}
}

// A price changes while devices are connected; a device is revoked.
func TestAnnounceAndRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle")
	b, d := listen(t, w, mqtt.Options{})
	c := connect(t, b.Addr().String(), "kettle", true)
	c.subscribe("coinop/default/kettle/#")
	next[mqtt.Message](c)
	w.services[0].Price = 4321
	d.Announce()
	if m := next[mqtt.Message](c); !m.Retain || !strings.Contains(string(m.Payload), "4321") {
		t.Errorf("%+v", m)
	}
	if !d.Online("", "kettle") {
		t.Error("it is not online")
	}
	d.Revoke("", "kettle")
	if err := c.ended(); err != mqtt.Refusal(mqtt.Administrative) {
		t.Errorf("it ends with %v", err)
	}
}

// Those who connect and say nothing cannot keep devices out.
func TestSilentStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld("kettle")
	b, _ := listen(t, w, mqtt.Options{MaxConnections: mqtt.MaxUnknown + 100})
	for range mqtt.MaxUnknown + 50 {
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	w.until(t, "no more are kept than may be", func() bool { n, _ := b.Counts(); return n == mqtt.MaxUnknown })
	if _, err := dial(t, b.Addr().String(), "kettle", "kettle", true); err != nil {
		t.Error(err)
	}
}
