package node

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/backup"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/step"
)

// Whenever the set of channels changes, and at every start, the node makes a
// backup: a packet to the outlet backup.Outlet, and a blob that peers keep for us
// (BOLT 1, peer storage). Its number is on disk before it leaves. So a blob that
// nobody else can make, with a higher number than ours, or with one of ours and
// other contents, says that this database is an old copy, whatever else was
// rolled back with it: then every channel is Stale, and those that this database
// does not know are restored from the blob.
//
// In turn the node keeps a blob for each peer that it has a channel with.

// Limits of what is kept for peers.
const (
	// MaxKept bounds the bytes of all blobs: they are in memory.
	MaxKept = 4 << 20
	// keepEvery is how often the blob of one peer is written, at most. BOLT 1
	// allows a minute.
	keepEvery = step.Minute
	// skip is how many indices are left out when some may have been used that
	// nobody remembers: a channel with the secrets of another one can be robbed.
	skip = 1 << 16
)

// Restore makes channels out of a sealed backup, in a node that has none. The
// outcome with RestoreID is a Restored.
type Restore struct{ Sealed []byte }

// Reached says where a peer was found, for the backup and for Contacts.
type Reached struct {
	Peer    keys.Public
	Address string // host:port
}

// IDs of outcomes.
const (
	RestoreID  = "restore"
	OutdatedID = "outdated"
)

// A Restored says what came of a backup.
type Restored struct {
	Change   uint64
	Channels int
}

// An Outdated is the outcome, with OutdatedID, of a peer returning a backup that is
// newer than this database. Its error says so, too.
type Outdated struct {
	Peer            keys.Public
	Ours, Newest    uint64 // changes
	Start, NewStart uint64 // generations
	Restored        int    // channels that this database did not know
}

func (o Outdated) Error() string {
	return fmt.Sprintf("the database is an old copy: it is at change %d of start %d, and %s keeps change %d of start %d; all channels wait for their peers to close them", o.Ours, o.Start, o.Peer, o.Newest, o.NewStart)
}

// backups is what the node knows of backups, its own and its peers'.
type backups struct {
	change  uint64         // of the newest of ours
	marks   [][8]byte      // of the newest ones, the newest last
	last    *backup.Backup // the newest of ours, once this process has made one
	due     bool           // the next one is to be made in this step
	address map[keys.Public]string
	kept    map[string]*kept // blobs of peers, by the peer's name
	size    int              // of all blobs, in bytes
}

// kept is a blob of a peer's.
type kept struct {
	blob    []byte
	at      step.Time // when it was written
	waiting bool      // for the alarm: the blob is newer than what is on disk
	saved   []byte
}

func newBackups() backups {
	return backups{address: map[keys.Public]string{}, kept: map[string]*kept{}}
}

// maxMarks bounds the backups of ours that are remembered.
const maxMarks = 64

// markOf is the mark of our backup with a number, if that is remembered.
func (b *backups) markOf(change uint64) (mark [8]byte, ok bool) {
	if change > b.change || b.change-change >= uint64(len(b.marks)) {
		return mark, false
	}
	return b.marks[len(b.marks)-1-int(b.change-change)], true
}

// next numbers a backup, unless it is the last one again.
func (b *backups) next(mark [8]byte) {
	if last, ok := b.markOf(b.change); ok && last == mark {
		return
	}
	b.change++
	b.marks = append(b.marks, mark)
	b.marks = b.marks[max(0, len(b.marks)-maxMarks):]
}

// Records, see disk.go.
const (
	recBackups = "ln/k"
	recKept    = "ln/s/"
)

func (b *backups) head() step.Record {
	v := codec.AppendUint(nil, b.change)
	v = codec.AppendUint(v, len(b.marks))
	for _, mark := range b.marks {
		v = append(v, mark[:]...)
	}
	v = codec.AppendUint(v, len(b.address))
	for _, peer := range sortedPeers(b.address) {
		v = codec.AppendBytes(append(v, peer[:]...), b.address[peer])
	}
	return step.Record{Key: recBackups, Value: v}
}

func keptRecord(name string, blob []byte) step.Record {
	return step.Record{Key: recKept + strings.TrimPrefix(name, "peer/"), Value: blob}
}

func (b *backups) durable() (records []step.Record) {
	if b.change > 0 || len(b.address) > 0 {
		records = append(records, b.head())
	}
	for _, name := range sortedKeys(b.kept) {
		if k := b.kept[name]; k.saved != nil {
			records = append(records, keptRecord(name, k.saved))
		}
	}
	return records
}

