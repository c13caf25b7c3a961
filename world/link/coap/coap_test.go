package coap_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wire "coinop.dev/core/coap"
	"coinop.dev/world/link/coap"
)

// A shop that counts what it has done.
type counter struct {
	mu    sync.Mutex
	done  map[string]int
	stops atomic.Int32
}

func (c *counter) handle(ctx context.Context, r coap.Request) coap.Response {
	switch r.Path() {
	case "/hello":
		return coap.Text(wire.Content, "hello "+r.Name)
	case "/large":
		return coap.Response{Code: wire.Content, Format: wire.FormatOctets, Payload: large}
	case "/slow":
		time.Sleep(coap.AckAfter + 200*time.Millisecond)
		c.count("slow")
		return coap.Text(wire.Content, "at last")
	case "/count":
		c.count(string(r.Payload))
		return coap.Response{Code: wire.Changed, Payload: r.Payload, Format: wire.FormatOctets}
	case "/length":
		return coap.Text(wire.Changed, fmt.Sprint(len(r.Payload), " ", bytes.Equal(r.Payload, large)))
	case "/ticks":
		return coap.Response{Code: wire.Content, Payload: []byte("0"), Stream: func(ctx context.Context, notify func(coap.Response) error) coap.Response {
			defer c.stops.Add(1)
			for i := 1; ; i++ {
				if err := notify(coap.Text(wire.Content, fmt.Sprint(i))); err != nil {
					return coap.Response{}
				}
				if i == 5 && len(r.Options) > 2 {
					return coap.Text(wire.Forbidden, "empty")
				}
			}
		}}
	}
	return coap.Text(wire.NotFound, "not here")
}

func (c *counter) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = map[string]int{}
	}
	c.done[what]++
}

func (c *counter) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.done)
}

var large = bytes.Repeat([]byte("0123456789abcdef!"), 600) // 10,200 bytes

const quick = 100 * time.Millisecond

func listen(t *testing.T, h coap.Handler) string {
	s, err := coap.Listen("127.0.0.1:0", h, coap.Options{AckTimeout: quick})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.Addr().String()
}

