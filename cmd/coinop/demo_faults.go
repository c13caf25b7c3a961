//go:build !omit_demo

package main

import (
	"context"
	"errors"
	"maps"
	"time"

	"coinop.dev/cmd/coinop/page"
)

// The buttons.

func (d *demo) actions() map[string]func(context.Context) error {
	all := map[string]func(context.Context) error{
		"link":        d.toggleLink,
		"kill-buyer":  func(context.Context) error { return d.kill(&d.buyer) },
		"kill-seller": func(context.Context) error { return d.kill(&d.seller) },
	}
	maps.Copy(all, d.course.actions())
	return all
}

func (d *demo) toggleLink(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.phase != page.Paying || d.paused || d.down() {
		return errors.New("not all machines are paying; wait a moment")
	}
	d.linkDown = !d.linkDown
	d.cut(d.linkDown)
	text, level := "the link is cut; the "+d.seller.name+" waits, and nothing is lost", page.Warn
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
	if s == nil || d.phase != page.Paying || d.paused {
		d.mu.Unlock()
		return errors.New("the " + m.name + " is not paying; wait a moment")
	}
	if d.linkDown { // whoever comes back must be let in
		d.cut(false)
	}
	end := m.end
	m.station, m.state, m.kills, d.linkDown = nil, page.Killed, m.kills+1, false
	d.mu.Unlock()
	s.Close()
	end()
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
