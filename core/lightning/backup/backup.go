// Package backup is the static channel backup: what must survive, beside the
// node's key, so that no money is lost with the database. It holds nothing of
// what moves, so it changes only when a channel opens or is over, and an old
// backup is harmless: whoever restores one publishes nothing, asks the peers to
// close, and takes its balance from their commitments, which pay it to a key
// that never changes (option_static_remotekey).
//
// What is lost all the same: HTLCs that hang in a channel at the moment, and the
// balance if a peer never closes, or closes with an old commitment that we cannot
// prove to be one.
//
// Sealed, a backup is
//
//	u8 version | u64 change | 24 bytes nonce | XChaCha20-Poly1305 of the rest
//
// big-endian. The change number is in clear so that anybody who keeps backups can
// tell the newest; it is authenticated with all the rest. Key and nonce come from
// the node's key, the nonce from what is sealed as well, so that sealing needs no
// randomness and a nonce never serves two contents.
package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/btcsuite/btcd/chainhash/v2"
	"golang.org/x/crypto/chacha20poly1305"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
)

// Limits, and sizes in bytes.
const (
	// MaxChannels is what one backup holds: all that a node has.
	MaxChannels = 1024
	// MaxAddress is the longest address: a DNS name, a colon and a port.
	MaxAddress = 255 + 6
	// MaxPayout bounds a payout script.
	MaxPayout = 64
	// MaxSize bounds a sealed backup. A channel takes at most maxChannel.
	MaxSize = 1 << 20

	version    = 1
	headerSize = 1 + 8
	// Overhead is what sealing adds, at most.
	Overhead   = headerSize + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead + binary.MaxVarintLen32
	maxChannel = 760
	maxSats    = 21_000_000 * 100_000_000
)

// MaxChannels channels fit.
const _ = uint(MaxSize - MaxChannels*maxChannel - 128 - Overhead)

// Outlet is where a node sends each new backup, as a Copy.
const Outlet = "backup"

// A Copy is a sealed backup on its way to where it is kept.
type Copy struct {
	Sealed []byte
	// From is the peer that returned it, because it is newer than ours: the
	// database is not the newest. Empty for our own.
	From string
}

// A Channel is what gets the money of one channel back.
type Channel struct {
	Index   uint64 // the channel's secrets derive from the node's key and it
	Peer    keys.Public
	Address string // host:port where the peer was last reached, if known
	// Commit has no basepoints of ours: they derive from the node's key. Check
	// tells whether they still come out the same.
	Commit commit.Channel
	Check  [8]byte
	Payout []byte // the script that a closing pays us to
}

// Check is the fingerprint of our basepoints.
func Check(p commit.Basepoints) (sum [8]byte) {
	d := keys.Digest("coinop/ln/backup", p.Funding[:], p.Revocation[:], p.Payment[:], p.Delayed[:], p.HTLC[:])
	return [8]byte(d[:8])
}

// Point is where the channel's money is: "txid:vout".
func (c *Channel) Point() string { return c.Commit.Funding.String() }

// A Backup is all of a node's channels at one moment.
type Backup struct {
	// Change counts a node's backups: of two, the higher is newer.
	Change uint64
	// Generation is the start of the machine that made it (world/generation), 0
	// if it does not count.
	Generation uint64
	Chain      chainhash.Hash // genesis block
	// Next is an index above that of every channel that ever was.
	Next uint64
	// Mark is what Sum gave of the whole backup. Two backups with one number and
	// different marks come from two databases that were one.
	Mark [8]byte
	// Part says that channels were left out to fit a size.
	Part     bool
	Channels []Channel // by index
}

// Sum is a fingerprint of everything but Change, Mark and Part.
func (b *Backup) Sum() [8]byte {
	bare := *b
	bare.Change, bare.Mark, bare.Part = 0, [8]byte{}, false
	d := keys.Digest("coinop/ln/backup/mark", bare.Append(nil))
	return [8]byte(d[:8])
}