func (n *Node) loadBackups(disk step.Reader) error {
	raw, err := disk.Get(recBackups)
	if err != nil {
		return err
	}
	b := &n.backups
	if raw != nil {
		r := codec.NewReader(raw)
		b.change = r.Uvarint()
		for range r.Int(maxMarks, "marks") {
			b.marks = append(b.marks, [8]byte{})
			r.Fill(b.marks[len(b.marks)-1][:])
		}
		for range r.Int(MaxPeers, "addresses") {
			var peer keys.Public
			r.Fill(peer[:])
			b.address[peer] = r.String(backup.MaxAddress, "address")
		}
		if err := r.Close(); err != nil {
			return fmt.Errorf("record %s: %w", recBackups, err)
		}
	}
	err = disk.Scan(recKept, func(key string, value []byte) bool {
		blob := bytes.Clone(value)
		b.kept["peer/"+strings.TrimPrefix(key, recKept)] = &kept{blob: blob, saved: blob}
		b.size += len(blob)
		return true
	})
	if n.Outdated {
		n.doubt("the database may be an old copy; the peer must close")
	}
	return err
}

// doubt makes every channel Stale. It is on disk at the end of the first step.
func (n *Node) doubt(why string) {
	n.next += skip
	n.changed = true
	for _, c := range n.ordered() {
		if n.fx != nil {
			n.touch(c)
		}
		c.Outdated(why)
	}
}

// contents is the backup of this moment.
func (n *Node) contents() *backup.Backup {
	b := &backup.Backup{Change: n.backups.change, Generation: n.Generation, Chain: n.Chain, Next: n.next}
	for _, c := range n.ordered() {
		b.Channels = append(b.Channels, c.Backup(n.backups.address[c.Peer]))
	}
	b.Mark = b.Sum()
	return b
}

// backUp makes a backup if one is due.
func (n *Node) backUp() {
	b := &n.backups
	if !b.due {
		return
	}
	b.due = false
	whole := n.contents()
	b.next(whole.Mark)
	whole.Change = b.change
	b.last = whole
	n.fx.Put = append(n.fx.Put, b.head())
	n.fx.Send = append(n.fx.Send, step.Packet{To: backup.Outlet, Msg: backup.Copy{Sealed: whole.Seal(n.key, 0)}})
	for _, name := range sortedKeys(n.peers) {
		if p := n.peers[name]; p.keeps != 0 {
			n.handOver(p)
		}
	}
}

// handOver gives our newest backup to a peer that keeps blobs and has a channel
// with us. It is called at the first message of such a peer that says that it has
// returned what it kept before.
func (n *Node) handOver(p *peer) {
	b := &n.backups
	if b.last == nil || p.keeps == b.change || !p.greeted || !p.features.Offers(wire.ProvideStorage) || !n.shares(p) {
		return
	}
	p.keeps = b.change
	first := 0
	if channels := len(b.last.Channels); channels > 0 {
		first = (int(p.key[1])<<8 | int(p.key[2])) % channels
	}
	blob := b.last.Fit(wire.MaxBlob, first).Seal(n.key, wire.MaxBlob) // all of one size (BOLT 1)
	n.say(p, &wire.PeerStorage{Blob: blob})
}

// shares reports whether a peer has a channel with us that is not over.
func (n *Node) shares(p *peer) bool {
	return slices.ContainsFunc(n.with(p), func(c *chanState) bool { return c.Status() != channel.Closed })
}

// handedBack looks at the blob that a peer has kept for us.
func (n *Node) handedBack(p *peer, m *wire.PeerStorageRetrieval) {
	b, err := backup.Open(n.key, m.Blob)
	ours := &n.backups
	switch {
	case err != nil:
		n.warn(p, wire.ChannelID{}, "peer_storage_retrieval is not what we gave you")
	case b.Chain == n.Chain && n.fromAnother(b):
		o := Outdated{Peer: p.key, Ours: ours.change, Newest: b.Change, Start: n.Generation, NewStart: b.Generation}
		n.fx.Send = append(n.fx.Send, step.Packet{To: backup.Outlet, Msg: backup.Copy{Sealed: m.Blob, From: p.name}})
		n.doubt(fmt.Sprintf("the database is older than the backup that %s keeps; the peer must close", p.key))
		o.Restored, err = n.adopt(b)
		n.fx.Done = append(n.fx.Done, step.Outcome{ID: OutdatedID, Value: o, Err: &coinop.Error{Kind: coinop.Broken, Op: "start", Err: errors.Join(o, err)}})
	}
	n.handOver(p)
}

