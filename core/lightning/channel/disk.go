package channel

import (
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/step"
)

// Channels is the prefix of all channels' records.
const Channels = "ln/c/"

// Prefix is that of one channel's records. The number has a fixed width so that
// channels are found in their order.
func Prefix(index uint64) string { return fmt.Sprintf("%s%08x/", Channels, index) }

// The records of a channel, after its prefix:
//
//	t          terms, once
//	s          what changes with every commitment, the stages of HTLCs included
//	g          the peer's signatures over our commitment
//	r          the secrets that the peer revealed
//	f          the funding transaction, until it is deep
//	h<side><id>  an HTLC, once
//	e<side><id>  how it ends
//	x<side><id>  what is left of one that had an output in the chain (Trace)
const (
	keyTerms, keyState, keySigs, keyRevealed, keyFunding = "t", "s", "g", "r", "f"
	keyHTLC, keySettle, keyTrace                         = "h", "e", "x"
)

// sizes of what is read back, in bytes
const (
	maxScript = 64
	maxNote   = 4096
	maxWhy    = 400
)

func (c *Channel) put(key string, value []byte) {
	c.fx.Put = append(c.fx.Put, step.Record{Key: c.prefix + key, Value: value, Lazy: !c.urgent})
}

func (h *HTLC) key(kind string) string {
	side := "t"
	if h.Ours {
		side = "o"
	}
	return fmt.Sprintf("%s%s%012x", kind, side, h.ID)
}

func (c *Channel) save(h *HTLC) {
	c.urgent = true
	c.put(h.key(keyHTLC), h.record())
}

func (c *Channel) saveSettle(h *HTLC) {
	c.urgent = true
	c.put(h.key(keySettle), h.Settle.record())
}

// forget takes an HTLC off the disk. One that had an output in a commitment of
// the peer's leaves a trace, because whoever publishes that commitment, which is
// revoked, must find every output taken.
func (c *Channel) forget(h *HTLC) {
	c.put(h.key(keyHTLC), nil)
	if h.Settle != nil {
		c.put(h.key(keySettle), nil)
	}
	if !c.Commit.Trimmed(commit.Remote, 0, commit.HTLC{Ours: h.Ours, Amount: h.Amount}) {
		t := Trace{HTLC: h.commit(), First: h.Entered, Last: c.theirNumber}
		c.put(h.key(keyTrace), t.record())
	}
}

// A Trace is what must be known of an HTLC of the past to take its output, if a
// revoked commitment of the peer's with a number from First to Last is
// published.
type Trace struct {
	commit.HTLC
	First, Last uint64
}

func (h *HTLC) commit() commit.HTLC {
	return commit.HTLC{Ours: h.Ours, Amount: h.Amount, Hash: h.Hash, Expiry: h.Expiry}
}

func (t Trace) record() []byte {
	b := codec.AppendUint([]byte(nil), t.Expiry)
	b = codec.AppendUint(b, t.First)
	b = codec.AppendUint(b, t.Last-t.First)
	b = codec.AppendUint(b, uint64(t.Amount))
	return append(b, t.Hash[:]...)
}

// Traces reads the traces of a channel.
func Traces(disk step.Reader, index uint64, yield func(Trace) bool) error {
	var bad error
	for _, side := range [...]string{"o", "t"} {
		ours := side == "o"
		err := disk.Scan(Prefix(index)+keyTrace+side, func(key string, value []byte) bool {
			r := codec.NewReader(value)
			t := Trace{HTLC: commit.HTLC{Ours: ours, Expiry: uint32(r.Uvarint())}, First: r.Uvarint()}
			t.Last = t.First + r.Uvarint()
			t.Amount = r.Amount()
			r.Fill(t.Hash[:])
			if err := r.Close(); err != nil {
				bad = fmt.Errorf("record %s: %w", key, err)
				return false
			}
			return yield(t)
		})
		if err = errors.Join(err, bad); err != nil {
			return err
		}
	}
	return nil
}

func (h *HTLC) record() []byte {
	b := codec.AppendUint([]byte(nil), uint64(h.Amount))
	b = codec.AppendUint(b, h.Expiry)
	b = append(b, h.Hash[:]...)
	b = codec.AppendBytes(b, h.Note)
	if h.Onion != nil && !h.Derived {
		b = append(b, h.Onion[:]...)
	}
	return b
}

