package consent_test

import (
	"fmt"
	"syscall"
	"testing"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/consent"
	"coinop.dev/core/step"
)

// A consent round on the device: the message is read, the proposal judged, every
// input signed and the signature proved, and the answer written. It must take at
// most 10 ms of CPU (docs/rails/bitcoin.md).
func BenchmarkRound(b *testing.B) {
	for _, n := range []int{1, 10} {
		for account, kind := range []descriptor.Kind{descriptor.WPKH, descriptor.TR} {
			b.Run(fmt.Sprintf("%v/%d", kind, n), func(b *testing.B) {
				policy := usual
				policy.PerDay, policy.FeeMax, policy.FeeRateMax = 0, 0, 0
				g := newGateway(b, policy)
				var coins []coin
				for i := range n {
					coins = append(coins, g.fund(account, uint32(i), 100_000))
				}
				g.bury(3)
				var raw [][]byte
				for i := range b.N {
					d := g.draft(fmt.Sprint(i), coins...).pay(fmt.Sprint(i), shop("shop"), int64(10_000+i%1000))
					d.change(g.script(account, 1, uint32(i/1000%100)), int64(n)*100_000-20_000-int64(i%7919))
					raw = append(raw, d.done(b).Append(nil))
				}
				b.ReportAllocs()
				b.ResetTimer()
				before := cpu(b)
				for i := range b.N {
					m, err := consent.Decode(raw[i])
					if err != nil {
						b.Fatal(err)
					}
					fx := g.signer.Step(step.Input{At: g.now, Events: []any{step.Recv{From: peer, Msg: m}}})
					c, ok := fx.Send[0].Msg.(consent.Consent)
					if !ok {
						b.Fatalf("%+v", fx.Send[0].Msg)
					}
					c.Append(nil)
				}
				b.ReportMetric(float64(cpu(b)-before)/1e6/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

// cpu is what the process has used in nanoseconds: other work on the machine
// does not count.
func cpu(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
