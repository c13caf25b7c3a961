package coap_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wire "coinop.dev/core/coap"
	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/gateway"
	door "coinop.dev/gateway/coap"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/rail/fakerail"
	"coinop.dev/till"
	"coinop.dev/world/link/coap"
	"coinop.dev/world/store/bbolt"
)

// A shop whose customer has its purse on the same machine: play money.
type market struct {
	t     *testing.T
	stop  func()
	shop  *gateway.Shop
	purse *purse.Purse
	acted atomic.Int32
	plain string // coap://…
	tls   string // coaps://…
}

var services = []offer.Service{
	{Name: "coffee", Title: "A cup", Unit: "cup", Price: 5 * money.Sat, Max: 3},
	{Name: "meter", Unit: "reading", Price: money.Sat},
	{Name: "news", Unit: "page", Price: money.Sat, Free: 2},
	{Name: "photo", Unit: "picture", Price: money.Sat},
	{Name: "tap", Unit: "l", Price: money.Sat, From: "device:tap-3", Within: 5 * step.Second},
}

var picture = []byte(strings.Repeat("picture ", 1000))

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t *testing.T) keys.Secret {
	key, err := keys.NewSecret(rand.Reader)
	must(t, err)
	return key
}

// The devices of the test: one with a key, and one that only shares a secret.
type devices map[string]door.Device

func (d devices) Device(name string) (door.Device, bool) {
	v, ok := d[name]
	return v, ok
}

// readings are what a meter shows: a number that counts.
type readings struct{ n atomic.Int32 }

func (r *readings) Read(context.Context, string, uint64) ([]byte, error) {
	return fmt.Append(nil, r.n.Add(1)), nil
}

func (r *readings) Follow(ctx context.Context, _ string, each func([]byte) error) error {
	for {
		if err := each(fmt.Append(nil, r.n.Add(1))); err != nil {
			return err
		}
	}
}

func open(t *testing.T, file string, key keys.Secret, known devices) *market {
	t.Helper()
	store, err := bbolt.Open(file)
	must(t, err)
	ctx := t.Context()
	m := engine.New(ctx, engine.Options{Key: key, DB: store})
	k := &market{t: t}
	var stops []func() error
	k.stop = sync.OnceFunc(func() {
		for _, stop := range stops {
			stop()
		}
		m.Close()
		store.Close()
	})
	t.Cleanup(k.stop)
	k.purse, err = purse.Open(ctx, m, purse.Options{})
	must(t, err)
	must(t, gateway.AddCores(ctx, m))
	f, err := fleet.Load(m.DB, fleet.Config{Root: key.Derive("fleet"), Node: key})
	must(t, err)
	must(t, m.Host.Add(ctx, fleet.Name, f))
	device := func(_ context.Context, d earn.Deliver) ([]byte, error) {
		k.acted.Add(1)
		if d.Item == "photo" {
			return picture, nil
		}
		return fmt.Appendf(nil, "%d %s", d.Units, d.Item), nil
	}
	_, err = till.Open(ctx, m, till.Options{Device: device, Journal: true})
	must(t, err)
	var g rail.Registry
	g.Register(fakerail.Scheme, fakerail.Driver{})
	env := rail.Env{Machine: m, Rail: func(string) *rail.Rail { return nil }}
	pays, err := g.Open(ctx, "fake:?balance=1000sat", env)
	must(t, err)
	must(t, k.purse.Hold(ctx, pays))
	earns, err := g.Open(ctx, "fake:", env)
	must(t, err)
	k.shop, err = gateway.Open(ctx, gateway.Options{
		Machine: m, Purse: k.purse, Services: services, Rails: func() []*rail.Rail { return []*rail.Rail{pays, earns} },
	})
	must(t, err)
	d := door.New(door.Options{Shop: k.shop, Source: &readings{}, Devices: known})
	plain, err := coap.Listen("127.0.0.1:0", d.Handle, coap.Options{AckTimeout: 200 * time.Millisecond})
	must(t, err)
	secure, err := coap.ListenDTLS("127.0.0.1:0", d.Handle, coap.Options{PSK: d.PSK, AckTimeout: 200 * time.Millisecond})
	must(t, err)
	stops = append(stops, plain.Close, secure.Close)
	k.plain, k.tls = "coap://"+plain.Addr().String(), "coaps://"+secure.Addr().String()
	return k
}