func readHTLC(value []byte) (*HTLC, error) {
	r := codec.NewReader(value)
	h := &HTLC{Amount: r.Amount(), Expiry: uint32(r.Uvarint())}
	r.Fill(h.Hash[:])
	h.Note = r.Bytes(maxNote, "note")
	if r.Len() > 0 {
		h.Onion = new([ln.OnionSize]byte)
		r.Fill(h.Onion[:])
	}
	return h, r.Close()
}

const (
	endFulfilled = iota
	endFailed
	endMalformed
	endOnChain
)

func (s *Settle) record() []byte {
	switch {
	case s.Preimage != nil:
		return append([]byte{endFulfilled}, s.Preimage[:]...)
	case s.Chain:
		return []byte{endOnChain}
	case s.Code != 0:
		return append([]byte{endMalformed, byte(s.Code >> 8), byte(s.Code)}, s.OnionSum[:]...)
	default:
		return append([]byte{endFailed}, s.Reason...)
	}
}

func readSettle(value []byte) (*Settle, error) {
	r, s := codec.NewReader(value), new(Settle)
	switch r.U8() {
	case endFulfilled:
		s.Preimage = new([32]byte)
		r.Fill(s.Preimage[:])
	case endMalformed:
		s.Code = r.U16()
		r.Fill(s.OnionSum[:])
	case endOnChain:
		s.Chain = true
	default:
		s.Reason = slices.Clone(r.Take(r.Len()))
	}
	return s, r.Close()
}

// persist puts what has changed in this step. All of it may wait for the next
// write, and be lost, if it is no more than a revocation of the peer's, which the
// peer repeats to whoever has lost it.
func (c *Channel) persist() {
	if !c.dirty && !c.sigChanged && !c.newTerms {
		return
	}
	if c.newTerms {
		c.put(keyTerms, c.termsRecord())
		if c.funding != nil {
			c.put(keyFunding, tx.Bytes(c.funding))
		}
	}
	if c.sigChanged {
		c.put(keySigs, c.sigsRecord())
	}
	if c.secretAdded || c.newTerms {
		c.put(keyRevealed, c.revealed.Append(nil))
	}
	c.put(keyState, c.stateRecord())
	c.secretAdded = false
	c.dirty, c.sigChanged, c.newTerms, c.urgent = false, false, false, false
}

func (c *Channel) sigsRecord() []byte {
	b := append([]byte(nil), c.sig[:]...)
	for i := range c.htlcSig {
		b = append(b, c.htlcSig[i][:]...)
	}
	return b
}

func flags(bits ...bool) (f uint8) {
	for i, bit := range bits {
		if bit {
			f |= 1 << i
		}
	}
	return f
}

func (c *Channel) stateRecord() []byte {
	b := []byte{byte(c.status), flags(c.outstanding, c.lastRevoke, c.sentReady, c.gotReady, c.sentShutdown, c.announced)}
	b = codec.AppendUint(b, uint64(c.local))
	b = codec.AppendUint(b, uint64(c.remote))
	b = codec.AppendUint(b, c.number)
	b = codec.AppendUint(b, c.theirNumber)
	b = append(b, c.point[:]...)
	b = append(b, c.next[:]...)
	b = codec.AppendUint(b, uint64(c.scid))
	b = codec.AppendUint(b, uint64(c.theirAlias))
	b = codec.AppendBytes(b, c.gotShutdown)
	b = codec.AppendBytes(b, c.failure[:min(len(c.failure), maxWhy)])
	fees := slices.DeleteFunc(slices.Clone(c.fees), func(f fee) bool { return f.stage == Added })
	b = codec.AppendUint(b, len(fees))
	for _, f := range fees {
		b = append(codec.AppendUint(b, f.rate), byte(f.stage))
	}
	for _, l := range [...]*list{&c.ours, &c.theirs} {
		n, next := 0, l.next
		for _, h := range l.all {
			if h.Stage == Added { // the peer's, which it has not signed
				next--
				continue
			}
			n++
		}
		b = codec.AppendUint(codec.AppendUint(b, next), n)
		last := uint64(0)
		for _, h := range l.all {
			if h.Stage == Added {
				continue
			}
			at := h.Stage
			if h.Ours && at == Removing {
				at = Committed
			}
			b = append(codec.AppendUint(b, h.ID-last), byte(at))
			b = codec.AppendUint(b, h.Entered)
			last = h.ID
		}
	}
	b = codec.AppendUint(b, len(c.closing.done))
	for _, t := range c.closing.done {
		b = codec.AppendBytes(b, tx.Bytes(t))
	}
	return b
}

