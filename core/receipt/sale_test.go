package receipt_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
)

// A sale is what its seller has signed: every field of it, also after a journey as
// JSON.
func TestSale(t *testing.T) {
	node, err := keys.SecretFromBytes(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	s := receipt.Sale{
		Order: money.OrderID{1}, State: "settled", Item: "energy", Units: 500, Due: 166_667, Paid: 166_667, Back: 1,
		Currency: "EUR", Rate: 90_000_000_000, Source: "fixed", RateAt: 5, Device: "tap-1", DeviceKey: node.Public(),
		Ack: []byte{1, 2}, Goods: bytes.Repeat([]byte{3}, 32), At: 6,
	}.Sign(node)
	s.Payment = &money.Receipt{Order: s.Order, Amount: s.Due}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back receipt.Sale
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if err := back.Verify(); err != nil {
		t.Fatal(err)
	}
	// Whatever is changed is noticed.
	for i := range reflect.TypeOf(s).NumField() {
		bent := back
		name := reflect.TypeOf(s).Field(i).Name
		switch f := reflect.ValueOf(&bent).Elem().Field(i); f.Kind() {
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Uint64:
			f.SetUint(f.Uint() + 1)
		case reflect.Int64:
			f.SetInt(f.Int() + 1)
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.Slice:
			f.SetBytes(append([]byte{9}, f.Bytes()[1:]...))
		case reflect.Array:
			f.Index(5).SetUint(f.Index(5).Uint() ^ 1)
		case reflect.Pointer:
			bent.Payment = &money.Receipt{Order: s.Order, Amount: s.Due - 1}
		default:
			t.Fatalf("%s is a %v", name, f.Kind())
		}
		if bent.Verify() == nil {
			t.Errorf("another %s is not noticed", name)
		}
	}
	for name, bent := range map[string]func(*receipt.Sale){
		"no signature": func(s *receipt.Sale) { s.Sig = nil },
		"long text":    func(s *receipt.Sale) { s.Item = string(make([]byte, 300)); *s = s.Sign(node) },
		"long ack":     func(s *receipt.Sale) { s.Ack = make([]byte, 5000); *s = s.Sign(node) },
		"short goods":  func(s *receipt.Sale) { s.Goods = []byte{1}; *s = s.Sign(node) },
	} {
		c := back
		if bent(&c); c.Verify() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
