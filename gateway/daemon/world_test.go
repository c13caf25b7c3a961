package daemon_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"coinop.dev"
	_ "coinop.dev/all"
	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
	"coinop.dev/gateway/daemon"
	"coinop.dev/world/systemd"
)

var long = flag.Bool("long", false, "kill, cut and flood more often")

// often is how many times a loop goes round: few by default.
func often(few, many int) int {
	if *long {
		return many
	}
	return few
}

// asGateway makes the test binary a gateway: its argument is the config, its
// standard input says how far its clock is off, and its end ends it.
const asGateway = "COINOP_TEST_GATEWAY"

func TestMain(m *testing.M) {
	if os.Getenv(asGateway) == "" {
		flag.Parse()
		flag.Set("test.parallel", "6") // they wait for processes more than they work
		code := m.Run()
		os.RemoveAll(builtIn)
		os.Exit(code)
	}
	os.Unsetenv(asGateway) // it is no key of a config
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve is what coinop serve does, with a clock that can be set, and a device in it.
func serve(path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := coinop.ReadConfig(path)
	if err != nil {
		return err
	}
	var skew atomic.Int64
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			ms, _ := strconv.ParseInt(in.Text(), 10, 64)
			skew.Store(ms)
			fmt.Fprintln(os.Stderr, "clock", ms)
		}
		os.Exit(0)
	}()
	now := func() step.Time { return step.Time(time.Now().UnixMilli() + skew.Load()) }
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	acts := filepath.Join(filepath.Dir(path), "acts") // of the device in this process
	deliver := func(ctx context.Context, d earn.Deliver) ([]byte, error) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), "jammed")); err == nil {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		f, err := os.OpenFile(acts, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		_, err = fmt.Fprintln(f, d.Order)
		return []byte("one " + d.Item), err
	}
	d, err := daemon.Open(ctx, daemon.Options{Config: c, Log: log, Machine: []coinop.Option{coinop.Clock(now), coinop.Deliver("machine", deliver), coinop.Deliver("sensor", deliver)}})
	if err != nil {
		return err
	}
	ready := map[string]string{"node": d.Machine.Key.Public().String()}
	maps.Copy(ready, d.At())
	json.NewEncoder(os.Stdout).Encode(ready)
	systemd.Notify(systemd.Ready)
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	for {
		select {
		case <-ctx.Done():
			systemd.Notify(systemd.Stopping)
			return d.Close()
		case <-d.Stopped():
			return errors.Join(d.Machine.Engine.Err(), d.Close())
		case <-again:
			systemd.Notify("RELOADING=1")
			c, err := coinop.ReadConfig(path)
			if err == nil {
				err = d.Reload(ctx, c)
			}
			if err != nil {
				log.Error("the old one stays", "err", err)
			}
			systemd.Notify(systemd.Ready)
		}
	}
}

// A process is a gateway that is started, killed and started again on the same
// files.
type process struct {
	t    testing.TB
	dir  string
	argv []string // who serves; the test binary if it is empty
	env  []string

	mu  sync.Mutex
	cmd *exec.Cmd
	// starting is one that is not ready yet.
	starting *exec.Cmd
	in       io.WriteCloser
	ready    map[string]any
	token    string
	ended    chan error
	log      output // of all its starts
}

// output is what a process says, while it says it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// purse and shelf are what every gateway of these tests has: play money to pay
// with, and something to sell.
const (
	purse = "rails = [\"fake:?balance=100000000sat\", \"fake:\"]\nhttp = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\n"
	shelf = "[[sell]]\nitem = \"tea\"\nunit = \"cup\"\nprice = \"5 sat\"\nfrom = \"machine\"\n"
)

