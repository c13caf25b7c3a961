package paywall_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/macaroon"
	"coinop.dev/core/money"
	"coinop.dev/core/paywall"
)

func key(t testing.TB, n byte) keys.Secret {
	t.Helper()
	s, err := keys.SecretFromBytes(bytes.Repeat([]byte{n}, keys.SecretSize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func token(t testing.TB) string {
	t.Helper()
	id := paywall.Identifier{Hash: [32]byte{1, 2}, Order: money.OrderID{3}, Tail: [16]byte{0xff, 0xfe}}
	m, err := macaroon.Bake(key(t, 1), id.Append(nil), "", "services=weather:0")
	if err != nil {
		t.Fatal(err)
	}
	return m.Text()
}

func TestIdentifier(t *testing.T) {
	id := paywall.Identifier{Hash: [32]byte{1, 2}, Order: money.OrderID{3}, Tail: [16]byte{4}}
	b := id.Append(nil)
	if back, err := paywall.ReadIdentifier(b); err != nil || back != id || len(b) != 66 {
		t.Errorf("%+v, %v", back, err)
	}
	for _, bad := range [][]byte{nil, b[1:], append([]byte{0, 1}, b[2:]...), append(b, 0)} {
		if _, err := paywall.ReadIdentifier(bad); err == nil {
			t.Errorf("%x is read", bad)
		}
	}
}

// What clients of aperture look for stands in the challenge, in the order they
// look for it, in the base64 they decode; and their credential comes back under
// both names.
func TestL402AsItsClientsSpeakIt(t *testing.T) {
	text := token(t)
	headers := paywall.L402{Token: text, Invoice: "lnbcrt1invoice"}.Headers()
	// The expression of aperture's l402/client_interceptor.go.
	expects := regexp.MustCompile(`(LSAT|L402) (?:version="[^"]*", )?(?:token|macaroon)="([^"]+)", invoice="([^"]+)"`)
	for _, h := range headers {
		found := expects.FindStringSubmatch(h)
		if found == nil || found[3] != "lnbcrt1invoice" {
			t.Fatal(h)
		}
		raw, err := base64.StdEncoding.DecodeString(found[2])
		if err != nil {
			t.Fatal(err)
		}
		if m, err := macaroon.Decode(raw); err != nil || m.Text() != text {
			t.Errorf("%v", err)
		}
	}
	if !strings.HasPrefix(headers[0], `L402 version="0", token="`) {
		t.Error(headers[0])
	}
	var read []paywall.L402
	for _, o := range paywall.ReadOffers([]string{strings.Join(headers, ", ")}) {
		c, ok := o.L402()
		if !ok || c.Invoice != "lnbcrt1invoice" {
			t.Errorf("%+v", o)
		}
		read = append(read, c)
	}
	if len(read) != 2 || read[0] != read[1] {
		t.Fatalf("%+v", read)
	}
	cred := read[0].Credential([32]byte{0xab})
	p, err := paywall.ReadProof(map[string][]string{"Authorization": {strings.Replace(cred, "L402", "LSAT", 1), cred}})
	if err != nil || p.L402 == nil || p.L402.Preimage != [32]byte{0xab} {
		t.Fatalf("%+v, %v", p, err)
	}
	if m, err := macaroon.Parse(p.L402.Token); err != nil || m.Text() != text {
		t.Error(err)
	}
}

// A request that carries something like a payment credential is refused, not
// taken for one without; two different ones are refused as well.
func TestMalformedCredentials(t *testing.T) {
	good := "L402 abc:" + strings.Repeat("ab", 32)
	for _, bad := range [][]string{
		{"L402"}, {"L402 "}, {"L402 abc"}, {"L402 :" + strings.Repeat("ab", 32)}, {"L402 abc:" + strings.Repeat("ab", 31)}, {"L402 abc:" + strings.Repeat("zz", 32)},
		{"lsat abc:00"}, {"Payment"}, {good, "L402 abd:" + strings.Repeat("ab", 32)}, {good, "Payment e30"},
		{"Payment " + strings.Repeat("A", paywall.MaxCredential+1)}, {"L402 " + strings.Repeat("A", macaroon.MaxText+1) + ":" + strings.Repeat("ab", 32)},
	} {
		if p, err := paywall.ReadProof(map[string][]string{"Authorization": bad}); err == nil {
			t.Errorf("%.60q is read as %+v", bad, p)
		}
	}
	x := paywall.X402Payment{Version: 2, Accepted: paywall.X402Requirement{Scheme: "exact", Network: "eip155:8453"}, Payload: []byte(`{"signature":"0x"}`)}.Header()
	if _, err := paywall.ReadProof(map[string][]string{"Authorization": {good}, paywall.X402Signature: {x}}); err == nil {
		t.Error("two dialects at once are read")
	}
	for _, bad := range []string{"", "!", "e30=", base64.StdEncoding.EncodeToString([]byte(`{"x402Version":3}`)), strings.Repeat("A", paywall.MaxCredential+1)} {
		if p, err := paywall.ReadProof(map[string][]string{paywall.X402Legacy: {bad}}); err == nil {
			t.Errorf("%.60q is read as %+v", bad, p.X402)
		}
	}
}

// Whatever is behind the paywall sees no proof of payment, and its own
// credentials untouched.
func TestStrip(t *testing.T) {
	h := map[string][]string{
		"Authorization":       {"L402 a:b", "Bearer own", "payment x", "LSAT a:b"},
		paywall.X402Signature: {"a"}, paywall.X402Legacy: {"b"}, "Accept": {"*/*"},
	}
	paywall.Strip(h)
	if want := (map[string][]string{"Authorization": {"Bearer own"}, "Accept": {"*/*"}}); !reflect.DeepEqual(h, want) {
		t.Errorf("%v", h)
	}
	h = map[string][]string{"Authorization": {"L402 a:b"}}
	if paywall.Strip(h); len(h) != 0 {
		t.Errorf("%v", h)
	}
}

// A challenge changed in any slot that matters is not ours any more; the one in
// the description, which only people read, is.
func TestSealedChallenge(t *testing.T) {
	k := key(t, 1)
	c := paywall.Challenge{Realm: "shop", Method: "oneway", Intent: paywall.Charge, Request: paywall.Request{Amount: "1500", Currency: "msat"}.Encode(), Expires: "2026-11-21T20:00:00Z"}
	c, err := c.WithToken("tok").Seal(k)
	if err != nil || !c.Sealed(k) || c.Sealed(key(t, 2)) {
		t.Fatalf("%+v, %v", c, err)
	}
	p, err := paywall.ReadProof(map[string][]string{"Authorization": {paywall.Credential{Challenge: c, Payload: paywall.Payload{Receipt: &money.Receipt{Amount: 5}}}.Header()}})
	if err != nil || !p.Payment.Challenge.Sealed(k) || p.Payment.Payload.Receipt.Amount != 5 {
		t.Fatalf("%+v, %v", p.Payment, err)
	}
	if tok, err := p.Payment.Challenge.Token(); err != nil || tok != "tok" {
		t.Errorf("%q, %v", tok, err)
	}
	if r, err := p.Payment.Challenge.ReadRequest(); err != nil || r.Amount != "1500" {
		t.Errorf("%+v, %v", r, err)
	}
	for i := range reflect.TypeOf(c).NumField() {
		changed := c
		f := reflect.ValueOf(&changed).Elem().Field(i)
		f.SetString(f.String() + "x")
		if name := reflect.TypeOf(c).Field(i).Name; changed.Sealed(k) != (name == "Description") {
			t.Errorf("another %s is sealed: %v", name, changed.Sealed(k))
		}
	}
	c.Realm = "a|b"
	if _, err := c.Seal(k); err == nil {
		t.Error("a realm that could be two slots is sealed")
	}
}

// The example of specs/transports-v2/http.md (x402-foundation/x402), and a
// payment of version 1.
func TestX402(t *testing.T) {
	const sent = "eyJ4NDAyVmVyc2lvbiI6MiwicmVzb3VyY2UiOnsidXJsIjoiaHR0cHM6Ly9hcGkuZXhhbXBsZS5jb20vcHJlbWl1bS1kYXRhIiwiZGVzY3JpcHRpb24iOiJBY2Nlc3MgdG8gcHJlbWl1bSBtYXJrZXQgZGF0YSIsIm1pbWVUeXBlIjoiYXBwbGljYXRpb24vanNvbiJ9LCJhY2NlcHRlZCI6eyJzY2hlbWUiOiJleGFjdCIsIm5ldHdvcmsiOiJlaXAxNTU6ODQ1MzIiLCJhbW91bnQiOiIxMDAwMCIsImFzc2V0IjoiMHgwMzZDYkQ1Mzg0MmM1NDI2NjM0ZTc5Mjk1NDFlQzIzMThmM2RDRjdlIiwicGF5VG8iOiIweDIwOTY5M0JjNmFmYzBDNTMyOGJBMzZGYUYwM0M1MTRFRjMxMjI4N0MiLCJtYXhUaW1lb3V0U2Vjb25kcyI6NjAsImV4dHJhIjp7Im5hbWUiOiJVU0RDIiwidmVyc2lvbiI6IjIifX0sInBheWxvYWQiOnsic2lnbmF0dXJlIjoiMHgyZDZhNzU4OGQ2YWNjYTUwNWNiZjBkOWE0YTIyN2UwYzUyYzZjMzQwMDhjOGU4OTg2YTEyODMyNTk3NjQxNzM2MDhhMmNlNjQ5NjY0MmUzNzdkNmRhOGRiYmY1ODM2ZTliZDE1MDkyZjllY2FiMDVkZWQzZDYyOTNhZjE0OGI1NzFjIiwiYXV0aG9yaXphdGlvbiI6eyJmcm9tIjoiMHg4NTdiMDY1MTlFOTFlM0E1NDUzODc5MWJEYmIwRTIyMzczZTM2YjY2IiwidG8iOiIweDIwOTY5M0JjNmFmYzBDNTMyOGJBMzZGYUYwM0M1MTRFRjMxMjI4N0MiLCJ2YWx1ZSI6IjEwMDAwIiwidmFsaWRBZnRlciI6IjE3NDA2NzIwODkiLCJ2YWxpZEJlZm9yZSI6IjE3NDA2NzIxNTQiLCJub25jZSI6IjB4ZjM3NDY2MTNjMmQ5MjBiNWZkYWJjMDg1NmYyYWViMmQ0Zjg4ZWU2MDM3YjhjYzVkMDRhNzFhNDQ2MmYxMzQ4MCJ9fX0="
	p, err := paywall.ReadProof(map[string][]string{paywall.X402Signature: {sent}})
	if err != nil || p.X402.Accepted.Network != "eip155:84532" || p.X402.Accepted.Amount != "10000" || p.X402.Accepted.Extra["name"] != "USDC" {
		t.Fatalf("%+v, %v", p.X402, err)
	}
	old := base64.StdEncoding.EncodeToString([]byte(`{"x402Version":1,"scheme":"exact","network":"base","payload":{"signature":"0x"}}`))
	p, err = paywall.ReadProof(map[string][]string{paywall.X402Legacy: {old}})
	if err != nil || p.X402.Accepted.Network != "base" {
		t.Fatalf("%+v, %v", p.X402, err)
	}
}

func FuzzReadOffers(f *testing.F) {
	for _, s := range []string{`L402 version="0", token="a", invoice="b"`, `Payment id=a, realm="b\"", x`, `a="b`, `, ,=`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, o := range paywall.ReadOffers([]string{s}) {
			if len(o.Params) > paywall.MaxParams {
				t.Errorf("%d parameters", len(o.Params))
			}
			c, ok := o.Payment()
			if !ok {
				continue
			}
			clean := func(s string) bool {
				return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
			}
			if !clean(fmt.Sprintf("%s%s%s%s%s%s%s%s%s", c.ID, c.Realm, c.Method, c.Intent, c.Request, c.Expires, c.Digest, c.Description, c.Opaque)) {
				continue // no header carries these
			}
			if again := challenges(c.Header()); len(again) != 1 || again[0] != c {
				t.Errorf("%+v is written as %s and read as %+v", c, c.Header(), again)
			}
		}
	})
}

func FuzzReadProof(f *testing.F) {
	f.Add("L402 abc:"+strings.Repeat("ab", 32), "")
	f.Add(paywall.Credential{Challenge: paywall.Challenge{ID: "i", Realm: "r", Method: "oneway", Intent: "charge", Request: "e30"}, Payload: paywall.Payload{Receipt: &money.Receipt{}}}.Header(), "")
	f.Add("", base64.StdEncoding.EncodeToString([]byte(`{"x402Version":1,"scheme":"exact","network":"base","payload":{}}`)))
	f.Fuzz(func(t *testing.T, auth, x402 string) {
		h := map[string][]string{"Authorization": {auth}}
		if x402 != "" {
			h[paywall.X402Signature] = []string{x402}
		}
		p, err := paywall.ReadProof(h)
		if err != nil || p.Payment == nil {
			return
		}
		back, err := paywall.ReadProof(map[string][]string{"Authorization": {p.Payment.Header()}})
		if err != nil || !reflect.DeepEqual(back.Payment, p.Payment) {
			t.Errorf("%+v is read back as %+v, %v", p.Payment, back.Payment, err)
		}
	})
}

func FuzzCanonical(f *testing.F) {
	for _, v := range canonical {
		f.Add([]byte(v.input))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		once, err := paywall.Canonical(b)
		if err != nil {
			return
		}
		if twice, err := paywall.Canonical(once); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%q becomes %q, then %q, %v", b, once, twice, err)
		}
	})
}