func dial(t *testing.T, uri string, o coap.Options) *coap.Client {
	t.Helper()
	o.AckTimeout = 200 * time.Millisecond
	c, err := coap.Dial(t.Context(), uri, o)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func get(path string) wire.Message { return coap.NewRequest(wire.GET, path, 0, nil) }

// pay pays an offer as a customer does.
func (k *market) pay(_ context.Context, o wire.Offer) (wire.Proof, error) {
	r, err := k.purse.Pay(k.t.Context(), money.Order{ID: o.Order, To: rail.Payee(o.Ways[0].Pay), Amount: o.Due})
	return wire.Proof{Token: o.Token, Receipt: &wire.Receipt{Order: r.Order, Amount: r.Amount, To: r.To, At: r.At, Proof: r.Proof}}, err
}

func TestBuy(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t), nil)
	c := dial(t, k.plain, coap.Options{})
	answer, err := c.Buy(t.Context(), "/coffee?units=2", k.pay)
	if err != nil || answer.Code != wire.Content || string(answer.Payload) != "2 coffee" {
		t.Fatalf("%v %q %v", answer.Code, answer.Payload, err)
	}
	raw, _ := answer.Get(wire.OptionReceipt)
	if r, err := wire.Parse[wire.Receipt](raw); err != nil || r.Amount != 10*money.Sat || r.To != "settled" {
		t.Errorf("receipt %+v, %v", r, err)
	}
	if answer, err = c.Buy(t.Context(), "/photo", k.pay); err != nil || string(answer.Payload) != string(picture) {
		t.Errorf("%v, %d bytes, %v", answer.Code, len(answer.Payload), err)
	}
	for path, code := range map[string]wire.Code{
		"/tea": wire.NotFound, "/coffee?units=4": wire.BadRequest, "/coffee?units=x": wire.BadRequest, "/": wire.NotFound, "/.well-known/core": wire.Content, "/m": wire.Unauthorized,
	} {
		if answer, err := c.Do(t.Context(), get(path)); err != nil || answer.Code != code {
			t.Errorf("%s: %v %q, %v", path, answer.Code, answer.Payload, err)
		}
	}
}

// A proof buys what it paid for, once, from wherever it is shown.
func TestProofs(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t), nil)
	c := dial(t, k.plain, coap.Options{})
	var proof wire.Proof
	if _, err := c.Buy(t.Context(), "/coffee", func(ctx context.Context, o wire.Offer) (_ wire.Proof, err error) {
		proof, err = k.pay(ctx, o)
		return proof, err
	}); err != nil {
		t.Fatal(err)
	}
	show := func(path string, p wire.Proof) wire.Message {
		t.Helper()
		answer, err := c.Do(t.Context(), coap.Paid(path, p))
		must(t, err)
		return answer
	}
	if again := show("/coffee", proof); string(again.Payload) != "1 coffee" || k.acted.Load() != 1 {
		t.Errorf("%v %q after %d cups", again.Code, again.Payload, k.acted.Load())
	}
	large := proof
	r := *proof.Receipt
	r.Proof = make([]byte, 2*wire.MaxProof) // in blocks, to /pay, and refused there
	large.Receipt = &r
	token := slices.Clone(proof.Token)
	token[len(token)-1] ^= 1
	for name, c := range map[string]struct {
		path  string
		proof wire.Proof
		code  wire.Code
	}{
		"another service":    {"/news", proof, wire.Forbidden},
		"no receipt":         {"/coffee", wire.Proof{Token: proof.Token}, wire.BadRequest},
		"a forged token":     {"/coffee", wire.Proof{Token: token, Receipt: proof.Receipt}, wire.BadRequest},
		"a forged receipt":   {"/coffee", large, wire.BadRequest},
		"another preimage":   {"/coffee", wire.Proof{Token: proof.Token, Preimage: make([]byte, 32)}, wire.BadRequest},
		"a cup as a session": {"/coffee", wire.Proof{Token: proof.Token, Receipt: proof.Receipt, Session: true}, wire.Forbidden},
	} {
		if got := show(c.path, c.proof); got.Code != c.code {
			t.Errorf("%s: %v %q", name, got.Code, got.Payload)
		}
	}
	post := coap.NewRequest(wire.POST, "/pay", wire.FormatProof, wire.Encode(proof))
	if answer, err := c.Do(t.Context(), post); err != nil || string(answer.Payload) != "1 coffee" {
		t.Errorf("posted: %v %q, %v", answer.Code, answer.Payload, err)
	}
	if k.acted.Load() != 1 {
		t.Errorf("%d cups for one payment", k.acted.Load())
	}
}

