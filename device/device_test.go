package device_test

import (
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev"
	_ "coinop.dev/all"
	"coinop.dev/core/earn"
	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/device"
	"coinop.dev/gateway"
	"coinop.dev/gateway/daemon"
	"coinop.dev/rail"
	"coinop.dev/world/store/bbolt"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// vending is a gateway with a switch behind its broker.
type vending struct {
	t    *testing.T
	d    *daemon.Daemon
	card fleetCard
	key  keys.Secret
}

type fleetCard struct{ credential string }

func newVending(t *testing.T) *vending {
	c := coinop.Config{Data: filepath.Join(t.TempDir(), "gateway"), Rails: []string{"fake:?balance=1000sat", "fake:"}}
	c.Sell = []coinop.Service{{Item: "water", Unit: "cup", Price: coinop.Price{Amount: 5 * money.Sat}, From: "device:tap", Within: "2s"}}
	c.MQTT.Listen = "127.0.0.1:0"
	d, err := daemon.Open(t.Context(), daemon.Options{Config: c})
	must(t, err)
	t.Cleanup(func() { d.Close() })
	v := &vending{t: t, d: d}
	v.key, err = keys.NewSecret(rand.Reader)
	must(t, err)
	code, err := d.Fleet.Invite(t.Context(), fleet.Profile{Name: "tap"}, false, step.Hour)
	must(t, err)
	card, err := d.Fleet.Claim(t.Context(), code, v.key.Public())
	must(t, err)
	v.card.credential = card.Credential
	return v
}

// tap plugs the switch in.
func (v *vending) tap(file string, act func(context.Context, device.Command) ([]byte, error)) *device.Device {
	v.t.Helper()
	db, err := bbolt.Open(file)
	must(v.t, err)
	d, err := device.Open(v.t.Context(), device.Options{
		Broker: strings.TrimPrefix(v.d.At()["mqtt"], "mqtt://"), Name: "tap", Password: v.card.credential, Key: v.key,
		Gateways: []keys.Public{v.d.Machine.Key.Public()}, DB: db, Act: act,
	})
	must(v.t, err)
	v.t.Cleanup(func() { d.Close(); db.Close() })
	return d
}

// buy pays for a cup and returns what became of it.
func (v *vending) buy() earn.Order {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), 20*time.Second)
	defer cancel()
	shop := v.d.Machine.Shop
	o, err := shop.Quote(ctx, gateway.Ask{Service: "water", Units: 1})
	must(v.t, err)
	_, err = shop.Place(ctx, o.Token, "test")
	must(v.t, err)
	_, err = v.d.Machine.Purse.Pay(ctx, money.Order{ID: o.Order, To: rail.Payee(o.Ways[0].Pay), Amount: o.Due})
	must(v.t, err)
	done, err := shop.Wait(ctx, o.Order, func(o earn.Order) bool { return o.State == "settled" || o.State == "refunded" })
	must(v.t, err)
	return done
}

// The relay clicks once, and the order has the switch's signed word for it.
func TestPaidMeansDelivered(t *testing.T) {
	v := newVending(t)
	var clicks atomic.Int32
	v.tap(filepath.Join(t.TempDir(), "tap"), func(context.Context, device.Command) ([]byte, error) {
		clicks.Add(1)
		return []byte("0.2 l"), nil
	})
	o := v.buy()
	ack, err := fleet.ParseAck(o.Ack)
	if o.State != "settled" || clicks.Load() != 1 || err != nil || !ack.OK || ack.Device != "tap" || string(o.Payload) != "0.2 l" {
		t.Fatalf("%d clicks, %+v, %v", clicks.Load(), o, err)
	}
	test, err := v.d.Machine.Shop.TestFire(t.Context(), "water", 1)
	must(t, err)
	done, err := v.d.Machine.Shop.Wait(t.Context(), test.ID, func(o earn.Order) bool { return o.State == "settled" })
	if err != nil || !done.Test || clicks.Load() != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
}

// It is jammed, or nobody answers: the money goes back.
func TestOrMoneyBack(t *testing.T) {
	v := newVending(t)
	d := v.tap(filepath.Join(t.TempDir(), "tap"), func(context.Context, device.Command) ([]byte, error) {
		return nil, errors.New("jammed")
	})
	if o := v.buy(); o.State != "refunded" || !strings.Contains(o.Why, "jammed") || o.Back != 5*money.Sat {
		t.Fatalf("%+v", o)
	}
	d.Close()
	if o := v.buy(); o.State != "refunded" || o.Back != 5*money.Sat {
		t.Fatalf("nobody there: %+v", o)
	}
}
