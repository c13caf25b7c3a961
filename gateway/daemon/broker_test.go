package daemon_test

import (
	"sync"
	"testing"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
)

// The owner's own broker is killed and comes back. Devices come back with it, what
// was paid meanwhile is delivered, once, and nothing is paid twice.
func TestBrokerRestart(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	stop := mosquitto(t, addr)
	p := newProcess(t, "shop", purse, "[mqtt]\nbroker = \"mqtt://"+addr+"\"\n"+
		"[[sell]]\nitem = \"water\"\nunit = \"cup\"\nprice = \"3 sat\"\nfrom = \"device:tap\"\nwithin = \"60s\"\n").start()
	tap := newTap(p, "tap", addr, true)
	within(t, 10*time.Second, "the tap is online", func() bool { return online(p, "tap") })
	var mu sync.Mutex
	var bought []money.OrderID
	end := make(chan struct{})
	var customers sync.WaitGroup
	for range 3 {
		customers.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				id, _, _ := p.buy("water")
				mu.Lock()
				bought = append(bought, id)
				mu.Unlock()
				time.Sleep(200 * time.Millisecond) // not more than a device may owe at a time
			}
		})
	}
	for range often(2, 15) {
		time.Sleep(150 * time.Millisecond)
		stop()
		time.Sleep(100 * time.Millisecond)
		stop = mosquitto(t, addr)
	}
	time.Sleep(100 * time.Millisecond)
	close(end)
	customers.Wait()
	var sum money.Amount
	start := time.Now()
	for _, id := range bought {
		o, err := p.order(id, "40s")
		if err != nil || o.State != "settled" || tap.acts(id) != 1 {
			t.Errorf("%v, %+v, acted %d times", err, o, tap.acts(id))
		}
		sum += 3 * money.Sat
	}
	if s := p.status(); s.Till.Earned != sum || s.Purse.Paid != sum || s.Till.Back != 0 {
		t.Errorf("%v was paid for; %+v", sum, s)
	}
	t.Logf("%d orders over %d restarts; the last was delivered %v after the broker was back", len(bought), often(2, 15), time.Since(start).Round(time.Millisecond))
}

func online(p *process, device string) bool {
	var d struct{ Online bool }
	return p.call("GET", "/v1/devices/"+device, nil, &d) == nil && d.Online
}

// The broker that is built in goes with the gateway, and a device that is revoked
// goes at once.
func TestRevokedDeviceIsSentAway(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	p := newProcess(t, "shop", purse, vending(addr)).start()
	tap := newTap(p, "tap", addr, false)
	within(t, 5*time.Second, "the tap is online", func() bool { return online(p, "tap") })
	if err := p.stop(); err != nil {
		t.Errorf("stopped: %v", err)
	}
	p.start()
	within(t, 5*time.Second, "the tap is online again", func() bool { return online(p, "tap") })
	id, _, _ := p.buy("water")
	if o, err := p.order(id, "10s"); err != nil || o.State != "settled" || tap.acts(id) != 1 {
		t.Errorf("%v, %+v", err, o)
	}
	links := tap.links.Load()
	p.must("DELETE", "/v1/devices/tap", nil, nil)
	within(t, 2*time.Second, "a revoked device is cut off", func() bool {
		why, _ := tap.gone.Load().(string)
		return why != "" && !online(p, "tap")
	})
	time.Sleep(100 * time.Millisecond)
	if tap.links.Load() != links {
		t.Error("a revoked device has come in again")
	}
	var o earn.Order
	if err := p.call("POST", "/v1/services/water/test", nil, &o); err == nil {
		if o, err = p.order(o.ID, "10s"); err != nil || o.State == "settled" {
			t.Errorf("a revoked device acts: %v, %+v", err, o)
		}
	}
}
