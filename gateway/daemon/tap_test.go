package daemon_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/gateway/mqtt"
	"coinop.dev/world/drive"
	"coinop.dev/world/store/mem"
)

// A tap is a device on the far side of a broker: core/fleet's End, which acts once
// for each order and says so, however often its gateway dies. It connects again at
// once, and jams at the item "jam".
type tap struct {
	t          testing.TB
	addr       string
	credential string
	host       *drive.Host
	id         string // of the client; it has no password for a broker of the owner's

	mu    sync.Mutex
	conn  *mqtt.Client
	acted map[money.OrderID]int
	links atomic.Int64
	gone  atomic.Value // why its last connection ended
	end   func()
}

// newTap takes the device into the gateway's fleet by a claim code, and plugs it in.
// To a broker of the owner's it says no password.
func newTap(p *process, name, addr string, own bool) *tap {
	p.t.Helper()
	key, err := keys.NewSecret(rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	var invite struct{ Code string }
	p.must("POST", "/v1/invites", object{"device": object{"name": name}}, &invite)
	var card struct {
		Gateway    keys.Public
		Credential string
	}
	if err := p.as("", "POST", "/v1/claims", object{"code": invite.Code, "key": key.Public()}, &card); err != nil {
		p.t.Fatal(err)
	}
	db, err := mem.New(map[string][]byte{})
	if err != nil {
		p.t.Fatal(err)
	}
	d := &tap{t: p.t, addr: addr, credential: card.Credential, id: name, acted: map[money.OrderID]int{}}
	if own {
		d.credential = ""
	}
	d.host = drive.NewHost(db, func() step.Time { return step.Time(time.Now().UnixMilli()) })
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { d.host.Run(ctx) })
	d.host.Outlet(fleet.Actuator, func(packet step.Packet) {
		a := packet.Msg.(fleet.Act)
		done := fleet.Acted{Gateway: a.Gateway, Seq: a.Seq, Reading: []byte("0.2 l")}
		if a.Item == "jam" {
			done.Err, done.Reading = errors.New("jammed"), nil
		} else {
			d.mu.Lock()
			d.acted[a.Order]++
			d.mu.Unlock()
		}
		go d.host.Tell(ctx, fleet.EndName, done)
	})
	d.host.Outlet(card.Gateway.PeerName(), func(packet step.Packet) {
		if m, ok := packet.Msg.(message.Message); ok {
			d.publish(mqtt.Pay, m.Append(nil))
		}
	})
	if err := d.host.Add(ctx, fleet.EndName, fleet.NewEnd(fleet.EndConfig{Device: name, Key: key, Gateways: []keys.Public{card.Gateway}})); err != nil {
		p.t.Fatal(err)
	}
	running.Go(func() {
		for ctx.Err() == nil {
			d.gone.Store(d.once(ctx, card.Gateway).Error())
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	d.end = sync.OnceFunc(func() {
		stop()
		d.mu.Lock()
		if d.conn != nil {
			d.conn.Close()
		}
		d.mu.Unlock()
		running.Wait()
	})
	p.t.Cleanup(d.end)
	return d
}

func (d *tap) topic(class, kind string) string {
	return mqtt.Topic{Tenant: mqtt.NoTenant, Name: d.id, Class: class, Kind: kind}.String()
}

func (d *tap) publish(kind string, payload []byte) {
	d.mu.Lock()
	c := d.conn
	d.mu.Unlock()
	if c != nil {
		c.Publish(mqtt.Message{Topic: d.topic(mqtt.Event, kind), Payload: payload, QoS: 1})
	}
}

func (d *tap) once(ctx context.Context, gateway keys.Public) error {
	dial, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	login := mqtt.Login{ClientID: d.id, User: d.id, Password: d.credential}
	if d.credential == "" {
		login.User = ""
	}
	c, err := mqtt.Connect(dial, mqtt.ClientOptions{Addr: d.addr, Login: login, V5: true, Keepalive: time.Minute})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Subscribe(1, d.topic(mqtt.Command, "#")); err != nil {
		return err
	}
	d.mu.Lock()
	d.conn = c
	d.mu.Unlock()
	if d.credential == "" { // the broker tells nobody who comes
		d.publish(mqtt.Up, []byte("{}"))
	}
	d.host.Tell(ctx, "", step.Linked{Peer: gateway.PeerName(), Link: uint64(d.links.Add(1))})
	for {
		got, err := c.Read()
		if err != nil {
			return err
		}
		m, ok := got.(mqtt.Message)
		if !ok {
			continue
		}
		if msg, err := message.Decode(m.Payload); err == nil && msg != nil {
			d.host.Tell(ctx, fleet.EndName, step.Recv{From: gateway.PeerName(), Msg: msg})
		}
	}
}

// acts is how often it has acted for an order.
func (d *tap) acts(id money.OrderID) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.acted[id]
}

func freeAddr(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// mosquitto starts the real broker; stop kills it.
func mosquitto(t testing.TB, addr string) (stop func()) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	if _, err := os.Stat(path); err != nil {
		t.Skip("skipped: mosquitto is not installed (Debian: mosquitto)")
	}
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	_, port, _ := strings.Cut(addr, ":")
	if err := os.WriteFile(conf, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\npersistence false\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(stop)
	within(t, 5*time.Second, "mosquitto listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return stop
}