func (c *Channel) readState(value []byte) error {
	r := codec.NewReader(value)
	c.status = Status(r.U8())
	f := r.U8()
	for i, bit := range [...]*bool{&c.outstanding, &c.lastRevoke, &c.sentReady, &c.gotReady, &c.sentShutdown, &c.announced} {
		*bit = f>>i&1 == 1
	}
	c.local, c.remote = r.Amount(), r.Amount()
	c.number, c.theirNumber = r.Uvarint(), r.Uvarint()
	r.Fill(c.point[:])
	r.Fill(c.next[:])
	c.scid, c.theirAlias = ln.SCID(r.Uvarint()), ln.SCID(r.Uvarint())
	c.gotShutdown = r.Bytes(maxScript, "shutdown script")
	c.failure = r.String(maxWhy, "failure")
	c.fees = make([]fee, r.Int(maxFees+1, "fees"))
	for i := range c.fees {
		c.fees[i] = fee{int64(r.Uvarint()), Stage(r.U8())}
	}
	for _, l := range [...]*list{&c.ours, &c.theirs} {
		l.next = r.Uvarint()
		l.all = make([]*HTLC, r.Int(2*MaxHTLCs, "HTLCs"))
		last := uint64(0)
		for i := range l.all {
			last += r.Uvarint()
			l.all[i] = &HTLC{Ours: l == &c.ours, ID: last, Stage: Stage(r.U8()), Entered: r.Uvarint()}
		}
	}
	for range r.Int(maxDone, "closing transactions") {
		t, err := tx.Parse(r.Bytes(tx.MaxSize, "closing transaction"))
		if err != nil {
			r.Fail(err)
			break
		}
		c.closing.done = append(c.closing.done, t)
	}
	if err := r.Close(); err != nil {
		return err
	}
	if len(c.fees) == 0 || c.status > Closed {
		return errors.New("it is no state of a channel")
	}
	return nil
}

func appendPoints(b []byte, p *commit.Basepoints) []byte {
	for _, k := range [...]*keys.Public{&p.Funding, &p.Revocation, &p.Payment, &p.Delayed, &p.HTLC} {
		b = append(b, k[:]...)
	}
	return b
}

func readPoints(r *codec.Reader) (p commit.Basepoints) {
	for _, k := range [...]*keys.Public{&p.Funding, &p.Revocation, &p.Payment, &p.Delayed, &p.HTLC} {
		r.Fill(k[:])
	}
	return p
}

func appendLimits(b []byte, l *Limits) []byte {
	b = codec.AppendUint(b, l.Dust)
	b = codec.AppendUint(b, l.Reserve)
	b = codec.AppendUint(b, uint64(l.MaxInFlight))
	b = codec.AppendUint(b, uint64(l.MinHTLC))
	b = codec.AppendUint(b, l.MaxHTLCs)
	return codec.AppendUint(b, uint64(l.Delay))
}

func readLimits(r *codec.Reader) Limits {
	return Limits{
		Dust: int64(r.Uvarint()), Reserve: int64(r.Uvarint()), MaxInFlight: r.Amount(), MinHTLC: r.Amount(),
		MaxHTLCs: r.Int(MaxHTLCs, "HTLCs"), Delay: uint16(r.Int(1<<16-1, "delay")),
	}
}

func (c *Channel) termsRecord() []byte {
	k := &c.Commit
	b := []byte{byte(k.Type), byte(k.Opener), flags(c.Announce, c.ScidAlias)}
	b = append(b, c.Peer[:]...)
	b = append(b, k.Funding.Hash[:]...)
	b = codec.AppendUint(b, k.Funding.Index)
	b = codec.AppendUint(b, k.Capacity)
	b = appendPoints(b, &k.Remote.Basepoints)
	b = appendLimits(appendLimits(b, &c.Ours), &c.Theirs)
	b = codec.AppendUint(b, c.MinDepth)
	b = codec.AppendUint(b, c.FeeRate)
	b = codec.AppendUint(b, uint64(c.Push))
	b = codec.AppendBytes(b, c.Payout)
	return codec.AppendBytes(b, c.Upfront)
}