// Ten customers with one proof get one cup between them, and all are told of it.
func TestTenAtOnce(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t), nil)
	answer, err := dial(t, k.plain, coap.Options{}).Do(t.Context(), get("/coffee"))
	must(t, err)
	o, err := wire.Parse[wire.Offer](answer.Payload)
	must(t, err)
	proof, err := k.pay(t.Context(), o)
	must(t, err)
	var wait sync.WaitGroup
	for range 10 {
		c := dial(t, k.plain, coap.Options{})
		wait.Go(func() {
			if answer, err := c.Do(t.Context(), coap.Paid("/coffee", proof)); err != nil || string(answer.Payload) != "1 coffee" {
				t.Errorf("%v %q, %v", answer.Code, answer.Payload, err)
			}
		})
	}
	wait.Wait()
	if k.acted.Load() != 1 {
		t.Errorf("%d cups", k.acted.Load())
	}
}

// The gateway dies between the payment and the claim: the proof is good at the
// next start, for one cup.
func TestRestartAfterPayment(t *testing.T) {
	file, key := filepath.Join(t.TempDir(), "state"), newKey(t)
	k := open(t, file, key, nil)
	var proof wire.Proof
	stop := errors.New("power cut")
	if _, err := dial(t, k.plain, coap.Options{}).Buy(t.Context(), "/coffee", func(ctx context.Context, o wire.Offer) (_ wire.Proof, err error) {
		proof, err = k.pay(ctx, o)
		return proof, errors.Join(err, stop)
	}); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	k.stop()
	k = open(t, file, key, nil)
	for range 2 {
		answer, err := dial(t, k.plain, coap.Options{}).Do(t.Context(), coap.Paid("/coffee", proof))
		if err != nil || string(answer.Payload) != "1 coffee" {
			t.Fatalf("%v %q %v", answer.Code, answer.Payload, err)
		}
	}
	if k.acted.Load() != 1 {
		t.Errorf("%d cups", k.acted.Load())
	}
}

func TestFreeTier(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t), nil)
	for i, code := range []wire.Code{wire.Content, wire.Content, wire.Forbidden} {
		// Another port is not another buyer.
		answer, err := dial(t, k.plain, coap.Options{}).Do(t.Context(), get("/news"))
		if err != nil || answer.Code != code {
			t.Errorf("page %d: %v %q, %v", i+1, answer.Code, answer.Payload, err)
		}
	}
}

