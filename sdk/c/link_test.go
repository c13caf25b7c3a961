package c_test

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/gateway/mqtt"
	"coinop.dev/world/link/serial"
)

// terminals is two pseudo-terminals back to back, by socat.
func terminals(t *testing.T) (ours, theirs string) {
	t.Helper()
	if _, err := exec.LookPath("socat"); err != nil {
		t.Skip("no socat here: the serial line is not tested (apt-get install socat)")
	}
	dir := t.TempDir()
	ours, theirs = filepath.Join(dir, "gateway"), filepath.Join(dir, "device")
	cmd := exec.Command("socat", "pty,raw,echo=0,link="+ours, "pty,raw,echo=0,link="+theirs)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	until(t, "two terminals", func() bool {
		_, err := os.Stat(ours)
		_, err2 := os.Stat(theirs)
		return err == nil && err2 == nil
	})
	return ours, theirs
}

// noisy spoils a byte now and then.
type noisy struct {
	io.ReadWriteCloser
	mu sync.Mutex
	c  chaos
}

func (n *noisy) Read(b []byte) (int, error) {
	k, err := n.ReadWriteCloser.Read(b)
	n.spoil(b[:k])
	return k, err
}

func (n *noisy) spoil(b []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(b) > 0 && n.c.IntN(40) == 0 {
		b[n.c.IntN(len(b))] ^= 1 << n.c.IntN(8)
	}
}

func TestADevicePaysOverASerialLine(t *testing.T) {
	t.Parallel()
	ours, theirs := terminals(t)
	p := newPair(t, 31, 64, 60, 20)
	p.link = "serial:" + theirs
	open := func() (io.ReadWriteCloser, error) {
		f, err := os.OpenFile(ours, os.O_RDWR, 0)
		return &noisy{ReadWriteCloser: f, c: newChaos(32)}, err
	}
	up := make(chan string, 16)
	line, err := serial.Start(open, serial.Options{Turned: func(is bool, peer string) {
		if is {
			up <- peer
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer line.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	out := make(chan []byte, 1024)
	p.g.deliver = func(b []byte) {
		select {
		case out <- b:
		default:
		}
	}
	go func() {
		for {
			select {
			case b := <-out:
				line.Send(ctx, b)
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		for {
			b, err := line.Recv(ctx)
			if err != nil {
				return
			}
			p.g.take(b)
		}
	}()
	p.start(-1)
	if peer := <-up; peer != "agent" {
		t.Errorf("the other end is called %q", peer)
	}
	payAndCut(t, p, 60)
}

// payAndCut pays coins, with a power cut in the middle, and settles.
func payAndCut(t *testing.T, p *pair, orders uint64) {
	t.Helper()
	for i := range orders {
		if i == orders/2 {
			p.kill()
			p.start(-1)
		}
		p.payingOn(p.start, 'P', orderID(i), 1)
	}
	sum := money.Amount(orders) * coin
	until(t, "all settled", func() bool {
		p.tell('S')
		coins, tickets := p.g.look()
		return coins.Paid == sum && coins.Settled == sum && tickets.Paid == sum
	})
}

// door is what the gateway's MQTT door needs of a gateway: it lets the device in
// and carries its messages.
type door struct {
	g *gateway
	p *pair
}

func (d door) Authenticate(name, password, _ string) (mqtt.Device, error) {
	if name != d.g.d.name || password != "secret" {
		return mqtt.Device{}, mqtt.ErrLogin
	}
	return d.Device(name)
}

func (d door) Device(name string) (mqtt.Device, error) {
	return mqtt.Device{Name: name, Key: d.g.d.key.Public()}, nil
}

func (door) Seen(string, bool, string)    {}
func (door) Fault(string, string)         {}
func (door) Acked(string, fleet.Ack)      {}
func (door) Meter(string, string, []byte) {}

// Attach carries a device's messages as engine.Machine does.
func (d door) Attach(node keys.Public, send func(message.Message)) (func(message.Message), func(), error) {
	d.g.host.Outlet(node.PeerName(), func(p step.Packet) { send(p.Msg.(message.Message)) })
	return func(m message.Message) { d.g.take(m.Append(nil)) }, func() { d.g.host.Outlet(node.PeerName(), nil) }, nil
}

func TestADevicePaysOverTheGatewaysMQTT(t *testing.T) {
	t.Parallel()
	p := newPair(t, 33, 64, 60, 20)
	d := mqtt.New(mqtt.Setup{Devices: door{p.g, p}, Machine: door{p.g, p}})
	broker, err := mqtt.Listen(mqtt.Options{Addr: "127.0.0.1:0", Rate: 1000, Burst: 1000}, d)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	defer broker.Close()
	p.link = "mqtt:" + broker.Addr().String() + ":" + p.g.d.name
	p.start(-1)
	payAndCut(t, p, 60)
}

// Mosquitto in between, and a client of ours as the gateway.
func TestADevicePaysOverMosquitto(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Skip("no mosquitto here: the device is not tested against it (apt-get install mosquitto)")
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	cmd := exec.Command("mosquitto", "-p", addr[len("127.0.0.1:"):])
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	var client *mqtt.Client
	until(t, "mosquitto", func() bool {
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		client, err = mqtt.Connect(ctx, mqtt.ClientOptions{Addr: addr, Login: mqtt.Login{ClientID: "gateway"}})
		return err == nil
	})
	defer client.Close()
	p := newPair(t, 34, 64, 60, 20)
	up := mqtt.Topic{Tenant: mqtt.NoTenant, Name: p.g.d.name, Class: mqtt.Event, Kind: mqtt.Pay}
	down := mqtt.Topic{Tenant: mqtt.NoTenant, Name: p.g.d.name, Class: mqtt.Command, Kind: mqtt.Pay}
	p.g.deliver = func(b []byte) { client.Publish(mqtt.Message{Topic: down.String(), Payload: b, QoS: 1}) }
	if err := client.Subscribe(0, up.String()); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			got, err := client.Read()
			if err != nil {
				return
			}
			if m, ok := got.(mqtt.Message); ok {
				p.g.take(m.Payload)
			}
		}
	}()
	p.link = "mqtt:" + addr + ":" + p.g.d.name
	p.start(-1)
	payAndCut(t, p, 60)
}
