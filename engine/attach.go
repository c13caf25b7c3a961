package engine

import (
	"fmt"

	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/step"
)

// MaxAttached bounds the peers that are attached.
const MaxAttached = 65_536

// attached is a peer whose messages come and go by somebody else's transport.
type attached struct{ send func(message.Message) }

// Attach lets a transport that has authenticated node carry messages to and from
// it: a broker's topic, a serial line. It costs no goroutine, and cores are not
// told of links, so only protocols that say again what is outstanding by
// themselves may use it: the channels, trade, the fleet. Lightning may not.
//
// send is called on the host's goroutine and must not block; what it cannot take
// is lost, as on any network. receive blocks while the machine is busy, which is
// how a transport is slowed. A connection of the engine's own goes before an
// attached one; of two attached ones the later goes before the earlier, whose
// detach then does nothing.
func (m *Machine) Attach(node keys.Public, send func(message.Message)) (receive func(message.Message), detach func(), err error) {
	m.mu.Lock()
	full := m.attached >= MaxAttached
	m.mu.Unlock()
	if full {
		return nil, nil, fmt.Errorf("peer %s: all %d places for attached peers are taken", node, MaxAttached)
	}
	mine, first := &attached{send}, false
	p, _ := m.hold(node, false, func(p *peer) { first, p.passive = p.passive == nil, mine })
	if first {
		m.countAttached(1)
	}
	receive = func(msg message.Message) {
		if m.takenByDoor(node, msg) {
			return
		}
		if core := msg.Core(); core != "" {
			m.Host.Tell(m.ctx, core, step.Recv{From: node.PeerName(), Msg: msg})
		}
	}
	detach = func() {
		p.mu.Lock()
		last := p.passive == mine
		if last {
			p.passive = nil
		}
		p.mu.Unlock()
		if last {
			m.countAttached(-1)
			m.forget(p)
		}
	}
	return receive, detach, nil
}

func (m *Machine) countAttached(by int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attached += by
}
