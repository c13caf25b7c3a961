package api_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"coinop.dev/core/money"
)

// payee is where this gateway is paid.
func (w *town) payee() string { return w.m.PayTo()[0] }

func (w *town) paid() money.Amount {
	w.t.Helper()
	s, err := w.m.Purse.Summary(w.t.Context())
	must(w.t, err)
	return s.Paid
}

// The same key is the same payment: the same bytes, and nothing is paid again, also
// after a restart.
func TestSameKeySameAnswer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openIn(t, dir)
	body := object{"to": w.payee(), "amount_msat": 3000}
	first := w.do(w.token, "POST", "/v1/payments", body, "Idempotency-Key", "lunch")
	if first.StatusCode != 200 || first.Header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("%s %s", first.Status, first.text)
	}
	for range 2 {
		again := w.do(w.token, "POST", "/v1/payments", body, "Idempotency-Key", "lunch")
		if again.text != first.text || again.StatusCode != 200 || again.Header.Get("Idempotency-Replayed") != "true" || again.Header.Get("Content-Type") != first.Header.Get("Content-Type") {
			t.Fatalf("%s %s %s", again.Status, again.Header, again.text)
		}
		w.stop()
		w = openIn(t, dir)
	}
	if w.paid() != 3000 {
		t.Errorf("paid %v", w.paid())
	}
	// Another body under the key, and another path.
	w.refused(422, w.token, "POST", "/v1/payments", object{"to": w.payee(), "amount_msat": 3001}, "Idempotency-Key", "lunch")
	w.refused(422, w.token, "POST", "/v1/bills", body, "Idempotency-Key", "lunch")
	// The key of somebody else is another one.
	other := want[object](w, w.token, "POST", "/v1/credentials", object{"name": "other", "scopes": []string{"pay"}})["token"].(string)
	want[money.Receipt](w, other, "POST", "/v1/payments", body, "Idempotency-Key", "lunch")
	if w.paid() != 6000 {
		t.Errorf("paid %v", w.paid())
	}
	w.refused(400, w.token, "POST", "/v1/payments", body, "Idempotency-Key", strings.Repeat("k", 129))
	// A refusal is kept too: the answer to a key does not change.
	over := object{"to": w.payee(), "amount_msat": 900_000_000}
	p := w.refused(403, w.token, "POST", "/v1/payments", over, "Idempotency-Key", "much")
	if again := w.do(w.token, "POST", "/v1/payments", over, "Idempotency-Key", "much"); again.Header.Get("Idempotency-Replayed") != "true" || again.problem(t).Detail != p.Detail {
		t.Errorf("%s", again.text)
	}
}

// Twenty at once under one key pay once; those that come too early are told so.
func TestSameKeyAtOnce(t *testing.T) {
	t.Parallel()
	w := open(t)
	var all sync.WaitGroup
	var paid, early atomic.Int32
	for range 20 {
		all.Go(func() {
			switch r := w.do(w.token, "POST", "/v1/payments", object{"to": w.payee(), "amount_msat": 1000}, "Idempotency-Key", "once"); r.StatusCode {
			case 200:
				paid.Add(1)
			case 409:
				early.Add(1)
			default:
				t.Errorf("%s %s", r.Status, r.text)
			}
		})
	}
	all.Wait()
	if paid.Load() == 0 || paid.Load()+early.Load() != 20 || w.paid() != 1000 {
		t.Errorf("%d answered, %d early, paid %v", paid.Load(), early.Load(), w.paid())
	}
}

// A gateway that stopped after it began: nobody knows what came of it, so it is not
// done again under this key.
func TestStoppedInTheMiddle(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := openIn(t, dir)
	body := fmt.Sprintf(`{"to":%q,"amount_msat":1000}`, w.payee())
	digest := sha256.Sum256([]byte("POST /v1/payments\n" + body))
	_, err := w.books.Begin(t.Context(), "operator/first half", hex.EncodeToString(digest[:]), w.m.Engine.Host.Now())
	must(t, err)
	w.stop()
	w = openIn(t, dir)
	if p := w.refused(409, w.token, "POST", "/v1/payments", body, "Idempotency-Key", "half"); p.Code != "pending" {
		t.Errorf("%+v", p)
	}
	if w.paid() != 0 {
		t.Error("it was done again")
	}
	// Answers with secrets are not kept: the key does nothing.
	for i := range 2 {
		r := w.do(w.token, "POST", "/v1/credentials", object{"name": fmt.Sprint("n", i), "scopes": []string{"read"}}, "Idempotency-Key", "secret")
		if r.StatusCode != 200 || r.Header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%s %s", r.Status, r.text)
		}
	}
}
