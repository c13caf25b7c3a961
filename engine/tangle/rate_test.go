package tanglenet

import (
	"context"
	"testing"
	"time"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/gossip"
)

// TestRate: a peer that sends too fast waits, and nobody else does.
func TestRate(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := &Node{rates: newRates(gossip.MaxFrame / 2), ctx: ctx}
	frame := gossip.Frame{Ledger: gossip.Tangle, Raw: make([]byte, gossip.MaxFrame)}
	loud, quiet := keys.Public{1}, keys.Public{2}
	if n.door(loud, frame) {
		t.Fatal("the door has taken a frame")
	}
	held := make(chan bool)
	go func() {
		n.door(loud, frame)
		held <- true
	}()
	n.door(quiet, frame)
	select {
	case <-held:
		t.Error("two of the largest frames have passed at once")
	case <-time.After(20 * time.Millisecond):
	}
	cancel()
	<-held
	for i := range 2 * maxRated {
		n.rates.find(keys.Public{byte(i), byte(i >> 8)})
	}
	if len(n.rates.of) > maxRated {
		t.Errorf("%d rates are kept", len(n.rates.of))
	}
}
