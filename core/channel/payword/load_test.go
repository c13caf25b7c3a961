package payword

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A spoiled record is an error, or loads to a core that stops itself; it never
// crashes a machine in another way.
func FuzzLoad(f *testing.F) {
	for i := range byte(8) {
		f.Add(true, i, uint16(0), byte(1))
		f.Add(false, i, uint16(3), byte(0xff))
	}
	h := newPair(f, ten(64, 4, 16))
	session := money.OrderID{9}
	h.answer(h.reach(h.pay(order(1, 3), Tick{session, 2})))
	h.pay(order(2, 1))
	f.Fuzz(func(t *testing.T, isPayer bool, which byte, at uint16, with byte) {
		written := h.payee.Durable()
		if isPayer {
			written = h.payer.Durable()
		}
		d := disk{}
		for i, r := range written {
			value := slices.Clone(r.Value)
			if i == int(which)%len(written) && len(value) > 0 {
				if n := int(at) % len(value); with == 0 {
					value = value[:n]
				} else {
					value[n] ^= with
				}
			}
			d[r.Key] = value
		}
		defer func() {
			r := recover()
			if _, bug := r.(runtime.Error); bug || r != nil && !strings.HasPrefix(fmt.Sprint(r), "assert: ") {
				panic(r)
			}
		}()
		start := step.Input{At: 1, Events: []any{step.Rang{ID: step.Start}}}
		if isPayer {
			if p, err := LoadPayer(d, h.payer.id, secret(t, "payer")); err == nil {
				p.Step(start)
			}
		} else if p, err := LoadPayee(d, h.payee.id, secret(t, "payee")); err == nil {
			p.Step(start)
		}
	})
}
