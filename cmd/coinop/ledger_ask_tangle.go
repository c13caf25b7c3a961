//go:build !omit_ledger

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/money"
	"coinop.dev/engine/tangle/rest"
	"coinop.dev/rail/iotarail"
)

// A tangleView is what people want to know of a node.
type tangleView struct {
	Ledger    string  `json:"ledger"`
	Network   string  `json:"network"`
	Healthy   bool    `json:"healthy"`
	Milestone uint32  `json:"milestone"`
	At        uint32  `json:"milestone_at_s"`
	Pruned    uint32  `json:"pruned_to"`
	PerSecond float64 `json:"blocks_per_s"`
	Confirmed float64 `json:"confirmed_percent"`
	Score     int     `json:"min_pow_score"`
}

func (v tangleView) text(w io.Writer) {
	fmt.Fprintf(w, "tangle    %s\nhealthy   %v\nmilestone %d, at %s\nblocks    %.1f a second, %.0f %% of them confirmed\n",
		v.Network, v.Healthy, v.Milestone, time.Unix(int64(v.At), 0).Format(time.RFC3339), v.PerSecond, v.Confirmed)
}

// tangleStatus asks a node's REST; false if there is none at that address.
func tangleStatus(ctx context.Context, at string) (v tangleView, ok bool, err error) {
	c := rest.Client{URL: at}
	raw, err := c.Do(ctx, http.MethodGet, "/api/core/v2/info", "", nil)
	if err != nil {
		return v, false, nil // a lattice's, or nothing: asking that will tell
	}
	var info struct {
		Status struct {
			Healthy bool `json:"isHealthy"`
			Latest  struct {
				Index uint32 `json:"index"`
				Time  uint32 `json:"timestamp"`
			} `json:"confirmedMilestone"`
			Pruned uint32 `json:"pruningIndex"`
		} `json:"status"`
		Protocol struct {
			Network string `json:"networkName"`
			Score   int    `json:"minPowScore"`
		} `json:"protocol"`
		Metrics struct {
			PerSecond float64 `json:"blocksPerSecond"`
			Rate      float64 `json:"referencedRate"`
		} `json:"metrics"`
	}
	if json.Unmarshal(raw, &info) != nil || info.Protocol.Network == "" {
		return v, false, nil
	}
	return tangleView{
		Ledger: "tangle", Network: info.Protocol.Network, Healthy: info.Status.Healthy, Milestone: info.Status.Latest.Index, At: info.Status.Latest.Time,
		Pruned: info.Status.Pruned, PerSecond: info.Metrics.PerSecond, Confirmed: info.Metrics.Rate, Score: info.Protocol.Score,
	}, true, nil
}

// tangle pays from the address of the network's folder.
func (f *doorFaucet) tangle(ctx context.Context, to string, amount money.Amount) (g gift, err error) {
	network, err := iotarail.ReadNetwork(filepath.Join(f.dir, networkFile))
	if err != nil {
		return g, err
	}
	address, err := tangle.ParseAddress(network.HRP, to)
	if err != nil {
		return g, usage{err}
	}
	key, err := f.secret(eddsa.SHA512)
	if err != nil {
		return g, err
	}
	if f.at == "" {
		c, err := f.node1()
		if err != nil {
			return g, err
		}
		f.at = "http://" + c.Ledger.Tangle.HTTP
	}
	client := rest.Client{URL: f.at}
	state, err := client.State(ctx, network.HRP, tangle.NewAddress(key.Public()))
	if err != nil {
		return g, exit{err, exitConnect}
	}
	t, err := tangleGift(network, key, state.Unspent, tangle.BasicOutput{Amount: uint64(amount), Address: address})
	if err != nil {
		return g, err
	}
	if _, err := client.Submit(ctx, network, t); err != nil {
		return g, err
	}
	id := t.ID()
	g = gift{To: to, Amount: amount, ID: id.String()}
	for {
		_, err := client.Final(ctx, id)
		if err == nil {
			return g, nil
		}
		if !errors.Is(err, node.ErrNotApplied) && ctx.Err() == nil {
			return g, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return g, &money.Error{Kind: money.Pending, Op: "faucet", Err: fmt.Errorf("no milestone has applied transaction %v: do enough coordinators run? %w", id, ctx.Err())}
		}
	}
}

// tangleGift pays outputs from what an address has, and the rest back to it.
func tangleGift(n *tangle.Network, from tangle.Signer, unspent []tangle.Unspent, to ...tangle.BasicOutput) (*tangle.Transaction, error) {
	due := uint64(0)
	for _, out := range to {
		due += out.Amount
	}
	var inputs []tangle.OutputID
	var spent []tangle.BasicOutput
	sum := uint64(0)
	self := tangle.NewAddress(from.Public())
	for _, u := range unspent {
		if sum >= due || len(inputs) == tangle.MaxInputs {
			break
		}
		inputs, spent = append(inputs, u.ID), append(spent, tangle.BasicOutput{Amount: u.Amount, Address: self})
		sum += u.Amount
	}
	if sum < due || due == 0 {
		return nil, &money.Error{Kind: money.Refused, Op: "faucet", Err: fmt.Errorf("%v are more than the %v that can be spent now", money.Amount(due), money.Amount(sum))}
	}
	if rest := sum - due; rest > 0 {
		to = append(to, tangle.BasicOutput{Amount: rest, Address: self})
	}
	e, err := tangle.NewEssence(n, inputs, spent, to, nil)
	if err != nil {
		return nil, err
	}
	return e.Sign(spent, from)
}
