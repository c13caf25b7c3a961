//go:build !omit_demo && !omit_ledger

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"coinop.dev/cmd/coinop/page"
)

// killNode stops a node without letting it finish anything, the next one each time,
// and starts it again from its store.
func (g *grid) killNode(context.Context) error {
	g.mu.Lock()
	if g.phase != page.Paying {
		g.mu.Unlock()
		return errors.New("nothing is being paid")
	}
	if slices.ContainsFunc(g.nodes, func(n *gridNode) bool { return n.station == nil }) {
		g.mu.Unlock()
		return errors.New("a node is down already; it is on its way back")
	}
	i := gridNodes - 1 - g.turn%gridNodes
	g.turn++
	n := g.nodes[i]
	s := n.station
	n.station, n.shown.State = nil, page.Killed
	n.shown.Kills++
	g.mu.Unlock()
	s.Close()
	g.note(page.Warn, n.name+" is killed in the middle of its work")
	go func() {
		time.Sleep(2 * demoDown)
		g.mu.Lock()
		n.shown.State = page.Restarting
		over := g.phase == page.Settled || g.phase == page.Stopped
		g.mu.Unlock()
		if over {
			return
		}
		if err := g.startNode(i); err != nil {
			g.note(page.Warn, err.Error())
			return
		}
		g.note(page.Good, n.name+" is back, and asks the others for what it has missed")
	}()
	return nil
}

// toggleSplit cuts all cables between the two sides, or mends them.
func (g *grid) toggleSplit(context.Context) error {
	g.mu.Lock()
	if g.phase != page.Paying {
		g.mu.Unlock()
		return errors.New("nothing is being paid")
	}
	g.split = !g.split
	down := g.split
	for j, row := range g.cables {
		for i, c := range row {
			if g.nodes[i].shown.Side != g.nodes[j].shown.Side {
				c.cut(down)
			}
		}
	}
	g.mu.Unlock()
	if down {
		g.note(page.Warn, "the network is partitioned: two nodes do not hear the other two")
	} else {
		g.note(page.Good, "the network is whole again")
	}
	return nil
}

// spendTwice has the buyer's key sign two payments of the same money.
func (g *grid) spendTwice(ctx context.Context) error {
	g.mu.Lock()
	var up []int
	for i, n := range g.nodes {
		if n.station != nil {
			up = append(up, i)
		}
	}
	switch {
	case g.phase != page.Paying:
		g.mu.Unlock()
		return errors.New("nothing is being paid")
	case g.deciding:
		g.mu.Unlock()
		return errors.New("the nodes have not decided about the last two yet")
	case len(up) < 2 || (g.network.Doubles+1)*gridDouble > gridSecond:
		g.mu.Unlock()
		return errors.New("it takes two nodes that run, and money that is not spent")
	}
	g.deciding = true
	g.mu.Unlock()
	return g.ledger.double(ctx, up[0], up[len(up)-1])
}

// doubled begins to tell of a double spend; decided is told who is paid and how many
// nodes say so, and ends it when all do.
func (g *grid) doubled(last page.Double) {
	g.mu.Lock()
	g.network.Doubles++
	g.network.Last = &last
	g.mu.Unlock()
	g.note(page.Warn, fmt.Sprintf("the %s signs two payments of the same money: %s is told that %s is paid, %s that %s is", g.buyer.name, last.NodeA, last.A, last.NodeB, last.B))
}

func (g *grid) decided(who string, nodes int) {
	g.mu.Lock()
	first := g.network.Last.Wins == "" && who != ""
	g.network.Last.Wins, g.network.Last.Nodes = who, nodes
	g.mu.Unlock()
	if first {
		g.note(page.Good, fmt.Sprintf("%s is paid, and the other payment never was", who))
	}
}

// await asks after each pause how many nodes have decided, until all have: while the
// network is in parts that takes as long as it takes.
func (g *grid) await(ask func(ctx context.Context) (who string, nodes int)) {
	defer func() {
		g.mu.Lock()
		g.deciding = false
		g.mu.Unlock()
	}()
	for ; ; time.Sleep(gridQuiet) {
		who, nodes := ask(context.Background())
		if who != "" {
			g.decided(who, nodes)
		}
		g.mu.Lock()
		over := g.phase == page.Settled || g.phase == page.Stopped
		g.mu.Unlock()
		if nodes == gridNodes || over {
			return
		}
	}
}
