//go:build !omit_demo

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"coinop.dev/cmd/coinop/page"
)

// The buttons.

func (d *demo) actions() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"link":        d.toggleLink,
		"kill-buyer":  func(context.Context) error { return d.kill(&d.buyer) },
		"kill-seller": func(context.Context) error { return d.kill(&d.seller) },
		"mine":        d.mine,
		"reorg":       d.reorg,
	}
}

func (d *demo) toggleLink(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seller.station == nil || d.buyer.station == nil {
		return errors.New("a machine is down; wait until it is back")
	}
	d.linkDown = !d.linkDown
	d.buyer.station.machine.Cut(d.seller.station.key.Public(), d.linkDown)
	text, level := "the link is cut; the seller waits, and nothing is lost", page.Warn
	if !d.linkDown {
		text, level = "the link is mended; both say again what the other may have missed", page.Good
	}
	d.events = append(d.events, page.Event{AtMs: d.sinceMs(), Level: level, Text: text})
	return nil
}

// kill stops a machine without letting it finish anything, and starts it again
// from its store.
func (d *demo) kill(m *demoMachine) error {
	d.mu.Lock()
	s := m.station
	if s == nil || d.phase != page.Paying {
		d.mu.Unlock()
		return errors.New("the " + m.name + " is not running")
	}
	m.station, m.state, m.kills, d.linkDown = nil, page.Killed, m.kills+1, false
	d.mu.Unlock()
	s.close()
	d.note(page.Warn, "the "+m.name+" is killed in the middle of its work")
	go func() {
		time.Sleep(demoDown)
		d.mu.Lock()
		m.state = page.Restarting
		d.mu.Unlock()
		if err := d.start(m); err != nil {
			d.note(page.Warn, "the "+m.name+" does not start: "+err.Error())
			return
		}
		d.note(page.Good, "the "+m.name+" is back, and goes on from its own disk")
	}()
	return nil
}

func (d *demo) mine(context.Context) error {
	if _, err := d.node.Mine(1); err != nil {
		return err
	}
	d.note(page.Info, "a block is mined")
	return nil
}

// reorg undoes the block with the channel's funding, if it is not too deep: the
// seller then waits until it is mined again.
func (d *demo) reorg(ctx context.Context) error {
	s, err := d.node.Status(ctx, d.channel.Watched())
	if err != nil {
		return err
	}
	depth := int(min(max(s.Depth, 1), 20))
	if err := d.node.Reorg(depth); err != nil {
		return err
	}
	d.note(page.Warn, fmt.Sprintf("%d blocks are undone, and the channel's funding with them; no ticket is taken until it is back", depth))
	time.AfterFunc(2*time.Second, func() {
		if _, err := d.node.Mine(1); err == nil {
			d.note(page.Good, "the funding is mined again")
		}
	})
	return nil
}
