package mqtt_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"coinop.dev/gateway/mqtt"
)

// echo is a handler that answers every event at once: what the door costs
// without what is behind it.
type echo struct{}

type echoing struct {
	who  mqtt.Who
	peer mqtt.Peer
}

func (echo) Login(l mqtt.Login) (mqtt.Who, error) { return mqtt.Who{Tenant: "t", Name: l.User}, nil }
func (echo) Find(tenant, name string) (mqtt.Who, error) {
	return mqtt.Who{Tenant: tenant, Name: name}, nil
}
func (echo) Join(who mqtt.Who, peer mqtt.Peer) (mqtt.Session, error) { return echoing{who, peer}, nil }

func (e echoing) Received(in mqtt.Incoming) mqtt.Verdict {
	e.peer.Publish(mqtt.Message{Topic: "coinop/t/" + e.who.Name + "/command/pay", Payload: in.Payload})
	return mqtt.Verdict{}
}
func (echoing) Retained(mqtt.Topic) []byte { return nil }
func (echoing) Close()                     {}
func (echoing) Heard()                     {}

func memory(t testing.TB, clean bool) (rss, inuse, stacks int) {
	if clean {
		runtime.GC()
		debug.FreeOSMemory()
	}
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range bytes.Lines(raw) {
		if f := bytes.Fields(line); len(f) > 1 && string(f[0]) == "VmRSS:" {
			rss, _ = strconv.Atoi(string(f[1]))
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return rss << 10, int(m.HeapInuse), int(m.StackInuse)
}

// TestServe and TestLoad are run by hand, as two processes, to measure what the
// embedded broker costs: a device sends 150 bytes a second and is answered.
//
//	go test -c -o mqtt.test ./gateway/mqtt
//	COINOP_MQTT_SERVE=127.0.0.1:1883 ./mqtt.test -test.run 'TestServe$' &
//	COINOP_MQTT_LOAD=127.0.0.1:1883 COINOP_MQTT_PID=$! COINOP_MQTT_DEVICES=5000 COINOP_MQTT_QOS=0 \
//		./mqtt.test -test.v -test.run 'TestLoad$'
func TestServe(t *testing.T) {
	addr := os.Getenv("COINOP_MQTT_SERVE")
	if addr == "" {
		t.Skip("set COINOP_MQTT_SERVE=host:port to serve a load from another process")
	}
	b, err := mqtt.Listen(mqtt.Options{Addr: addr}, echo{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	rss0, _, _ := memory(t, true)
	for last := 0; ; time.Sleep(time.Second) {
		n, lost := b.Counts()
		if n == 0 && last > 0 {
			return
		}
		if n > 0 {
			rss, heap, stacks := memory(t, n < last || last == 0)
			fmt.Printf("%d connections, lost %d: RSS %d KiB, per connection %d B (heap in use %d, stacks %d)\n", n, lost, rss>>10, (rss-rss0)/n, heap/n, stacks/n)
		}
		last = n
	}
}

func cpu(pid string) time.Duration {
	raw, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	f := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+2:])
	user, _ := strconv.Atoi(string(f[11]))
	sys, _ := strconv.Atoi(string(f[12]))
	return time.Duration(user+sys) * 10 * time.Millisecond
}

func TestLoad(t *testing.T) {
	addr, pid := os.Getenv("COINOP_MQTT_LOAD"), os.Getenv("COINOP_MQTT_PID")
	if addr == "" {
		t.Skip("set COINOP_MQTT_LOAD=host:port, COINOP_MQTT_DEVICES, COINOP_MQTT_PID of the server")
	}
	n, _ := strconv.Atoi(os.Getenv("COINOP_MQTT_DEVICES"))
	qos := byte(0)
	if os.Getenv("COINOP_MQTT_QOS") == "1" {
		qos = 1
	}
	clients := make([]*mqtt.Client, n)
	var wg sync.WaitGroup
	gate := make(chan struct{}, 64)
	for i := range clients {
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			c, err := mqtt.Connect(t.Context(), mqtt.ClientOptions{Addr: addr, Login: mqtt.Login{ClientID: "c", User: fmt.Sprint("d", i), Password: "p"}})
			if err != nil {
				t.Error(err)
				return
			}
			c.Subscribe(qos, fmt.Sprintf("coinop/t/d%d/command/+", i))
			if _, err := c.Read(); err != nil {
				t.Error(err)
			}
			clients[i] = c
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	time.Sleep(3 * time.Second) // idle: its memory is printed
	const rounds = 10
	payload := make([]byte, 150)
	late := make([][]time.Duration, n)
	start, before := time.Now(), cpu(pid)
	for i, c := range clients {
		wg.Go(func() {
			topic := fmt.Sprintf("coinop/t/d%d/event/pay", i)
			time.Sleep(time.Duration(i) * time.Second / time.Duration(n))
			next := time.Now()
			for range rounds {
				time.Sleep(time.Until(next))
				next = next.Add(time.Second)
				sent := time.Now()
				if _, err := c.Publish(mqtt.Message{Topic: topic, Payload: payload, QoS: qos}); err != nil {
					t.Error(err)
					return
				}
				for got := 0; got < 1+int(qos); got++ {
					if _, err := c.Read(); err != nil {
						t.Error(err)
						return
					}
				}
				late[i] = append(late[i], time.Since(sent))
			}
		})
	}
	wg.Wait()
	took := cpu(pid) - before
	latencies(t, late)
	t.Logf("%d devices, QoS %d, %v: server CPU %v, %v per message in and out", n, qos, time.Since(start), took, took/time.Duration(n*rounds))
	for _, c := range clients {
		c.Disconnect()
	}
}

func latencies(t *testing.T, late [][]time.Duration) {
	var all []time.Duration
	for _, l := range late {
		all = append(all, l...)
	}
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	t.Logf("latency p50 %v p99 %v max %v", all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
}
