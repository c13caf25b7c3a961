package daemon_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/gateway/mqtt"
)

// certificate makes one for this computer.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	parsed, _ := x509.ParseCertificate(der)
	pool.AddCert(parsed)
	return cert, key, pool
}

func TestTLSAndHeaders(t *testing.T) {
	t.Parallel()
	cert, key, pool := certificate(t)
	addr := freeAddr(t)
	p := newProcess(t, "shop", purse, fmt.Sprintf("[tls]\ncert = %q\nkey = %q\n[mqtt]\nlisten = %q\ntls = true\n", cert, key, addr)+shelf).start()
	at := p.at("http")
	if !strings.HasPrefix(at, "https://") {
		t.Fatal(at)
	}
	dial := func(most uint16) *http.Client {
		return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MaxVersion: most}}}
	}
	for _, path := range []string{"/", "/v1/services", "/v1/status", "/openapi.json", "/console/", "/nothing"} {
		a, err := dial(0).Get(at + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(a.Body)
		a.Body.Close()
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s: %q", path, name, got)
			}
		}
		if a.Header.Get("Strict-Transport-Security") == "" {
			t.Errorf("%s: no Strict-Transport-Security", path)
		}
		policy := a.Header.Get("Content-Security-Policy")
		if html := strings.HasPrefix(a.Header.Get("Content-Type"), "text/html"); html && (!strings.Contains(policy, "default-src 'none'") && !strings.Contains(policy, "default-src 'self'") || strings.Contains(policy, "unsafe")) {
			t.Errorf("%s: a page with the policy %q:\n%.200s", path, policy, body)
		}
		if server := a.Header.Get("Server"); server != "" {
			t.Errorf("%s: Server: %s", path, server)
		}
	}
	if _, err := dial(tls.VersionTLS11).Get(at + "/v1/services"); err == nil {
		t.Error("it speaks TLS 1.1")
	}
	if code, text := page(t, strings.Replace(at, "https:", "http:", 1)); code != http.StatusBadRequest {
		t.Errorf("in the clear on the same port: %d %s", code, text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := mqtt.Connect(ctx, mqtt.ClientOptions{Addr: addr, TLS: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}, Login: mqtt.Login{ClientID: "buyer"}, V5: true})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := mqtt.Connect(ctx, mqtt.ClientOptions{Addr: addr, Login: mqtt.Login{ClientID: "buyer"}, V5: true}); err == nil {
		t.Error("the TLS listener of MQTT takes a client in the clear")
	}
}

// Nothing is served to others in the clear, unless the owner says so.
func TestNotInTheClear(t *testing.T) {
	t.Parallel()
	for _, door := range []string{"http", "metrics"} {
		p := newProcess(t, "shop", strings.Replace(purse, door+" = \"127.0.0.1:0\"", door+" = \"0.0.0.0:0\"", 1), shelf)
		if err := p.try(); err == nil || !strings.Contains(p.log.String(), "insecure_http") {
			t.Errorf("%s on all addresses: %v", door, err)
		}
	}
	newProcess(t, "shop", "insecure_http = true\n"+strings.Replace(purse, "http = \"127.0.0.1:0\"", "http = \"0.0.0.0:0\"", 1), shelf).start()
}