func readTerms(value []byte, index uint64, s commit.Secrets) (t Terms, err error) {
	r := codec.NewReader(value)
	t.Index = index
	k := &t.Commit
	k.Type, k.Opener = commit.Type(r.U8()), commit.Owner(r.U8())
	f := r.U8()
	t.Announce, t.ScidAlias = f&1 != 0, f&2 != 0
	r.Fill(t.Peer[:])
	r.Fill(k.Funding.Hash[:])
	k.Funding.Index = uint32(r.Uvarint())
	k.Capacity = int64(r.Uvarint())
	k.Remote.Basepoints = readPoints(r)
	k.Local.Basepoints = s.Basepoints()
	t.Ours, t.Theirs = readLimits(r), readLimits(r)
	k.Local.Dust, k.Local.Delay = t.Ours.Dust, t.Theirs.Delay
	k.Remote.Dust, k.Remote.Delay = t.Theirs.Dust, t.Ours.Delay
	t.MinDepth = r.Height()
	t.FeeRate = int64(r.Uvarint())
	t.Push = r.Amount()
	t.Payout = r.Bytes(maxScript, "payout script")
	t.Upfront = r.Bytes(maxScript, "upfront script")
	t.ID = ln.NewChannelID(k.Funding.Hash, uint16(k.Funding.Index))
	return t, r.Close()
}

// Load reads a channel back. root is the secret that its keys come from.
func Load(disk step.Reader, index uint64, root keys.Secret) (*Channel, error) {
	prefix := Prefix(index)
	get := func(key string) (value []byte, err error) {
		value, err = disk.Get(prefix + key)
		if err == nil && value == nil && key != keyFunding {
			err = fmt.Errorf("record %s is missing", prefix+key)
		}
		return value, err
	}
	c := &Channel{prefix: prefix, secrets: commit.NewSecrets(root)}
	var value [5][]byte
	for i, key := range [...]string{keyTerms, keyState, keySigs, keyRevealed, keyFunding} {
		var err error
		if value[i], err = get(key); err != nil {
			return nil, err
		}
	}
	var err error
	if c.Terms, err = readTerms(value[0], index, c.secrets); err != nil {
		return nil, fmt.Errorf("record %s: %w", prefix+keyTerms, err)
	}
	c.peer, c.alias = c.Peer.PeerName(), aliasOf(c.ID)
	if err := c.readState(value[1]); err != nil {
		return nil, fmt.Errorf("record %s: %w", prefix+keyState, err)
	}
	r := codec.NewReader(value[2])
	r.Fill(c.sig[:])
	c.htlcSig = make([]keys.Signature, r.Len()/64)
	for i := range c.htlcSig {
		r.Fill(c.htlcSig[i][:])
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("record %s: %w", prefix+keySigs, err)
	}
	r = codec.NewReader(value[3])
	c.revealed = commit.ReadRevealed(r)
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("record %s: %w", prefix+keyRevealed, err)
	}
	if value[4] != nil && c.status == Pending {
		if c.funding, err = tx.Parse(value[4]); err != nil {
			return nil, fmt.Errorf("record %s: %w", prefix+keyFunding, err)
		}
	}
	return c, c.loadHTLCs(disk)
}

func (c *Channel) loadHTLCs(disk step.Reader) error {
	for _, l := range [...]*list{&c.ours, &c.theirs} {
		for i, stub := range l.all {
			value, err := disk.Get(c.prefix + stub.key(keyHTLC))
			if err != nil {
				return err
			}
			h, err := readHTLC(value)
			if err != nil {
				return fmt.Errorf("record %s: %w", c.prefix+stub.key(keyHTLC), err)
			}
			h.Ours, h.ID, h.Stage, h.Entered = stub.Ours, stub.ID, stub.Stage, stub.Entered
			if h.Stage > Signed {
				h.Onion = nil
			}
			l.all[i] = h
			if value, err = disk.Get(c.prefix + h.key(keySettle)); err != nil {
				return err
			}
			if value == nil {
				continue
			}
			if h.Settle, err = readSettle(value); err != nil {
				return fmt.Errorf("record %s: %w", c.prefix+h.key(keySettle), err)
			}
			h.awaited = !h.Ours && h.Stage == Committed
		}
	}
	for _, h := range slices.Concat(c.ours.all, c.theirs.all) {
		h.dust = c.isDust(h)
	}
	return nil
}

// Durable is what a channel has on disk, for comparison.
func (c *Channel) Durable() (records []step.Record) {
	put := func(key string, value []byte) {
		records = append(records, step.Record{Key: c.prefix + key, Value: value})
	}
	put(keyTerms, c.termsRecord())
	put(keyState, c.stateRecord())
	put(keySigs, c.sigsRecord())
	put(keyRevealed, c.revealed.Append(nil))
	for _, h := range slices.Concat(c.ours.all, c.theirs.all) {
		if h.Stage == Added {
			continue
		}
		if h.Settle != nil && (h.Stage != Removing || h.fulfilled() || h.Settle.Chain) {
			put(h.key(keySettle), h.Settle.record())
		}
	}
	return records
}
