package regtest

import (
	"cmp"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain"
	"coinop.dev/world/chain/internal/peer"
)

const (
	// MaxPeers bounds the connections at once, strangers included. Each may
	// hold one block of 4 MB coming in and one going out.
	MaxPeers = 16

	// HandshakeTimeout is from connecting to the verack.
	HandshakeTimeout = 10 * time.Second

	// IdleTimeout is how long a peer may say nothing. It is pinged at half of
	// that, so only a dead one is lost.
	IdleTimeout = 2 * time.Minute

	// MessageTimeout is from a message's first byte to its last, either way: a
	// peer that trickles holds its place no longer than this.
	MessageTimeout = 30 * time.Second

	// Work is what a peer may have us do in a second, in units of WorkUnit, and
	// MaxWork what it may have saved up. Who asks for more waits; BIP 37 would
	// otherwise let a message of 100 bytes buy the reading of a whole chain.
	Work    = 5_000
	MaxWork = 20_000
)

// WorkUnit is about the processor time of one unit of Work.
const WorkUnit = 10 * time.Microsecond

// What one thing costs a peer, in units of Work, and what its size adds.
const (
	costMessage     = 1
	costTx          = 1  // finding a transaction
	costBlock       = 10 // reading a block from disk
	costMerkleBlock = 30 // the same, and making the proof
	costFilter      = 2
	costHeaders     = 20 // up to 2,000 headers or filter hashes
	costSubmitTx    = 10 // verifying scripts
	costSubmitBlock = 50

	bytesParsed = 2 << 10 // a unit's worth of messages, transactions and blocks, read or sent
	bytesCopied = 8 << 10 // of what is sent as it lies on disk

	// Holding data against a bloom filter takes some 10 ns for every hash
	// function, and 1 ns for every byte of the data.
	bytesHashed  = 10_000 // a unit's worth
	bytesPerHash = 10     // what a hash of nothing costs
)

const (
	// MaxReplies bounds the answers that wait to be sent to a peer; a full
	// queue keeps us from reading its next request.
	MaxReplies = 16

	// MaxNews bounds the announcements that wait to be sent to a peer. Who does
	// not read that many is disconnected.
	MaxNews = 1000

	// MaxWanted bounds the blocks a peer has announced that we mean to fetch:
	// one headers message.
	MaxWanted = wire.MaxBlockHeadersPerMsg

	// MaxInFlight bounds the blocks asked of a peer at once.
	MaxInFlight = 16

	// MaxAsked bounds the transactions asked of a peer at once.
	MaxAsked = 1000

	// MaxReason bounds the reason of a reject message in bytes: enough for the
	// two transaction ids that btcd's reasons start with, and the reason.
	MaxReason = 400

	// MaxStored bounds the blocks ever taken in, side branches included, and
	// chain.MaxBytes bounds their bytes: proof of work costs nothing here, so it
	// does not protect the disk.
	MaxStored = 2 * chain.MaxBlocks
)

// Limits on peers. A zero field means the constant of the same name.
type Limits struct {
	MaxPeers         int
	HandshakeTimeout time.Duration
	IdleTimeout      time.Duration
	MessageTimeout   time.Duration
	Work             int
	MaxWork          int
}

func (l Limits) filled() Limits {
	l.MaxPeers = cmp.Or(l.MaxPeers, MaxPeers)
	l.HandshakeTimeout = cmp.Or(l.HandshakeTimeout, HandshakeTimeout)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, IdleTimeout)
	l.MessageTimeout = cmp.Or(l.MessageTimeout, MessageTimeout)
	l.Work = cmp.Or(l.Work, Work)
	l.MaxWork = cmp.Or(l.MaxWork, MaxWork)
	return l
}

func (l Limits) timeouts() peer.Timeouts {
	return peer.Timeouts{Handshake: l.HandshakeTimeout, Idle: l.IdleTimeout, Message: l.MessageTimeout}
}