// Whatever happens, and with every word logged, no secret is in the log, nor where
// the operator looks for figures.
func TestNoSecretsInTheLog(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	p := newProcess(t, "shop", purse, vending(addr)).start()
	secrets := map[string]string{"the operator's token": p.token}
	key, err := os.ReadFile(filepath.Join(p.dir, "data", "key"))
	if err != nil {
		t.Fatal(err)
	}
	secrets["the machine's key"] = strings.TrimSpace(string(key))
	var card struct{ Credential, Secret, Password string }
	tap := newTap(p, "tap", addr, false)
	p.must("POST", "/v1/devices/tap/credential", nil, &card)
	secrets["a credential"], secrets["a device's secret"], secrets["a password"] = card.Credential, card.Secret, card.Password
	var baked struct{ Token string }
	p.must("POST", "/v1/credentials", object{"name": "guest", "scopes": []string{"read"}}, &baked)
	secrets["a baked token"] = baked.Token
	var invite struct{ Code string }
	p.must("POST", "/v1/invites", object{"device": object{"name": "second"}}, &invite)
	secrets["a claim code"] = invite.Code
	_, o, r := p.buy("water")
	secrets["an offer's token"] = o.Token
	if len(r.Proof) > 0 {
		secrets["a receipt's proof"] = fmt.Sprintf("%x", r.Proof)
	}
	// Mistakes are what is logged.
	forged := p.token[:len(p.token)-2] + "AA"
	secrets["a forged token"] = forged
	for _, token := range []string{forged, card.Credential + "x", card.Secret} {
		p.as(token, "GET", "/v1/status", nil, nil)
		p.as(token, "POST", "/v1/payments", object{"to": "fake://nobody"}, nil)
		p.call("POST", "/v1/orders", object{"token": token, "preimage": strings.Repeat("ab", 32)}, nil)
		p.call("POST", "/v1/claims", object{"code": invite.Code + "x"}, nil)
		client.Get(p.at("http") + "/v1/status?token=" + token)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if c, err := mqtt.Connect(ctx, mqtt.ClientOptions{Addr: addr, Login: mqtt.Login{ClientID: "tap", User: "tap", Password: token + "y"}, V5: true}); err == nil {
			c.Close()
		}
		cancel()
	}
	secrets["a guessed preimage"] = strings.Repeat("ab", 32)
	tap.publish("odd", []byte(card.Secret))
	p.must("DELETE", "/v1/devices/tap", nil, nil)
	_, figures := page(t, p.at("metrics")+"/metrics")
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	// A database that cannot be reached, with a password.
	secrets["the database's password"] = "hunter2hunter2"
	q := newProcess(t, "other", "books = \"postgres://me:hunter2hunter2@127.0.0.1:1/coinop\"\n"+purse, shelf)
	if q.try() == nil {
		t.Error("it starts without its books")
	}
	for what, text := range map[string]string{"its log": p.log.String(), "another log": q.log.String(), "the metrics": figures} {
		for name, secret := range secrets {
			if len(secret) < 8 {
				t.Errorf("%s is %q", name, secret)
			} else if strings.Contains(text, secret) || strings.Contains(text, secret[:len(secret)*2/3]) {
				t.Errorf("%s has %s", what, name)
			}
		}
	}
	// And what is on disk is its owner's alone.
	filepath.WalkDir(filepath.Join(p.dir, "data"), func(path string, e fs.DirEntry, err error) error {
		if info, _ := e.Info(); err == nil && info.Mode().Perm()&0o077 != 0 && strings.Contains(path, "token") {
			t.Errorf("%s: %v", path, info.Mode())
		}
		return err
	})
}

// memory is the resident size of a process, in KiB.
func memory(t *testing.T, p *process) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("skipped: there is no /proc")
	}
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(raw)
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

// disk is how many bytes a gateway has on disk.
func disk(p *process) (sum int64) {
	filepath.WalkDir(filepath.Join(p.dir, "data"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if info, err := e.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

// Those who never pay cost neither memory nor disk, whatever they ask for.
func TestAFloodOfUnpaidRequests(t *testing.T) {
	t.Parallel()
	tables, _ := slow(t, 0)
	p := newProcess(t, "shop", purse, strings.Replace(tables, "free = 1000\n", "", 1)+shelf).start()
	var codes [600]atomic.Int64
	// Each request comes from another address: whoever has many of them is no better off.
	from := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(mathrand.IntN(256)), byte(mathrand.IntN(256)), byte(1+mathrand.IntN(250)))}}
		return d.DialContext(ctx, network, addr)
	}}}
	flood := func(n int) {
		var left atomic.Int64
		left.Store(int64(n))
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for i := left.Add(-1); i >= 0; i = left.Add(-1) {
					var a *http.Response
					var err error
					switch i % 4 {
					case 0:
						a, err = from.Post(p.at("http")+"/v1/quotes", "application/json", strings.NewReader(`{"service":"tea","place":true}`))
					case 1:
						a, err = from.Post(p.at("http")+"/v1/orders", "application/json", strings.NewReader(`{"token":"AAAA"}`))
					default:
						a, err = from.Get(fmt.Sprintf("%s/slow/%d?%d", p.at("http"), i, i))
					}
					if err != nil {
						t.Error(err)
						return
					}
					io.Copy(io.Discard, a.Body)
					a.Body.Close()
					codes[a.StatusCode].Add(1)
				}
			})
		}
		all.Wait()
	}
	flood(1000)
	rss, size := memory(t, p), disk(p)
	start, n := time.Now(), often(6000, 200_000)
	flood(n)
	took := time.Since(start)
	if grown := memory(t, p) - rss; grown > 24<<10 {
		t.Errorf("%d unpaid requests cost %d KiB of memory", n, grown)
	}
	if grown := disk(p) - size; grown > 256<<10 {
		t.Errorf("%d unpaid requests cost %d bytes of disk", n, grown)
	}
	if codes[402].Load() == 0 || codes[429].Load() == 0 || codes[500].Load() > 0 {
		t.Errorf("402: %d, 429: %d, 500: %d", codes[402].Load(), codes[429].Load(), codes[500].Load())
	}
	p.buy("tea") // the owner is served
	t.Logf("%d requests in %v, %d of them with an offer; memory %d KiB, then %d; disk %d bytes, then %d",
		n, took.Round(time.Millisecond), codes[402].Load(), rss, memory(t, p), size, disk(p))
}

