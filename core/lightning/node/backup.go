package node

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/backup"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
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

// Kept brings the backup that was kept outside of the database, when the machine
// starts and before it connects to anybody: it may be newer than the database.
type Kept struct{ Sealed []byte }

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

// An Outdated is the outcome, with OutdatedID, of a backup that this database has
// never made. Its error says so, too.
type Outdated struct {
	From            string // "peer/…", or empty for the owner's own copy
	Ours, Newest    uint64 // changes
	Start, NewStart uint64 // generations
	Restored        int    // channels that this database did not know
}

func (o Outdated) Error() string {
	where := "the backup file"
	if o.From != "" {
		where = o.From
	}
	return fmt.Sprintf("the database is an old copy: it is at change %d of start %d, and %s has change %d of start %d; all channels wait for their peers to close them", o.Ours, o.Start, where, o.Newest, o.NewStart)
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
	return err
}

// GiveUp is what to write to a database that may be an old copy, before a node is
// loaded from it: all channels are Stale, for good.
func GiveUp(disk step.Reader, key keys.Secret) ([]step.Record, error) {
	n, err := Load(disk, key, Config{})
	if err != nil {
		return nil, err
	}
	var fx step.Effects
	n.fx = &fx
	n.doubt("the database may be an old copy; the peer must close")
	for _, c := range n.touched {
		c.Flush()
	}
	return append(fx.Put, n.head()), nil
}

// doubt makes every channel Stale that could still change.
func (n *Node) doubt(why string) {
	n.next += skip
	n.changed = true
	for _, c := range n.ordered() {
		n.touch(c)
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
	size := wire.MaxBlob // all of one size (BOLT 1)
	if p.small {
		size = smallBlob
	}
	n.say(p, &wire.PeerStorage{Blob: b.last.Fit(size, first).Seal(n.key, size)})
}

// smallBlob is what LDK keeps, in bytes, where BOLT 1 allows wire.MaxBlob.
const smallBlob = 1024

// handOverLess tries a smaller backup, once, when a peer that was handed one
// complains of something that is no channel's.
func (n *Node) handOverLess(p *peer, m *wire.Warning) {
	if m.ChannelID == (wire.ChannelID{}) && p.keeps != 0 && !p.small {
		p.small, p.keeps = true, 0
		n.handOver(p)
	}
}

// shares reports whether a peer has a channel with us that is not over.
func (n *Node) shares(p *peer) bool {
	return slices.ContainsFunc(n.with(p), func(c *chanState) bool { return c.Status() != channel.Closed })
}

// handedBack looks at the blob that a peer has kept for us.
func (n *Node) handedBack(p *peer, m *wire.PeerStorageRetrieval) {
	b, err := n.judge(p.name, m.Blob)
	if err != nil {
		n.warn(p, wire.ChannelID{}, "peer_storage_retrieval is not what we gave you")
	} else if last := n.backups.last; last != nil && b.Change == last.Change && b.Mark == last.Mark {
		p.keeps = b.Change // it has the newest already
	}
	n.handOver(p)
}

// judge compares this database with a backup that is kept elsewhere. The error is
// of a backup that is not ours.
func (n *Node) judge(from string, sealed []byte) (*backup.Backup, error) {
	b, err := backup.Open(n.key, sealed)
	if err != nil || b.Chain != n.Chain || !n.fromAnother(b) {
		return b, err
	}
	o := Outdated{From: from, Ours: n.backups.change, Newest: b.Change, Start: n.Generation, NewStart: b.Generation}
	if from != "" {
		n.fx.Send = append(n.fx.Send, step.Packet{To: backup.Outlet, Msg: backup.Copy{Sealed: sealed, From: from}})
	}
	n.doubt("the database is older than a backup of it; the peer must close")
	o.Restored, err = n.adopt(b)
	n.fx.Done = append(n.fx.Done, step.Outcome{ID: OutdatedID, Value: o, Err: &money.Error{Kind: money.Broken, Op: "start", Err: errors.Join(o, err)}})
	return b, nil
}

// fromAnother reports whether a backup of this node's key was made by a database
// that is not this one, or by this one in a future that it has lost.
func (n *Node) fromAnother(b *backup.Backup) bool {
	mark, ok := n.backups.markOf(b.Change)
	return b.Change > n.backups.change || ok && mark != b.Mark
}

// restore is for a node that has lost everything else.
func (n *Node) restore(m Restore) {
	refuse := func(kind money.Kind, err error) { n.failed(RestoreID, kind, "restore", err) }
	b, err := backup.Open(n.key, m.Sealed)
	switch {
	case err != nil:
		refuse(money.Invalid, err)
	case b.Chain != n.Chain:
		refuse(money.Invalid, fmt.Errorf("the backup is of the chain with genesis block %v, and this node's has %v", b.Chain, n.Chain))
	case len(n.channels)+len(n.openings) > 0:
		refuse(money.Refused, fmt.Errorf("the node has %d channels; a backup is restored into an empty store", len(n.channels)+len(n.openings)))
	default:
		count, err := n.adopt(b)
		if count == 0 && err != nil {
			refuse(money.Invalid, err)
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

// Contacts are the peers that have a channel with us which is not over.
func (n *Node) Contacts() []Contact {
	return n.contacts(func(s channel.Status) bool { return s != channel.Closed })
}

// Stranded are the peers that must be found, because they are to close a channel
// that cannot be used any more.
func (n *Node) Stranded() []Contact {
	return n.contacts(func(s channel.Status) bool { return s == channel.Stale })
}

func (n *Node) contacts(which func(channel.Status) bool) (list []Contact) {
	seen := map[keys.Public]bool{}
	for _, c := range n.ordered() {
		if !seen[c.Peer] && which(c.Status()) {
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