// Append writes what Read reads.
func (b *Backup) Append(to []byte) []byte {
	to = codec.AppendUint(to, b.Change)
	to = codec.AppendUint(to, b.Generation)
	to = append(to, b.Chain[:]...)
	to = codec.AppendUint(to, b.Next)
	to = append(to, b.Mark[:]...)
	part := byte(0)
	if b.Part {
		part = 1
	}
	to = codec.AppendUint(append(to, part), len(b.Channels))
	for i := range b.Channels {
		to = b.Channels[i].append(to)
	}
	return to
}

// Read reads a backup that is not sealed. Channels come by ascending index.
func Read(raw []byte) (*Backup, error) {
	r := codec.NewReader(raw)
	b := &Backup{Change: r.Uvarint(), Generation: r.Uvarint()}
	r.Fill(b.Chain[:])
	b.Next = r.Uvarint()
	r.Fill(b.Mark[:])
	b.Part = r.Int(1, "flag") == 1
	for range r.Int(MaxChannels, "number of channels") {
		c := readChannel(r)
		if n := len(b.Channels); n > 0 && c.Index <= b.Channels[n-1].Index {
			r.Fail(fmt.Errorf("channel %d follows channel %d", c.Index, b.Channels[n-1].Index))
		}
		if r.Err() != nil {
			break
		}
		b.Channels = append(b.Channels, c)
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	return b, nil
}

func points(p *commit.Basepoints) [5]*keys.Public {
	return [...]*keys.Public{&p.Funding, &p.Revocation, &p.Payment, &p.Delayed, &p.HTLC}
}

func (c *Channel) append(b []byte) []byte {
	k := &c.Commit
	b = codec.AppendUint(b, c.Index)
	b = append(b, c.Peer[:]...)
	b = codec.AppendBytes(b, c.Address)
	b = append(b, byte(k.Type), byte(k.Opener))
	b = append(b, k.Funding.Hash[:]...)
	b = codec.AppendUint(b, k.Funding.Index)
	b = codec.AppendUint(b, k.Capacity)
	for _, p := range points(&k.Remote.Basepoints) {
		b = append(b, p[:]...)
	}
	for _, p := range [...]*commit.Party{&k.Local, &k.Remote} {
		b = codec.AppendUint(b, p.Dust)
		b = codec.AppendUint(b, uint32(p.Delay))
	}
	b = append(b, c.Check[:]...)
	return codec.AppendBytes(b, c.Payout)
}

func readChannel(r *codec.Reader) (c Channel) {
	k := &c.Commit
	c.Index = r.Uvarint()
	r.Fill(c.Peer[:])
	c.Address = r.String(MaxAddress, "address")
	k.Type = commit.Type(r.Int(int(commit.Anchors), "channel type"))
	k.Opener = commit.Owner(r.Int(int(commit.Remote), "opener"))
	r.Fill(k.Funding.Hash[:])
	k.Funding.Index = uint32(r.Int(math.MaxUint16, "output index"))
	k.Capacity = int64(r.Uint(maxSats, "capacity"))
	for _, p := range points(&k.Remote.Basepoints) {
		r.Fill(p[:])
	}
	for _, p := range [...]*commit.Party{&k.Local, &k.Remote} {
		p.Dust = int64(r.Uint(maxSats, "dust limit"))
		p.Delay = uint16(r.Int(math.MaxUint16, "delay"))
	}
	r.Fill(c.Check[:])
	c.Payout = r.Bytes(MaxPayout, "payout script")
	return c
}

// Fit is b with as many channels as can be sealed in limit bytes, from the one at
// place first on, in a circle: different places for different keepers let them
// keep all of it together.
func (b *Backup) Fit(limit, first int) *Backup {
	part := *b
	part.Channels = nil
	size := len(part.Append(nil)) + 1 + Overhead // the count may take a byte more
	take := make([]bool, len(b.Channels))
	for i := range b.Channels {
		at := (first + i) % len(b.Channels)
		size += len(b.Channels[at].append(nil))
		take[at] = size <= limit
		part.Part = part.Part || !take[at]
	}
	for i, c := range b.Channels {
		if take[i] {
			part.Channels = append(part.Channels, c)
		}
	}
	return &part
}

// sealer is the key of a node's backups, and what nonces come from.
func sealer(node keys.Secret) (key keys.Secret, nonces keys.Secret) {
	return node.Derive("lightning/backup"), node.Derive("lightning/backup/nonce")
}

// Seal encrypts a backup for the holder of the node's key. The result has at
// least size bytes, so that who keeps it does not see how much is inside; 0 for no
// more than it takes. It is never more than MaxSize.
func (b *Backup) Seal(node keys.Secret, size int) []byte {
	body := b.Append(nil)
	plain := append(codec.AppendUint(nil, len(body)), body...)
	if short := size - headerSize - chacha20poly1305.NonceSizeX - chacha20poly1305.Overhead - len(plain); short > 0 {
		plain = append(plain, make([]byte, short)...)
	}
	sealed := binary.BigEndian.AppendUint64([]byte{version}, b.Change)
	secret, nonces := sealer(node)
	sum := keys.Digest("coinop/ln/backup/nonce", sealed, plain)
	nonce := nonces.MAC("lightning/backup", sum[:])
	aead, err := chacha20poly1305.NewX(secret.Reveal())
	if err != nil {
		panic(err) // a secret has 32 bytes
	}
	header := sealed
	sealed = append(sealed, nonce[:chacha20poly1305.NonceSizeX]...)
	return aead.Seal(sealed, nonce[:chacha20poly1305.NonceSizeX], plain, header)
}

// Errors of Open.
var (
	// ErrForeign means that the bytes are not what this node sealed: they are
	// damaged, or another key's.
	ErrForeign = errors.New("backup is damaged, or was made with another key")
	// ErrNewer means that a newer coinop made it.
	ErrNewer = errors.New("backup was made by a newer coinop")
)

// Change reads the number of a sealed backup, which anybody may have changed.
func Change(sealed []byte) (uint64, error) {
	switch {
	case len(sealed) < headerSize+chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead:
		return 0, fmt.Errorf("%w: it is cut short at %d bytes", ErrForeign, len(sealed))
	case len(sealed) > MaxSize:
		return 0, fmt.Errorf("%w: it is %d bytes; the limit is %d", ErrForeign, len(sealed), MaxSize)
	case sealed[0] == 0:
		return 0, fmt.Errorf("%w: it does not begin with a version", ErrForeign)
	case sealed[0] > version:
		return 0, fmt.Errorf("%w: it has version %d and this build reads up to %d", ErrNewer, sealed[0], version)
	}
	return binary.BigEndian.Uint64(sealed[1:]), nil
}

// Open reads what Seal made with the same key.
func Open(node keys.Secret, sealed []byte) (*Backup, error) {
	change, err := Change(sealed)
	if err != nil {
		return nil, err
	}
	secret, _ := sealer(node)
	aead, err := chacha20poly1305.NewX(secret.Reveal())
	if err != nil {
		panic(err)
	}
	nonce, rest := sealed[headerSize:headerSize+chacha20poly1305.NonceSizeX], sealed[headerSize+chacha20poly1305.NonceSizeX:]
	plain, err := aead.Open(nil, nonce, rest, sealed[:headerSize])
	if err != nil {
		return nil, ErrForeign
	}
	r := codec.NewReader(plain)
	body := r.Take(r.Int(MaxSize, "size"))
	if r.Err() != nil {
		return nil, fmt.Errorf("backup: %w", r.Err())
	}
	b, err := Read(body)
	if err == nil && b.Change != change {
		err = fmt.Errorf("%w: it says change %d outside and %d inside", ErrForeign, change, b.Change)
	}
	return b, err
}