// Clients that send slowly, or far too much, are in nobody's way.
func TestSlowAndLargeRequests(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	p := newProcess(t, "shop", purse, vending(addr)).start()
	tap := newTap(p, "tap", addr, false)
	within(t, 5*time.Second, "the tap is online", func() bool { return online(p, "tap") })
	web := strings.TrimPrefix(p.at("http"), "http://")
	before := memory(t, p)
	var idle []net.Conn
	for i := range often(1200, 6000) {
		at, hello := web, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "
		if i%8 > 0 {
			at, hello = addr, "\x10\x7f"
		}
		c, err := net.Dial("tcp", at)
		if err != nil {
			continue // it takes no more
		}
		defer c.Close()
		io.WriteString(c, hello)
		idle = append(idle, c)
	}
	start := time.Now()
	tap.mu.Lock()
	tap.conn.Close() // its link is lost, and it has to come in again among them
	tap.mu.Unlock()
	id, _, _ := p.buy("water")
	if o, err := p.order(id, "10s"); err != nil || o.State != "settled" || tap.acts(id) != 1 {
		t.Errorf("with %d idle connections: %v, %+v", len(idle), err, o)
	}
	each := (memory(t, p) - before) * 1024 / max(len(idle), 1)
	t.Logf("with %d idle connections, %d bytes each, an order took %v", len(idle), each, time.Since(start).Round(time.Millisecond))
	if each > 32<<10 {
		t.Errorf("an idle connection costs %d bytes", each)
	}
	if *long { // they are sent away
		within(t, 45*time.Second, "connections that say nothing are closed", func() bool {
			for _, c := range idle {
				c.SetReadDeadline(time.Now().Add(time.Millisecond))
				if _, err := io.ReadAll(c); err != nil && os.IsTimeout(err) {
					return false
				}
			}
			return true
		})
	}
	for _, c := range idle {
		c.Close()
	}

	large := func(method, path, header string, body io.Reader) int {
		r, err := http.NewRequestWithContext(t.Context(), method, p.at("http")+path, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+header)
		a, err := client.Do(r)
		if err != nil {
			return 0 // it hangs up
		}
		defer a.Body.Close()
		return a.StatusCode
	}
	if code := large("GET", "/v1/services", strings.Repeat("x", 100<<10), nil); code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("100 KiB of headers: %d", code)
	}
	if code := large("GET", "/v1/status", strings.Repeat("x", 40<<10), nil); code != http.StatusUnauthorized {
		t.Errorf("a token of 40 KiB: %d", code)
	}
	if code := large("POST", "/v1/quotes", p.token, strings.NewReader(strings.Repeat(" ", 1<<20))); code != http.StatusRequestEntityTooLarge && code != 0 {
		t.Errorf("a body of 1 MiB: %d", code)
	}
	if code := large("GET", "/v1/orders?cursor="+strings.Repeat("x", 10<<10), p.token, nil); code/100 != 4 {
		t.Errorf("a cursor of 10 KiB: %d", code)
	}
	p.buy("tea")
}
