package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"coinop.dev/core/money"
	"coinop.dev/interop/peers"
	"coinop.dev/rail/lndrail/lnrpc"
)

// lndNetwork is two or three lnds on a btcd.
type lndNetwork struct {
	chain   *peers.Btcd
	nodes   []*peers.Lnd
	version string
	bills   []string
	hashes  [][]byte
}

func startLnd(ctx context.Context, s Setup) (_ Network, err error) {
	n := &lndNetwork{}
	defer func() {
		if err != nil {
			n.Stop()
		}
	}()
	home := func(name string) string {
		dir := filepath.Join(s.Home, name)
		err = errors.Join(err, os.MkdirAll(dir, 0o700))
		return dir
	}
	if n.chain, err = peers.StartBtcd(ctx, peers.BtcdOptions{Home: home("btcd")}); err != nil {
		return nil, err
	}
	if err := n.chain.Mine(1); err != nil { // lnd waits for a fresh block
		return nil, err
	}
	for i := range s.Hops + 1 {
		alias := string(rune('A' + i))
		node, err := peers.StartLnd(ctx, peers.LndOptions{Home: home(alias), Alias: alias, Chain: n.chain, Args: s.Args})
		if err != nil {
			return nil, err
		}
		n.nodes = append(n.nodes, node)
	}
	for i, node := range n.nodes[:s.Hops] {
		if err := node.Wallet(ctx, 2*s.CapacitySat, 2); err != nil {
			return nil, err
		}
		if _, err := node.OpenChannel(ctx, n.nodes[i+1], s.CapacitySat); err != nil {
			return nil, err
		}
	}
	payer := n.nodes[0]
	if err := payer.Routes(ctx, s.Hops); err != nil {
		return nil, err
	}
	i, err := payer.Lightning.GetInfo(ctx, &lnrpc.GetInfoRequest{})
	version, _, _ := strings.Cut(i.GetVersion(), " ")
	n.version = "lnd " + version
	return n, err
}

func (n *lndNetwork) Version() string { return n.version }

func (n *lndNetwork) Prepare(ctx context.Context, count int, amount money.Amount) error {
	n.bills, n.hashes = nil, nil
	for range count {
		bill, hash, err := n.nodes[len(n.nodes)-1].Bill(ctx, int64(amount))
		if err != nil {
			return err
		}
		n.bills, n.hashes = append(n.bills, bill), append(n.hashes, hash)
	}
	return nil
}

func (n *lndNetwork) Pay(ctx context.Context, i int) error {
	_, err := n.nodes[0].Pay(ctx, n.bills[i])
	return err
}

func (n *lndNetwork) Count(ctx context.Context) (paid int, err error) {
	for _, hash := range n.hashes {
		i, err := n.nodes[len(n.nodes)-1].Lightning.LookupInvoice(ctx, &lnrpc.PaymentHash{RHash: hash})
		if err != nil {
			return 0, fmt.Errorf("count: %w", err)
		}
		if i.State == lnrpc.Invoice_SETTLED {
			paid++
		}
	}
	return paid, nil
}

func (n *lndNetwork) Pids() (all []Node) {
	for _, node := range n.nodes {
		all = append(all, Node{node.Alias, node.Pid()})
	}
	return all
}

func (n *lndNetwork) Stop() {
	for _, node := range n.nodes {
		node.Stop()
	}
	if n.chain != nil {
		n.chain.Stop()
	}
}