// Each notification is paid from the session; when it is empty, so is the stream.
func TestStream(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t), nil)
	c := dial(t, k.plain, coap.Options{})
	var paid wire.Message
	first, err := c.Buy(t.Context(), "/meter?session=7", func(ctx context.Context, o wire.Offer) (wire.Proof, error) {
		proof, err := k.pay(ctx, o)
		proof.Session = true
		paid = coap.Paid("/meter", proof)
		return proof, err
	})
	if err != nil || string(first.Payload) != "1" {
		t.Fatalf("%v %q, %v", first.Code, first.Payload, err)
	}
	var got []string
	var last wire.Message
	err = c.Observe(t.Context(), paid, func(n wire.Message) error {
		got, last = append(got, n.Code.String()), n
		return nil
	})
	if err != nil || len(got) != 7 || got[5] != "2.05" || got[6] != "4.03" {
		t.Fatalf("%v, %v %s", got, err, last.Payload)
	}
	o, err := wire.Parse[wire.Offer](last.Payload)
	if err != nil || o.Left == nil || *o.Left != 0 || o.Due != 7*money.Sat {
		t.Errorf("%+v, %v", o, err)
	}
	if answer, err := c.Do(t.Context(), paid); err != nil || answer.Code != wire.Forbidden {
		t.Errorf("afterwards: %v %q, %v", answer.Code, answer.Payload, err)
	}
}

// libcoap's client of Debian, as a person at a keyboard would use it.
func TestLibcoap(t *testing.T) {
	if _, err := exec.LookPath("coap-client-notls"); err != nil {
		t.Skip("install libcoap3-bin")
	}
	key := newKey(t)
	secret := key.Derive("tap")
	known := devices{"tap-3": {Secret: secret}}
	k := open(t, filepath.Join(t.TempDir(), "state"), key, known)
	run := func(program string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v %s", args, err, out)
		}
		return string(out)
	}
	file := filepath.Join(t.TempDir(), "offer")
	if out := run("coap-client-notls", "-o", file, k.plain+"/coffee"); !strings.Contains(out, "4.03") {
		t.Fatalf("unpaid: %q", out)
	}
	// It shows a refusal's payload as text; the offer is fetched with our client.
	answer, err := dial(t, k.plain, coap.Options{}).Do(t.Context(), get("/photo"))
	must(t, err)
	o, err := wire.Parse[wire.Offer](answer.Payload)
	must(t, err)
	proof, err := k.pay(t.Context(), o)
	must(t, err)
	run("coap-client-notls", "-b", "256", "-o", file, "-O", "65000,0x"+hex.EncodeToString(wire.Encode(proof)), k.plain+"/photo")
	if got, _ := os.ReadFile(file); string(got) != string(picture) {
		t.Errorf("paid: %d bytes", len(got))
	}
	os.WriteFile(file, wire.Encode(proof), 0o600)
	if out := run("coap-client-notls", "-m", "post", "-t", "65001", "-f", file, k.plain+"/pay"); !strings.HasPrefix(out, "picture picture") {
		t.Errorf("posted: %.80q", out)
	}
	psk := string(known["tap-3"].PSK())
	if !strings.ContainsRune(psk, 0) { // a command line cannot hold a zero
		if out := run("coap-client-openssl", "-u", "tap-3", "-k", psk, k.tls+"/coffee"); !strings.Contains(out, "4.03") {
			t.Errorf("over DTLS: %q", out)
		}
	}
	if k.acted.Load() != 1 {
		t.Errorf("delivered %d times", k.acted.Load())
	}
}

func bundle(msgs ...interface{ Append([]byte) []byte }) (b []byte) {
	for _, m := range msgs {
		raw := m.Append(nil)
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(raw))), raw...)
	}
	return b
}

func unbundle(t *testing.T, b []byte) (all [][]byte) {
	for len(b) > 0 {
		n := int(binary.BigEndian.Uint16(b))
		all, b = append(all, b[2:2+n]), b[2+n:]
	}
	return all
}

