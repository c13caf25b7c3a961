package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/journal"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/gateway/daemon"
	gatewayfleet "coinop.dev/gateway/fleet"
	"coinop.dev/world/chain/regtest"
	"coinop.dev/world/drive"
	"coinop.dev/world/store"
)

// A gate is the gateway's process: the daemon that coinop serve runs, with a chain
// of its own, and beside it what only a measurement needs.
type gate struct {
	d    *daemon.Daemon
	node *regtest.Node
	dir  string
	plan *http.Server // play money, and requests for nothing
	at   net.Listener
}

const (
	paidItem = "page"  // what the paywall sells
	readItem = "meter" // what the CoAP door sells, and the device that measures it

	passwordsFile = "passwords"
)

// deviceName is what the i-th device is called.
func deviceName(i int) string { return fmt.Sprintf("device-%05d", i) }

// deviceKey is its key.
func deviceKey(seed []byte, i int) (keys.Secret, error) {
	root, err := keys.SecretFromBytes(seed)
	if err != nil {
		return root, err
	}
	return root.Derive(deviceName(i)), nil
}

func openGate(ctx context.Context, t *doorTask) (g *gate, n *doorNews, err error) {
	begin := time.Now()
	if t.Memory > 0 {
		debug.SetMemoryLimit(int64(t.Memory) << 20)
	}
	g = &gate{dir: t.Dir}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	c := coinop.Config{Version: 1, Name: "lab", Data: filepath.Join(t.Dir, "gateway"), Store: t.Store, HTTP: "127.0.0.1:0"}
	if t.Past > 0 {
		c.Books = booksURI(t.Dir)
	}
	var machine []coinop.Option
	switch t.Door {
	case doorMQTT:
		if g.node, err = regtest.Open(regtest.Options{}); err != nil {
			return g, nil, err
		}
		machine = append(machine, coinop.OnChain(g.node))
		c.Rails = []string{"oneway:", fmt.Sprintf("payword:?max_credit=%dmsat", uint64(coinPrice*coinCredit))}
		c.MQTT.Listen = "127.0.0.1:0"
	case doorHTTP:
		c.Rails = []string{playMoney, "fake:"}
		c.Sell = []coinop.Service{{Item: paidItem, Unit: "request", Price: coinop.Price{Amount: money.Msat}, From: t.Upstream}}
	case doorCoAP:
		c.Rails = []string{playMoney, "fake:"}
		c.Sell = []coinop.Service{{Item: readItem, Unit: "reading", Price: coinop.Price{Amount: money.Msat}, From: "data:device:" + readItem}}
		c.MQTT.Listen, c.CoAP.Listen = "127.0.0.1:0", "127.0.0.1:0"
		if t.DTLS {
			c.CoAP.DTLS = "127.0.0.1:0"
		}
	}
	if g.d, err = daemon.Open(ctx, daemon.Options{Config: c, Machine: machine}); err != nil {
		return g, nil, err
	}
	n = &doorNews{Key: g.d.Machine.Key.Public().String(), Addrs: map[string]string{}, Token: g.d.Token, OpenMs: time.Since(begin).Seconds() * 1e3}
	for door, at := range g.d.At() {
		n.Addrs[door] = at
	}
	if n.Addrs["lab"], err = g.serve(t.Upstream); err != nil {
		return g, nil, err
	}
	if g.node != nil {
		n.Tip, _, err = g.node.Tip(ctx)
	}
	return g, n, err
}

// playMoney is the purse of who buys sessions.
const playMoney = "fake:?balance=1000000sat"

// serve is the part of the gateway's process that is no gateway: it pays with play
// money for who asks, and proxies like the paywall, for nothing.
func (g *gate) serve(upstream string) (addr string, err error) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /pay", func(w http.ResponseWriter, r *http.Request) {
		var o money.Order
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxLine)).Decode(&o)
		if err == nil {
			var receipt money.Receipt
			if receipt, err = g.d.Machine.Purse.Pay(r.Context(), o); err == nil {
				json.NewEncoder(w).Encode(receipt)
				return
			}
		}
		http.Error(w, err.Error(), http.StatusBadRequest)
	})
	if upstream != "" {
		target, err := url.Parse(upstream)
		if err != nil {
			return "", err
		}
		// As the paywall's own (gateway/paywall/upstream.go), but for what is charged.
		mux.Handle("/"+paidItem+"/", &httputil.ReverseProxy{
			Transport: &http.Transport{MaxIdleConnsPerHost: 256, ResponseHeaderTimeout: time.Minute},
			Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
		})
	}
	if g.at, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return "", err
	}
	g.plan = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go g.plan.Serve(g.at)
	return "http://" + g.at.Addr().String(), nil
}

func (g *gate) close() {
	if g.plan != nil {
		g.plan.Close()
	}
	if g.d != nil {
		g.d.Close()
	}
	if g.node != nil {
		g.node.Close()
	}
}

