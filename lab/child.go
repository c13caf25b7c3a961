package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"coinop.dev/core/money"
)

// The two ends are asked over stdin and answer on stdout, a JSON object a line,
// one question at a time. An end stops when its stdin closes.

// A question tells an end what to do.
type question struct {
	Do string `json:"do"` // start, join, pay, risk, count, balance, limits, shut, book

	// start
	Store   string `json:"store,omitempty"`
	Chain   string `json:"chain,omitempty"`
	Key     string `json:"key,omitempty"`    // the file where its key is, or will be
	Wallet  bool   `json:"wallet,omitempty"` // its money is the wallet's of rail bitcoin
	Dir     string `json:"dir,omitempty"`    // on the store's disk, to time it
	Profile string `json:"profile,omitempty"`

	// join
	Listen   string   `json:"listen,omitempty"` // where it listened the last time
	Earns    []string `json:"earns,omitempty"`  // rails to be paid over
	Pays     []string `json:"pays,omitempty"`   // rails to pay over
	Links    []string `json:"links,omitempty"`  // to whom it is linked besides
	To       string   `json:"to,omitempty"`     // who is paid
	Echo     string   `json:"echo,omitempty"`   // where that one says everything back
	Channels int      `json:"channels,omitempty"`
	Capacity int64    `json:"capacity_sat,omitempty"` // of each but the first
	Static   bool     `json:"static,omitempty"`

	// pay
	Payments    int           `json:"payments,omitempty"`
	Concurrency int           `json:"concurrency,omitempty"`
	Amount      money.Amount  `json:"amount_msat,omitempty"`
	Orders      bool          `json:"orders,omitempty"`
	Pause       time.Duration `json:"pause,omitempty"`

	// count
	Rest bool `json:"rest,omitempty"` // collect garbage first

	Door   *doorTask   `json:"door,omitempty"`   // what is asked of the ends of a door
	Ledger *ledgerTask `json:"ledger,omitempty"` // and of the nodes of a ledger
}

// An answer with Done set is only news of how far it is.
type answer struct {
	Error string `json:"error,omitempty"`
	Done  uint64 `json:"done,omitempty"`

	Script []byte        `json:"script,omitempty"` // of the wallet
	Addr   string        `json:"addr,omitempty"`   // key@host:port
	Listen string        `json:"listen,omitempty"` // host:port of it
	Echo   string        `json:"echo,omitempty"`
	Booked money.Amount  `json:"booked_msat,omitempty"`
	Paid   *paid         `json:"paid,omitempty"`
	AtRisk *money.Amount `json:"at_risk_msat,omitempty"`
	Counts *counts       `json:"counts,omitempty"`
	Limits *Limits       `json:"limits,omitempty"`
	Door   *doorNews     `json:"door,omitempty"`
	Ledger *ledgerNews   `json:"ledger,omitempty"`
}

// paid is how a workload went, as the payer's clock saw it.
type paid struct {
	Took time.Duration `json:"took_ns"`
	P50  time.Duration `json:"p50_ns"`
	P95  time.Duration `json:"p95_ns"`
	P99  time.Duration `json:"p99_ns"`
	// AtRisk is the most that the payer had at risk, of what was looked at.
	AtRisk  *money.Amount `json:"at_risk_msat,omitempty"`
	Metered bool          `json:"metered"`
}

// maxLine bounds a line of either side, in bytes.
const maxLine = 1 << 20

// A child is one end's process.
type child struct {
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan []byte
	errors *tail
	ended  sync.Once
}

// childGrace is how long an end may take to stop before it is killed.
const childGrace = 5 * time.Second

func start(name string, command []string) (*child, error) {
	c := &child{name: name, cmd: exec.Command(command[0], command[1:]...), lines: make(chan []byte, 1), errors: &tail{}}
	c.cmd.Stderr, c.cmd.WaitDelay = c.errors, childGrace
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.in = in
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", name, err)
	}
	go func() {
		defer close(c.lines)
		for s := lineScanner(out); s.Scan(); {
			c.lines <- bytes.Clone(s.Bytes())
		}
	}()
	return c, nil
}

func lineScanner(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	return s
}

// stop ends the process, gently and then not.
func (c *child) stop() {
	if c == nil {
		return // it was never started
	}
	c.ended.Do(func() {
		c.in.Close()
		kill := time.AfterFunc(childGrace, func() { c.cmd.Process.Kill() })
		defer kill.Stop()
		for range c.lines { // or Wait could cut off what it still writes
		}
		c.cmd.Wait()
	})
}

func (c *child) ask(ctx context.Context, q question) (answer, error) {
	return c.follow(ctx, q, func(uint64) {})
}

// follow asks, and tells progress how far the answer is.
func (c *child) follow(ctx context.Context, q question, progress func(uint64)) (answer, error) {
	a, err := c.exchange(ctx, q, progress)
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		return a, fmt.Errorf("%s: %w", c.name, err)
	}
	return a, nil
}

func (c *child) exchange(ctx context.Context, q question, progress func(uint64)) (a answer, err error) {
	line, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return a, c.gone(err)
	}
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				return a, c.gone(io.ErrUnexpectedEOF)
			}
			a = answer{}
			if err := json.Unmarshal(line, &a); err != nil {
				return a, fmt.Errorf("answer %.200q: %w", line, err)
			}
			if a.Done == 0 {
				return a, nil
			}
			progress(a.Done)
		case <-ctx.Done():
			return a, ctx.Err()
		}
	}
}

// gone explains a process that has ended by what it said last.
func (c *child) gone(err error) error {
	c.stop() // so that it has said it
	if said := c.errors.String(); said != "" {
		return fmt.Errorf("it ended: %s", said)
	}
	return fmt.Errorf("it ended: %w", err)
}

// tail keeps the last words of a process.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const maxTail = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	t.b = t.b[max(0, len(t.b)-maxTail):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
