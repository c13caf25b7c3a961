package api_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"image/png"
	"strings"
	"sync"
	"testing"

	"coinop.dev/core/earn"
	fleetcore "coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/gateway/api"
)

type devicePage struct {
	Devices []fleetcore.Device
	Next    string
}

func newKey(t *testing.T) keys.Secret {
	key, err := keys.NewSecret(rand.Reader)
	must(t, err)
	return key
}

// A device from its first day to its last.
func TestLifeOfADevice(t *testing.T) {
	t.Parallel()
	w := open(t)
	key := newKey(t)
	d := want[fleetcore.Device](w, w.token, "POST", "/v1/devices", object{
		"name": "tap-1", "tenant": "bar", "tags": []string{"beer"}, "key": key.Public(),
		"limits": object{"budget_msat": 10_000, "budget_renewal": "daily", "max_payment_msat": 6000},
	})
	if d.Name != "tap-1" || d.Left != 10_000 || d.Key != key.Public() || d.Limits.Order != 6000 {
		t.Fatalf("%+v", d)
	}
	if p := w.refused(403, w.token, "POST", "/v1/devices", object{"name": "tap-1"}); !strings.Contains(p.Detail, "there already") {
		t.Errorf("%+v", p)
	}
	w.refused(403, w.token, "POST", "/v1/devices", object{"name": "Tap 1"})
	w.refused(401, "", "GET", "/v1/devices", nil)
	w.refused(404, w.token, "GET", "/v1/devices/tap-2", nil)

	d = want[fleetcore.Device](w, w.token, "PATCH", "/v1/devices/tap-1", object{"tags": []string{"beer", "north"}})
	if len(d.Tags) != 2 || d.Tenant != "bar" || d.Limits.Total != 10_000 {
		t.Errorf("%+v", d)
	}
	card := want[api.Card](w, w.token, "POST", "/v1/devices/tap-1/credential", object{"limits": object{"max_payment_msat": 5000}})
	if card.Gateway != w.m.Key.Public() || card.Credential == "" || len(card.Secret) != 64 || len(card.Policy) == 0 {
		t.Fatalf("%+v", card)
	}
	w.refused(400, w.token, "POST", "/v1/devices/tap-1/credential", object{"limits": object{"max_payment_msat": 7000}}) // more than its own
	w.refused(404, w.token, "POST", "/v1/devices/tap-2/credential", nil)

	// It pays within its budget, and is told what is left and when there is more.
	pay := func(amount int) object { return object{"to": w.payee(), "amount_msat": amount, "for": "water"} }
	want[money.Receipt](w, card.Credential, "POST", "/v1/payments", pay(5000))
	if p := w.refused(403, card.Credential, "POST", "/v1/payments", pay(5001)); p.Code != "QUOTA_EXCEEDED" || *p.Left != 5000 {
		t.Errorf("%+v", p)
	}
	want[money.Receipt](w, card.Credential, "POST", "/v1/payments", pay(4000))
	p := w.refused(403, card.Credential, "POST", "/v1/payments", pay(1001))
	if p.Code != "QUOTA_EXCEEDED" || p.Limit != "total" || p.Left == nil || *p.Left != 1000 || p.Renews == 0 {
		t.Errorf("%+v", p)
	}
	d = want[fleetcore.Device](w, w.token, "GET", "/v1/devices/tap-1", nil)
	if d.Spent != 9000 || d.Left != 1000 {
		t.Errorf("%+v", d)
	}
	// It may do nothing else, and no more than it was narrowed to.
	w.refused(403, card.Credential, "GET", "/v1/status", nil)
	w.refused(403, narrowed(t, card.Credential, "scope=read"), "POST", "/v1/payments", pay(1))
	w.refused(403, narrowed(t, card.Credential, "payee=fake://nobody"), "POST", "/v1/payments", pay(1))
	w.refused(403, narrowed(t, card.Credential, "service=beer"), "POST", "/v1/payments", pay(1))
	w.refused(401, narrowed(t, card.Credential, "max_fee_msat=1"), "POST", "/v1/payments", pay(1))
	want[money.Receipt](w, narrowed(t, card.Credential, "service=water"), "POST", "/v1/payments", pay(1))

	d = want[fleetcore.Device](w, w.token, "DELETE", "/v1/devices/tap-1", nil)
	if !d.Revoked {
		t.Errorf("%+v", d)
	}
	w.refused(401, card.Credential, "POST", "/v1/payments", pay(1))
	w.refused(404, w.token, "POST", "/v1/devices/tap-1/credential", nil)
	want[object](w, w.token, "DELETE", "/v1/devices/tap-1?forget=true", nil)
	w.refused(404, w.token, "GET", "/v1/devices/tap-1", nil)
}

// Two devices that name an order alike have two orders.
func TestDevicesOrdersAreTheirOwn(t *testing.T) {
	t.Parallel()
	w := open(t)
	id := strings.Repeat("ab", 16)
	var receipts []money.Receipt
	for i := range 2 {
		name := fmt.Sprint("meter-", i)
		want[object](w, w.token, "POST", "/v1/devices", object{"name": name})
		card := want[api.Card](w, w.token, "POST", "/v1/devices/"+name+"/credential", nil)
		for range 2 {
			receipts = append(receipts, want[money.Receipt](w, card.Credential, "POST", "/v1/payments", object{"to": w.payee(), "amount_msat": 1000, "order": id}))
		}
	}
	if receipts[0].Order != receipts[1].Order || receipts[0].Order == receipts[2].Order || w.paid() != 2000 {
		t.Errorf("%+v, paid %v", receipts, w.paid())
	}
}