// fromAnother reports whether a backup of this node's key was made by a database
// that is not this one, or by this one in a future that it has lost.
func (n *Node) fromAnother(b *backup.Backup) bool {
	mark, ok := n.backups.markOf(b.Change)
	return b.Change > n.backups.change || n.Generation > 0 && b.Generation > n.Generation || ok && mark != b.Mark
}

// restore is for a node that has lost everything else.
func (n *Node) restore(m Restore) {
	refuse := func(kind coinop.Kind, err error) { n.failed(RestoreID, kind, "restore", err) }
	b, err := backup.Open(n.key, m.Sealed)
	switch {
	case err != nil:
		refuse(coinop.Invalid, err)
	case b.Chain != n.Chain:
		refuse(coinop.Invalid, fmt.Errorf("the backup is of the chain with genesis block %v, and this node's has %v", b.Chain, n.Chain))
	case len(n.channels)+len(n.openings) > 0:
		refuse(coinop.Refused, fmt.Errorf("the node has %d channels; a backup is restored into an empty store", len(n.channels)+len(n.openings)))
	default:
		count, err := n.adopt(b)
		if count == 0 && err != nil {
			refuse(coinop.Invalid, err)
			return
		}
		n.fx.Done = append(n.fx.Done, step.Outcome{ID: RestoreID, Value: Restored{Change: b.Change, Channels: count}, Err: err})
	}
}

// adopt restores the channels of a backup that are not known here. The error is of
// those that cannot be.
func (n *Node) adopt(b *backup.Backup) (count int, err error) {
	n.next = max(n.next, b.Next) + skip
	n.backups.change, n.backups.marks = max(n.backups.change, b.Change), nil
	n.changed, n.backups.due = true, true
	for i := range b.Channels {
		k := &b.Channels[i]
		c, e := channel.Restore(k, n.secretOf(k.Index))
		switch {
		case e != nil:
		case n.byID[c.ID] != nil:
			continue
		case n.channels[k.Index] != nil:
			e = fmt.Errorf("channel %d of the backup is %s, and here it is %s", k.Index, k.Point(), n.channels[k.Index].Commit.Funding)
		case len(n.channels) >= MaxChannels:
			e = fmt.Errorf("channel %d of the backup is one too many; the limit is %d", k.Index, MaxChannels)
		}
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		count++
		if k.Address != "" {
			n.backups.address[k.Peer] = k.Address
		}
		s := n.add(c)
		n.touch(s)
		if s.peer.greeted {
			c.Linked(s.peer.link, false)
		}
		n.watch(s)
	}
	return count, err
}

// reached notes where a peer can be found.
func (n *Node) reached(m Reached) {
	b := &n.backups
	if b.address[m.Peer] == m.Address || len(m.Address) > backup.MaxAddress {
		return
	}
	if _, err := wire.ParseAddress(m.Address); err != nil {
		return
	}
	if b.address[m.Peer] == "" && len(b.address) >= MaxPeers {
		for peer := range b.address {
			if p := n.peers[peer.PeerName()]; p == nil || len(n.with(p)) == 0 {
				delete(b.address, peer)
			}
		}
	}
	if len(b.address) < MaxPeers {
		b.address[m.Peer] = m.Address
	}
	n.fx.Put = append(n.fx.Put, b.head())
	p := n.peers[m.Peer.PeerName()]
	b.due = b.due || p != nil && n.shares(p)
}

// A Contact is a peer that has a channel with us, and where it was last reached,
// if that is known.
type Contact struct {
	Peer    keys.Public
	Address string
}

// Contacts are the peers that whoever starts the node should connect to.
func (n *Node) Contacts() (list []Contact) {
	seen := map[keys.Public]bool{}
	for _, c := range n.ordered() {
		if !seen[c.Peer] && c.Status() != channel.Closed {
			seen[c.Peer] = true
			list = append(list, Contact{c.Peer, n.backups.address[c.Peer]})
		}
	}
	return list
}

func sortedPeers(m map[keys.Public]string) (list []keys.Public) {
	for peer := range m {
		list = append(list, peer)
	}
	slices.SortFunc(list, func(a, b keys.Public) int { return bytes.Compare(a[:], b[:]) })
	return list
}

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
