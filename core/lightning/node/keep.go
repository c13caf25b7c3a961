package node

import (
	"bytes"
	"fmt"

	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/step"
)

// handBack returns what a peer gave us to keep, before anything is said of
// channels (BOLT 1).
func (n *Node) handBack(p *peer) {
	if k := n.backups.kept[p.name]; k != nil {
		n.say(p, &wire.PeerStorageRetrieval{Blob: k.blob})
	}
}

// keep takes a peer's blob in place of the one before.
func (n *Node) keep(p *peer, m *wire.PeerStorage) {
	b, k := &n.backups, n.backups.kept[p.name]
	if !n.shares(p) || k != nil && bytes.Equal(k.blob, m.Blob) {
		return
	}
	if len(m.Blob) == 0 {
		n.dropKept(p.name)
		return
	}
	size := len(m.Blob)
	if k != nil {
		size -= len(k.blob)
	}
	if size > 0 && b.size+size > MaxKept {
		n.forgetKept()
	}
	if size > 0 && b.size+size > MaxKept {
		n.warn(p, wire.ChannelID{}, fmt.Sprintf("no room for your peer_storage: %d bytes are kept for others; the limit is %d", b.size, MaxKept))
		return
	}
	if k == nil {
		k = &kept{at: n.at - keepEvery}
		b.kept[p.name] = k
	}
	k.blob = m.Blob
	b.size += size
	switch {
	case n.at-k.at >= keepEvery:
		n.save(p.name, k)
	case !k.waiting:
		k.waiting = true
		n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarmKeep, At: k.at + keepEvery})
	}
}

func (n *Node) save(name string, k *kept) {
	k.at, k.waiting, k.saved = n.at, false, k.blob
	n.fx.Put = append(n.fx.Put, keptRecord(name, k.blob))
}

// saveKept writes the blobs whose time has come.
func (n *Node) saveKept() {
	for _, name := range sortedKeys(n.backups.kept) {
		k := n.backups.kept[name]
		switch {
		case !k.waiting:
		case n.at-k.at >= keepEvery:
			n.save(name, k)
		default:
			n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarmKeep, At: k.at + keepEvery})
		}
	}
}

// forgetKept makes room: it drops the blobs of peers whose channels are over.
func (n *Node) forgetKept() {
	b := &n.backups
	for _, name := range sortedKeys(b.kept) {
		if p := n.peers[name]; p == nil || !n.shares(p) {
			n.dropKept(name)
		}
	}
}

func (n *Node) dropKept(name string) {
	if k := n.backups.kept[name]; k != nil {
		n.backups.size -= len(k.blob)
		delete(n.backups.kept, name)
		n.fx.Put = append(n.fx.Put, keptRecord(name, nil))
	}
}