func (g *gate) do(ctx context.Context, what string, t *doorTask) (*doorNews, error) {
	switch what {
	case "door devices":
		return &doorNews{}, g.enlist(ctx, t)
	case "door fund":
		return g.fund(ctx, t)
	case "door publish":
		return g.publish(ctx, t)
	}
	return nil, fmt.Errorf("no gateway does %q", what)
}

// enlist takes the devices into the fleet as their owner would, from a list, and
// leaves what they log in with in a file.
func (g *gate) enlist(ctx context.Context, t *doorTask) error {
	var list, passwords strings.Builder
	list.WriteString("name,key\n")
	names := []string{}
	for i := range t.Devices {
		key, err := deviceKey(t.Seed, i)
		if err != nil {
			return err
		}
		names = append(names, deviceName(i))
		fmt.Fprintf(&list, "%s,%v\n", deviceName(i), key.Public())
	}
	if t.Door == doorCoAP {
		names = append(names, readItem)
		list.WriteString(readItem + ",\n")
	}
	if _, err := g.d.Fleet.Import(ctx, strings.NewReader(list.String())); err != nil {
		return err
	}
	for _, name := range names {
		p, ok := g.d.Fleet.Device(name)
		if !ok {
			return fmt.Errorf("device %s is not in the fleet", name)
		}
		card := g.d.Fleet.Secret(p)
		fmt.Fprintf(&passwords, "%s %s %x\n", name, gatewayfleet.Password(card), card.Reveal())
	}
	return os.WriteFile(filepath.Join(t.Dir, passwordsFile), []byte(passwords.String()), 0o600)
}

// fund pays a script so many times.
func (g *gate) fund(ctx context.Context, t *doorTask) (n *doorNews, err error) {
	n = &doorNews{}
	for range t.Count {
		p, err := g.node.Faucet(t.Script, t.Sat)
		if err != nil {
			return nil, err
		}
		n.Gifts = append(n.Gifts, p.String())
	}
	if _, err = g.node.Mine(1); err == nil {
		n.Tip, _, err = g.node.Tip(ctx)
	}
	return n, err
}

// publish puts transactions into a block.
func (g *gate) publish(ctx context.Context, t *doorTask) (n *doorNews, err error) {
	var all []*wire.MsgTx
	for _, raw := range t.Txs {
		one, err := tx.Parse(raw)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if _, err := g.node.MineOnly(all...); err != nil {
		return nil, err
	}
	n = &doorNews{}
	n.Tip, _, err = g.node.Tip(ctx)
	return n, err
}

func (g *gate) count(ctx context.Context, rest bool) (c doorCounts, err error) {
	if rest {
		debug.FreeOSMemory()
	}
	c.counts = readKernel()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c.Heap, c.Stacks = &m.HeapAlloc, &m.StackInuse
	if counter, ok := g.d.Machine.DB.(store.Counter); ok {
		n := counter.Counts()
		c.Store = &n
	}
	host := g.d.Machine.Engine.Host
	c.Rounds, c.Events = host.Counts()
	last := uint64(0)
	err = host.Do(ctx, func(m *drive.Machine) {
		if j, ok := m.Core(journal.Name).(*journal.Journal); ok {
			last = j.Last()
		}
	})
	if err != nil {
		return c, err
	}
	filed, err := g.d.Books.Cursor(ctx)
	if err != nil {
		return c, err
	}
	lag := last - min(filed, last)
	c.BooksLag = &lag
	s, err := g.d.Machine.Till.Summary(ctx)
	if err != nil {
		return c, err
	}
	c.Booked = &s.Earned
	if bytes, err := size(g.dir); err == nil {
		all := uint64(bytes)
		c.Files = &all
	}
	return c, nil
}

// login is how a device comes in: what enlist left for it.
type login struct {
	password string
	secret   keys.Secret
}

func readLogins(dir string) (map[string]login, error) {
	raw, err := os.ReadFile(filepath.Join(dir, passwordsFile))
	if err != nil {
		return nil, err
	}
	all := map[string]login{}
	for line := range strings.Lines(string(raw)) {
		var name, password string
		var secret []byte
		if _, err := fmt.Sscanf(line, "%s %s %x", &name, &password, &secret); err != nil {
			return nil, err
		}
		key, err := keys.SecretFromBytes(secret)
		if err != nil {
			return nil, err
		}
		all[name] = login{password, key}
	}
	return all, nil
}

// payPlay has the gateway's own purse pay an order with play money.
func payPlay(ctx context.Context, cashier string, o money.Order) (r money.Receipt, err error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return r, err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, cashier+"/pay", strings.NewReader(string(raw)))
	if err != nil {
		return r, err
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return r, errors.New("the gateway's purse does not pay: " + resp.Status)
	}
	return r, json.NewDecoder(resp.Body).Decode(&r)
}
