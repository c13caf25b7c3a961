package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/interop/peers"
	"coinop.dev/world/chain/regtest"
)

// childFlag makes this program a client, of the name that follows, or the
// server.
const (
	childFlag = "--child"
	server    = "server"
)

// A report is what a child says on its standard output, in lines: that it is
// synced, and what it found; or, of the server, the chain it serves.
type report struct {
	Stage string // synced, done
	Err   string `json:",omitempty"`
	Coins []string

	Addr    string
	Height  int32
	Hash    chainhash.Hash
	Scripts [][]byte `json:",omitempty"`
	Seconds float64  // to make the chain
}

// child is a process of this program's, that ends with its input.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// startChild runs one, with a task in JSON.
func startChild(ctx context.Context, name string, task any) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, exe, childFlag, name)}
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = json.NewDecoder(bufio.NewReader(out))
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if err := json.NewEncoder(c.in).Encode(task); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// hear waits for the next report.
func (c *child) hear() (r report, err error) {
	if err := c.out.Decode(&r); err != nil {
		return r, fmt.Errorf("the process has ended: %w", err)
	}
	if r.Err != "" {
		return r, errors.New(r.Err)
	}
	return r, nil
}

func (c *child) usage() peers.Usage { return peers.UsageOf(c.cmd.Process.Pid) }

func (c *child) stop() {
	c.in.Close()
	late := time.AfterFunc(10*time.Second, func() { c.cmd.Process.Kill() })
	defer late.Stop()
	c.cmd.Wait()
}

// serveChild is a child's side. It stays after its last report, so that its
// memory can be read, until its input ends.
func serveChild(name string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d, say := json.NewDecoder(in), json.NewEncoder(out)
	var last report
	var err error
	if name == server {
		var n *regtest.Node
		if n, last, err = serve(ctx, d); n != nil {
			defer n.Close()
		}
	} else {
		last, err = scan(ctx, name, d, say)
	}
	last.Stage = "done"
	if err != nil {
		last.Err = err.Error()
	}
	if err := say.Encode(last); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more on the standard input than a task: %w", err)
	}
	return nil
}

func scan(ctx context.Context, name string, in *json.Decoder, say *json.Encoder) (last report, err error) {
	var t Task
	if err := in.Decode(&t); err != nil {
		return last, err
	}
	last.Coins, err = clients[name](ctx, t, func() { say.Encode(report{Stage: "synced"}) })
	return last, err
}

// serve makes a chain and serves it, to who may ask as much as he likes.
func serve(ctx context.Context, in *json.Decoder) (n *regtest.Node, last report, err error) {
	var s Shape
	if err := in.Decode(&s); err != nil {
		return nil, last, err
	}
	n, err = regtest.Open(regtest.Options{Limits: regtest.Limits{Work: 1 << 30, MaxWork: 1 << 30}})
	if err != nil {
		return nil, last, err
	}
	began := time.Now()
	m, err := makeChain(ctx, n, s)
	if err != nil {
		return n, last, err
	}
	last.Seconds = time.Since(began).Seconds()
	last.Addr, last.Coins = n.Addr(), m.coins()
	last.Height, last.Hash, err = n.Tip(ctx)
	for i := range s.Scripts {
		last.Scripts = append(last.Scripts, s.script(i))
	}
	return n, last, err
}