func dial(t *testing.T, uri string, o coap.Options) *coap.Client {
	t.Helper()
	if o.AckTimeout == 0 {
		o.AckTimeout = quick
	}
	c, err := coap.Dial(t.Context(), uri, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func want(t *testing.T, c *coap.Client, m wire.Message, code wire.Code, body string) {
	t.Helper()
	got, err := c.Do(t.Context(), m)
	if err != nil || got.Code != code || string(got.Payload) != body {
		t.Fatalf("%s: %v %.60q, %v; want %v %.60q", m.Path(), got.Code, got.Payload, err, code, body)
	}
}

func get(path string) wire.Message { return coap.NewRequest(wire.GET, path, 0, nil) }

func post(path string, body []byte) wire.Message {
	return coap.NewRequest(wire.POST, path, wire.FormatOctets, body)
}

func TestRequests(t *testing.T) {
	t.Parallel()
	shop := &counter{}
	c := dial(t, "coap://"+listen(t, shop.handle), coap.Options{})
	want(t, c, get("/hello"), wire.Content, "hello ")
	want(t, c, get("/nothing"), wire.NotFound, "not here")
	want(t, c, get("/large"), wire.Content, string(large))
	want(t, c, post("/length", large), wire.Changed, fmt.Sprint(len(large), " true"))
	want(t, c, post("/count", large), wire.Changed, string(large))
	want(t, c, get("/slow"), wire.Content, "at last")
	odd := get("/hello")
	odd.Add(65001, nil) // critical, and nobody knows it
	want(t, c, odd, wire.BadOption, "option 65001 is unknown")
	if _, err := c.Do(t.Context(), post("/count", make([]byte, wire.MaxBody+1))); err == nil {
		t.Error("a body without end")
	}
}

// A proxy between a client and a server that loses, repeats and reorders.
func lossy(t *testing.T, server string, seed uint64, lose, repeat, late float64) string {
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { front.Close(); back.Close() })
	var client atomic.Pointer[net.Addr]
	pass := func(rng *mathrand.Rand, b []byte, send func([]byte)) {
		copies := 1
		switch p := rng.Float64(); {
		case p < lose:
			return
		case p < lose+repeat:
			copies = 2
		}
		for range copies {
			if rng.Float64() < late {
				time.AfterFunc(time.Duration(rng.IntN(80))*time.Millisecond, func() { send(b) })
				continue
			}
			send(b)
		}
	}
	go func() {
		rng := mathrand.New(mathrand.NewPCG(seed, 1))
		buf := make([]byte, 2000)
		for {
			n, from, err := front.ReadFrom(buf)
			if err != nil {
				return
			}
			client.Store(&from)
			pass(rng, bytes.Clone(buf[:n]), func(b []byte) { back.Write(b) })
		}
	}()
	go func() {
		rng := mathrand.New(mathrand.NewPCG(seed, 2))
		buf := make([]byte, 2000)
		for {
			n, err := back.Read(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if to := client.Load(); err == nil && to != nil {
				pass(rng, bytes.Clone(buf[:n]), func(b []byte) { front.WriteTo(b, *to) })
			}
		}
	}()
	return front.LocalAddr().String()
}

// Whatever the network does, what was asked once is done once.
func TestExactlyOnce(t *testing.T) {
	t.Parallel()
	var wait sync.WaitGroup
	for seed := range uint64(8) {
		shop := &counter{}
		c := dial(t, "coap://"+lossy(t, listen(t, shop.handle), seed, 0.07, 0.15, 0.2), coap.Options{AckTimeout: 50 * time.Millisecond})
		wait.Go(func() {
			for n := range 12 {
				body := fmt.Sprint("order ", n)
				answer, err := c.Do(t.Context(), post("/count", []byte(body)))
				if err != nil || string(answer.Payload) != body {
					t.Errorf("seed %d: %q, %v", seed, answer.Payload, err)
				}
			}
			answer, err := c.Do(t.Context(), post("/length", large[:5000]))
			if err != nil || string(answer.Payload) != "5000 false" {
				t.Errorf("seed %d: %q, %v", seed, answer.Payload, err)
			}
			shop.mu.Lock()
			defer shop.mu.Unlock()
			for what, n := range shop.done {
				if n != 1 {
					t.Errorf("seed %d: %s was done %d times", seed, what, n)
				}
			}
			if len(shop.done) != 12 {
				t.Errorf("seed %d: %d of 12 were done", seed, len(shop.done))
			}
		})
	}
	wait.Wait()
}

// The same datagram again gets the same answer, byte for byte, also while it is
// worked on, and the work is done once.
func TestRepeatedRequest(t *testing.T) {
	t.Parallel()
	shop := &counter{}
	conn, err := net.Dial("udp", listen(t, shop.handle))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func(m wire.Message, times int) (answers [][]byte) {
		for range times {
			conn.Write(m.Append(nil))
		}
		buf := make([]byte, 2000)
		for {
			conn.SetReadDeadline(time.Now().Add(2 * quick))
			n, err := conn.Read(buf)
			if err != nil {
				return answers
			}
			answers = append(answers, bytes.Clone(buf[:n]))
		}
	}
	hello := get("/hello")
	hello.ID, hello.Token = 7, []byte("tok")
	answers := ask(hello, 3)
	if len(answers) == 0 || !bytes.Equal(answers[0], answers[len(answers)-1]) {
		t.Errorf("%x", answers)
	}
	// Its ID with another token is another request.
	hello.Token = []byte("new")
	if again := ask(hello, 1); len(again) != 1 || bytes.Equal(again[0], answers[0]) {
		t.Errorf("%x", again)
	}
	// A ping is answered with a reset (RFC 7252, section 4.3), and rubbish too.
	for _, raw := range [][]byte{{0x40, 0, 0, 9}, {0x40, 1, 0, 9, 0xff}} {
		conn.Write(raw)
		if got := ask(wire.Message{Type: wire.Acknowledgement}, 1); len(got) != 1 || got[0][0] != 0x70 || got[0][3] != 9 {
			t.Errorf("%x is answered with %x", raw, got)
		}
	}
}

// An address that has not shown that it reads what it is sent gets little, and
// makes nothing happen.
func TestAmplification(t *testing.T) {
	t.Parallel()
	shop := &counter{}
	conn, err := net.Dial("udp", listen(t, shop.handle))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	id := uint16(0)
	ask := func(m wire.Message) wire.Message {
		id++
		m.ID = id
		raw := m.Append(nil)
		conn.Write(raw)
		conn.SetReadDeadline(time.Now().Add(time.Second))
		buf := make([]byte, 2000)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n > coap.Amplification*len(raw) {
			if _, shown := m.Get(wire.Echo); !shown {
				t.Errorf("%d bytes are answered with %d", len(raw), n)
			}
		}
		answer, err := wire.Decode(bytes.Clone(buf[:n]))
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	for _, m := range []wire.Message{get("/large"), get("/"), get("/hello"), post("/count", []byte("x")), get("/l")} {
		ask(m)
	}
	if done := shop.String(); done != "map[]" {
		t.Errorf("done: %v", done)
	}
	challenged := ask(post("/count", []byte("x")))
	value, ok := challenged.Get(wire.Echo)
	if challenged.Code != wire.Unauthorized || !ok {
		t.Fatalf("%+v", challenged)
	}
	forged := post("/count", []byte("x"))
	forged.Set(wire.Echo, append(bytes.Clone(value[:11]), value[11]^1))
	if got := ask(forged); got.Code != wire.Unauthorized {
		t.Errorf("a forged echo: %v", got.Code)
	}
	shown := post("/count", []byte("x"))
	shown.Set(wire.Echo, value)
	if got := ask(shown); got.Code != wire.Changed || shop.String() != "map[x:1]" {
		t.Errorf("%v %v", got.Code, shop)
	}
	if got := ask(post("/count", []byte("y"))); got.Code != wire.Changed {
		t.Errorf("afterwards: %v", got.Code)
	}
}

// Notifications come in order, through a bad network, until the server ends them.
func TestObserve(t *testing.T) {
	t.Parallel()
	shop := &counter{}
	addr := listen(t, shop.handle)
	c := dial(t, "coap://"+lossy(t, addr, 3, 0.1, 0.1, 0.1), coap.Options{})
	var got []string
	m := get("/ticks?end")
	if err := c.Observe(t.Context(), m, func(n wire.Message) error {
		got = append(got, fmt.Sprintf("%v %s", n.Code, n.Payload))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) < 2 || got[len(got)-1] != "4.03 empty" {
		t.Fatalf("%q", got)
	}
	for i := range got[:len(got)-2] {
		if got[i] >= got[i+1] {
			t.Errorf("%q comes after %q", got[i+1], got[i])
		}
	}

	// Who leaves is not served any more.
	stops := shop.stops.Load()
	direct := dial(t, "coap://"+addr, coap.Options{})
	enough := errors.New("enough")
	n := 0
	if err := direct.Observe(t.Context(), get("/ticks"), func(wire.Message) error {
		if n++; n == 3 {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) {
		t.Fatal(err)
	}
	for i := 0; shop.stops.Load() == stops; i++ {
		if time.Sleep(10 * time.Millisecond); i == 300 {
			t.Fatal("the stream goes on to nobody")
		}
	}
}

// The server is stopped and started again on its port: a request that falls into
// the gap is repeated until it is answered.
func TestRestart(t *testing.T) {
	t.Parallel()
	shop := &counter{}
	s, err := coap.Listen("127.0.0.1:0", shop.handle, coap.Options{})
	if err != nil {
		t.Fatal(err)
	}
	addr := s.Addr().String()
	c := dial(t, "coap://"+addr, coap.Options{})
	want(t, c, post("/count", []byte("a")), wire.Changed, "a")
	s.Close()
	again := make(chan *coap.Server)
	time.AfterFunc(2*quick, func() {
		s, err := coap.Listen(addr, shop.handle, coap.Options{})
		if err != nil {
			t.Error(err)
		}
		again <- s
	})
	want(t, c, post("/count", []byte("b")), wire.Changed, "b")
	(<-again).Close()
	if shop.String() != "map[a:1 b:1]" {
		t.Errorf("%v", shop)
	}
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"127.0.0.1", "localhost"}, IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(raw)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, pool
}

func secure(t *testing.T, h coap.Handler) (addr string, roots *x509.CertPool) {
	cert, roots := certificate(t)
	s, err := coap.ListenDTLS("127.0.0.1:0", h, coap.Options{AckTimeout: quick, Certificate: &cert, PSK: func(name string) []byte {
		return map[string][]byte{"pump-3": []byte("sixteen bytes ok")}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.Addr().String(), roots
}

func TestDTLS(t *testing.T) {
	t.Parallel()
	shop := &counter{}
	addr, roots := secure(t, shop.handle)
	pump := dial(t, "coaps://"+addr, coap.Options{Name: "pump-3", Key: []byte("sixteen bytes ok")})
	want(t, pump, get("/hello"), wire.Content, "hello pump-3")
	want(t, pump, get("/large"), wire.Content, string(large))
	want(t, pump, post("/length", large), wire.Changed, fmt.Sprint(len(large), " true"))
	guest := dial(t, "coaps://"+addr, coap.Options{Roots: roots})
	want(t, guest, get("/hello"), wire.Content, "hello ")

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, o := range []coap.Options{{Name: "pump-3", Key: []byte("another key, bad")}, {Name: "pump-4", Key: []byte("sixteen bytes ok")}, {Roots: x509.NewCertPool()}} {
		if c, err := coap.Dial(ctx, "coaps://"+addr, o); err == nil {
			c.Close()
			t.Errorf("%q got in", o.Name)
		}
	}
}

// A device whose address changes, as behind a NAT that forgets, keeps its session:
// its connection ID says who it is (RFC 9146).
func TestAddressChanges(t *testing.T) {
	t.Parallel()
	addr, _ := secure(t, (&counter{}).handle)
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	var back atomic.Pointer[net.Conn]
	var client atomic.Pointer[net.Addr]
	rebind := func() {
		conn, err := net.Dial("udp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		if old := back.Swap(&conn); old != nil {
			(*old).Close()
		}
		go func() {
			buf := make([]byte, 2000)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					return
				}
				front.WriteTo(buf[:n], *client.Load())
			}
		}()
	}
	rebind()
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := front.ReadFrom(buf)
			if err != nil {
				return
			}
			client.Store(&from)
			(*back.Load()).Write(buf[:n])
		}
	}()
	pump := dial(t, "coaps://"+front.LocalAddr().String(), coap.Options{Name: "pump-3", Key: []byte("sixteen bytes ok")})
	for range 3 {
		want(t, pump, get("/hello"), wire.Content, "hello pump-3")
		rebind()
	}
	(*back.Load()).Close()
}

// client runs libcoap's client of Debian.
func client(t *testing.T, program string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%v: install libcoap3-bin", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestLibcoap(t *testing.T) {
	t.Parallel()
	shop := &counter{}
	addr := "coap://" + listen(t, shop.handle)
	if out := client(t, "coap-client-notls", addr+"/hello"); out != "hello \n" {
		t.Errorf("%q", out)
	}
	file := filepath.Join(t.TempDir(), "body")
	if client(t, "coap-client-notls", "-o", file, addr+"/large"); !same(t, file) {
		t.Error("what libcoap got in blocks is not what was sent")
	}
	if client(t, "coap-client-notls", "-b", "64", "-o", file, addr+"/large"); !same(t, file) {
		t.Error("nor in blocks of 64")
	}
	if out := client(t, "coap-client-notls", "-m", "post", "-f", file, addr+"/length"); !strings.Contains(out, fmt.Sprint(len(large), " true")) {
		t.Errorf("%q", out)
	}
	if out := client(t, "coap-client-notls", addr+"/slow"); !strings.Contains(out, "at last") {
		t.Errorf("%q", out)
	}
	if out := client(t, "coap-client-notls", "-s", "1", addr+"/ticks?end"); !strings.Contains(out, "4") || !strings.Contains(out, "4.03") {
		t.Errorf("%q", out)
	}

	addr, _ = secure(t, shop.handle)
	if out := client(t, "coap-client-openssl", "-u", "pump-3", "-k", "sixteen bytes ok", "coaps://"+addr+"/hello"); !strings.Contains(out, "hello pump-3") {
		t.Errorf("%q", out)
	}
	if out := client(t, "coap-client-openssl", "-n", "coaps://"+addr+"/hello"); !strings.Contains(out, "hello ") {
		t.Errorf("%q", out)
	}
}

func same(t *testing.T, file string) bool {
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(got, large)
}