func TestFiveHundredDevices(t *testing.T) {
	t.Parallel()
	w := open(t)
	var csv strings.Builder
	csv.WriteString("name,tenant,tags,budget_msat,budget_renewal\n")
	for i := range 500 {
		fmt.Fprintf(&csv, "meter-%03d,mill,floor-%d,5 sat,daily\n", i, i%5)
	}
	bad := strings.Replace(csv.String(), "meter-100,mill", "Meter 100,mill", 1)
	bad = strings.Replace(bad, "meter-200,mill,floor-0,5 sat", "meter-200,mill,floor-0,5 zloty", 1)
	p := w.refused(400, w.token, "POST", "/v1/devices/import", bad, "Content-Type", "text/csv")
	if len(p.Bad) != 2 || p.Bad[0].Line != 102 || p.Bad[0].Column != 1 || p.Bad[1].Line != 202 || p.Bad[1].Field != "budget_msat" {
		t.Errorf("%+v", p)
	}
	if list := want[devicePage](w, w.token, "GET", "/v1/devices", nil); len(list.Devices) != 0 {
		t.Fatalf("%d were added", len(list.Devices))
	}
	if in := want[object](w, w.token, "POST", "/v1/devices/import", csv.String(), "Content-Type", "text/csv"); in["added"] != float64(500) {
		t.Fatalf("%+v", in)
	}
	seen := 0
	for page := (devicePage{Next: "-"}); page.Next != ""; {
		page = want[devicePage](w, w.token, "GET", "/v1/devices?tenant=mill&tag=floor-3&limit=30&after="+strings.Trim(page.Next, "-"), nil)
		seen += len(page.Devices)
	}
	if seen != 100 {
		t.Errorf("%d devices on floor 3", seen)
	}
	if p := w.refused(400, w.token, "POST", "/v1/devices/import", csv.String(), "Content-Type", "text/csv"); len(p.Bad) != 100 {
		t.Errorf("%d mistakes", len(p.Bad))
	}
	w.refused(401, "", "POST", "/v1/devices/import", csv.String(), "Content-Type", "text/csv")
}

// An operator draws a code, a device shows it, and nobody else can.
func TestClaimADevice(t *testing.T) {
	t.Parallel()
	w := open(t)
	inv := want[struct {
		Code    string
		Expires step.Time `json:"expires_ms"`
		SVG     string
		PNG     []byte
	}](w, w.token, "POST", "/v1/invites", object{"device": object{"name": "tap-1", "limits": object{"budget_msat": 500}}})
	if !strings.HasPrefix(inv.Code, "CP1") || !strings.HasPrefix(inv.SVG, "<svg") || inv.Expires == 0 {
		t.Fatalf("%+v", inv)
	}
	if _, err := png.Decode(bytes.NewReader(inv.PNG)); err != nil {
		t.Error(err)
	}
	key := newKey(t)
	w.refused(400, "", "POST", "/v1/claims", object{"code": "CP1QQQQ"})
	card := want[api.Card](w, "", "POST", "/v1/claims", object{"code": strings.ToLower(inv.Code[:5]) + " " + strings.ToLower(inv.Code[5:]), "key": key.Public()})
	if card.Device != "tap-1" || card.Limits.Total != 500 {
		t.Fatalf("%+v", card)
	}
	again := want[api.Card](w, "", "POST", "/v1/claims", object{"code": inv.Code, "key": key.Public()})
	if again.Credential != card.Credential {
		t.Error("asked again it is another credential")
	}
	w.refused(403, "", "POST", "/v1/claims", object{"code": inv.Code, "key": newKey(t).Public()})
	want[money.Receipt](w, card.Credential, "POST", "/v1/payments", object{"to": w.payee(), "amount_msat": 500})
	limited := false
	for range 20 {
		limited = limited || w.do("", "POST", "/v1/claims", object{"code": inv.Code}).StatusCode == 429
	}
	if !limited {
		t.Error("codes may be tried for ever")
	}
}

// A tap of the fleet delivers and signs that it has: the receipt proves it.
func TestReceiptOfADevice(t *testing.T) {
	t.Parallel()
	w := open(t)
	key := newKey(t)
	want[object](w, w.token, "POST", "/v1/devices", object{"name": "tap-1", "key": key.Public()})
	var once sync.Once
	w.m.Engine.Host.Outlet(fleetcore.Outlet("tap-1"), func(p step.Packet) {
		c, ok := p.Msg.(fleetcore.Command)
		if !ok {
			return
		}
		once.Do(func() {
			ack := fleetcore.Ack{Gateway: c.Gateway, Device: c.Device, Seq: c.Seq, Order: c.Order, Counter: 1, OK: true, Reading: []byte("1.01 l")}.Seal(key, keys.Secret{})
			go w.fleet.Acked("tap-1", ack)
		})
	})
	w.fleet.Seen("tap-1", true, "1.2")
	o, proof := w.buy("tap", 1)
	want[earn.Order](w, "", "POST", "/v1/orders", proof)
	w.settled(o.Order)
	path := fmt.Sprintf("/v1/orders/%v/receipt", o.Order)
	s := want[receipt.Sale](w, "", "POST", path, proof)
	if err := s.Verify(); err != nil || s.DeviceKey != key.Public() || len(s.Ack) == 0 {
		t.Fatalf("%v: %+v", err, s)
	}
	bent := s
	bent.Ack = append(bytes.Clone(s.Ack), 0)
	if !errors.Is(bent.Verify(), receipt.ErrForged) {
		t.Error("another acknowledgement is not noticed")
	}
	if s := want[receipt.Sale](w, "", "GET", path, nil); s.Ack != nil {
		t.Error("what was sold is shown to strangers")
	}
	if s := want[receipt.Sale](w, w.token, "GET", path, nil); s.Ack == nil {
		t.Error("the seller does not see the acknowledgement")
	}
}