// A device comes in with its pre-shared key, asks what is for sale as it would over
// TCP, gets commands as notifications, and its signed word delivers an order.
func TestDevice(t *testing.T) {
	key, own := newKey(t), newKey(t)
	secret := fleet.Secret(key.Derive("fleet"), "tap-3", 1)
	known := devices{"tap-3": {Key: own.Public(), Secret: secret}}
	k := open(t, filepath.Join(t.TempDir(), "state"), key, known)
	host := k.shop.Machine().Host
	_, err := host.Ask(t.Context(), fleet.Name, "add", fleet.Add{Ask: "add", Devices: []fleet.Profile{{Name: "tap-3", Key: own.Public()}}})
	must(t, err)

	c := dial(t, k.tls, coap.Options{Name: "tap-3", Key: known["tap-3"].PSK()})
	commands := make(chan fleet.Command, 8)
	tariffs := make(chan trade.Tariff, 8)
	go c.Observe(t.Context(), get("/m"), func(n wire.Message) error {
		for _, raw := range unbundle(t, n.Payload) {
			if m, err := fleet.Decode(raw); err == nil {
				if command, ok := m.(fleet.Command); ok { // and not its policy
					commands <- command
				}
			} else if m, err := message.Decode(raw); err == nil {
				tariffs <- m.(trade.Tariff)
			}
		}
		return nil
	})
	say := func(code wire.Code, b []byte) {
		t.Helper()
		answer, err := c.Do(t.Context(), coap.NewRequest(wire.POST, "/m", wire.FormatMessage, b))
		if err != nil || answer.Code != code {
			t.Fatalf("%v %q, %v", answer.Code, answer.Payload, err)
		}
	}
	say(wire.Changed, bundle(fleet.Status{Device: "tap-3", Firmware: "1.0", Counter: 0}, trade.Browse{}))
	select {
	case tariff := <-tariffs:
		if len(tariff.Items) == 0 {
			t.Error("an empty tariff")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("no answer to Browse")
	}

	go k.shop.TestFire(t.Context(), "tap", 2)
	var command fleet.Command
	select {
	case command = <-commands:
	case <-time.After(5 * time.Second):
		t.Fatal("no command")
	}
	if command.Units != 2 || !command.Test || !command.Verify(key.Public(), own.Public(), keys.Secret{}) {
		t.Errorf("command %+v", command)
	}
	ack := fleet.Ack{Device: "tap-3", Seq: command.Seq, Order: command.Order, Counter: 1, OK: true, Reading: []byte("2 l")}.Seal(own, keys.Secret{})
	say(wire.Changed, bundle(ack))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	o, err := k.shop.Wait(ctx, command.Order, func(o earn.Order) bool { return o.State == "settled" || o.State == "delivered" })
	if err != nil || len(o.Ack) == 0 {
		t.Errorf("%+v, %v", o, err)
	}

	say(wire.BadRequest, []byte{0, 9, 1})
	say(wire.BadRequest, bundle(command)) // not a device's to say
	ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := coap.Dial(ctx, k.tls, coap.Options{Name: "tap-3", Key: make([]byte, 32)}); err == nil {
		t.Error("another key got in")
	}
	c.Close()
}

// The token is what the shop wrote, whichever door shows it.
func TestTokenIsTheShops(t *testing.T) {
	k := open(t, filepath.Join(t.TempDir(), "state"), newKey(t), nil)
	answer, err := dial(t, k.plain, coap.Options{}).Do(t.Context(), get("/coffee"))
	must(t, err)
	o, err := wire.Parse[wire.Offer](answer.Payload)
	must(t, err)
	proof, err := k.pay(t.Context(), o)
	must(t, err)
	r := proof.Receipt
	_, err = k.shop.Claim(t.Context(), gateway.Proof{
		Token:   base64.RawURLEncoding.EncodeToString(o.Token),
		Receipt: &money.Receipt{Order: r.Order, Amount: r.Amount, To: r.To, At: r.At, Proof: r.Proof},
	})
	must(t, err)
}