// newProcess writes a config: keys, and then tables.
func newProcess(t testing.TB, name, keys, tables string) *process {
	p := &process{t: t, dir: filepath.Join(t.TempDir(), name)}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p.config(fmt.Sprintf("version = 1\nname = %q\ndata = \"data\"\n%s\n%s", name, keys, tables))
	t.Cleanup(func() {
		p.kill()
		if _, race, found := strings.Cut(p.log.String(), "DATA RACE"); found { // go test -race
			t.Errorf("%s has a data race:%.3000s", name, race)
		}
		if t.Failed() {
			t.Logf("%s says at last:\n%s", name, tail(p.log.String(), 4000))
		}
	})
	return p
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (p *process) path() string { return filepath.Join(p.dir, "coinop.toml") }

func (p *process) config(text string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// startTime is how long a gateway may take to be ready.
const startTime = 15 * time.Second

// start starts it and waits until it is ready.
func (p *process) start() *process {
	p.t.Helper()
	if err := p.try(); err != nil {
		p.t.Fatal(err)
	}
	return p
}

func (p *process) try() error {
	argv := p.argv
	env := append(os.Environ(), p.env...)
	if len(argv) == 0 {
		argv = []string{os.Args[0], p.path()}
		env = append(env, asGateway+"=1")
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Stderr = env, &p.log
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.starting = cmd
	p.mu.Unlock()
	late := time.AfterFunc(startTime, func() { cmd.Process.Signal(syscall.SIGQUIT) }) // and it says where it hangs
	line, err := bufio.NewReader(out).ReadBytes('\n')
	late.Stop()
	ready := map[string]any{}
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		cmd.Process.Kill()
		return fmt.Errorf("it does not start: %w, %w\n%s", err, cmd.Wait(), tail(p.log.String(), 20000))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.in, p.ready, p.ended, p.starting = cmd, in, ready, ended, nil
	raw, err := os.ReadFile(filepath.Join(p.dir, "data", daemon.TokenFile))
	p.token = strings.TrimSpace(string(raw))
	return err
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Kill()
	p.wait(10 * time.Second)
}

// killStarting is kill -9 before it is ready.
func (p *process) killStarting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.starting != nil {
		p.starting.Process.Kill()
	}
}

// stop asks it to stop, and says how it ended.
func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	return p.wait(30 * time.Second)
}

func (p *process) wait(d time.Duration) error {
	select {
	case err := <-p.ended:
		p.ended <- err
		return err
	case <-time.After(d):
		p.t.Errorf("it does not end within %v", d)
		return nil
	}
}

// clock sets its clock wrong.
func (p *process) clock(skew time.Duration) {
	said := strings.Count(p.log.String(), "clock ")
	fmt.Fprintln(p.in, skew.Milliseconds())
	within(p.t, 5*time.Second, "its clock is set", func() bool { return strings.Count(p.log.String(), "clock ") > said })
}

// at is where a door is.
func (p *process) at(door string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _ := p.ready[door].(string)
	return s
}

// A refusal is a problem as the API says it.
type refusal struct {
	Status       int
	Code, Detail string
	Limit        string
	Left         *money.Amount `json:"left_msat"`
	Order        *money.OrderID
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Code, r.Detail) }

var client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}

// call asks its API as its operator.
func (p *process) call(method, path string, body, into any) error {
	p.mu.Lock()
	token := p.token
	p.mu.Unlock()
	return p.as(token, method, path, body, into)
}

// as asks its API with a credential. The error is a *refusal if it answers.
func (p *process) as(token, method, path string, body, into any) error {
	var raw io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		raw = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.at("http")+path, raw)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := client.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	got, err := io.ReadAll(a.Body)
	switch {
	case err != nil:
		return err
	case a.StatusCode/100 != 2 || a.StatusCode == http.StatusAccepted:
		no := &refusal{}
		json.Unmarshal(got, no)
		no.Status = a.StatusCode
		return no
	case into == nil:
		return nil
	}
	return json.Unmarshal(got, into)
}

func (p *process) must(method, path string, body, into any) {
	p.t.Helper()
	if err := p.call(method, path, body, into); err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// status is what the tests ask of /v1/status.
type status struct {
	Purse struct {
		Open    int
		Settled uint64
		Paid    money.Amount `json:"paid_msat"`
	}
	Till earn.Summary
}

func (p *process) status() (s status) {
	p.t.Helper()
	p.must("GET", "/v1/status", nil, &s)
	return s
}

// page reads what is not JSON, such as /metrics.
func page(t testing.TB, url string) (code int, text string) {
	t.Helper()
	a, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(b)
}

type object = map[string]any

// quote asks for an offer.
func (p *process) quote(service string) (o gateway.Offer, err error) {
	err = p.call("POST", "/v1/quotes", object{"service": service}, &o)
	return o, err
}

// pay pays an offer out of the gateway's own purse.
func (p *process) pay(o gateway.Offer) (r money.Receipt, err error) {
	err = p.call("POST", "/v1/payments", object{"to": o.Ways[0].Pay, "for": o.Service}, &r)
	return r, err
}

// claim shows the proof.
func (p *process) claim(o gateway.Offer, r money.Receipt) (order earn.Order, err error) {
	err = p.call("POST", "/v1/orders", object{"token": o.Token, "receipt": r}, &order)
	return order, err
}

// buy is a customer that nothing goes wrong for.
func (p *process) buy(service string) (money.OrderID, gateway.Offer, money.Receipt) {
	p.t.Helper()
	o, err := p.quote(service)
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := p.pay(o)
	if err == nil {
		_, err = p.claim(o, r)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return o.Order, o, r
}

func (p *process) order(id money.OrderID, wait string) (o earn.Order, err error) {
	err = p.call("GET", "/v1/orders/"+id.String()+"?wait="+wait, nil, &o)
	return o, err
}

func within(t testing.TB, d time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v it is not so that %s", d, what)
		}
	}
}

// is reports whether an error is a refusal with a code.
func is(err error, code string) bool {
	var no *refusal
	return errors.As(err, &no) && no.Code == code
}
