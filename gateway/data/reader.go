package data

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"coinop.dev/core/codec"
	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
	"coinop.dev/core/step"
	"coinop.dev/purse"
	"coinop.dev/world/store"
)

const (
	// MaxReads bounds the streams that a buyer has on disk; Forget drops one.
	MaxReads = 1024
	// askAgain is when a seller is asked again for a key that it says is not paid yet,
	// or that it does not answer; up to slowly.
	askAgain = 20 * time.Millisecond
	slowly   = 2 * time.Second
)

// A Reader buys a stream, chunk by chunk. What it has bought is on disk before Next
// gives it: whoever crashes reads on where it was, and pays nothing twice.
type Reader struct {
	c Client
	p Payer
	t Terms

	db   store.DB
	s    Stream
	r    *sealed.Reader
	last []byte
}

const readKey = "data/read/"

// The records of a stream: what was opened; how far it is read, with the last chunk;
// and the chunk that is being paid for, sealed.
func readRecords(id sealed.ID) (opened, at, paying string) {
	name := hex.EncodeToString(id[:])
	return readKey + name, "data/at/" + name, "data/paying/" + name
}

// NewReader begins to buy a stream.
func NewReader(c Client, p Payer, db store.DB, s Stream, t Terms) (*Reader, error) {
	n := 0
	if err := db.Scan(readKey, func(string, []byte) bool { n++; return n < MaxReads }); err != nil {
		return nil, err
	}
	if n >= MaxReads {
		return nil, refused(fmt.Errorf("%d streams are kept already; forget one", n))
	}
	r, err := newReader(s, t, nil)
	if err != nil {
		return nil, refused(err)
	}
	opened, _, _ := readRecords(r.Offer().ID)
	record, err := json.Marshal(s)
	if err == nil {
		err = db.Commit([]step.Record{{Key: opened, Value: record}})
	}
	return &Reader{c: c, p: p, t: t, db: db, s: s, r: r}, err
}

func newReader(s Stream, t Terms, place []byte) (*sealed.Reader, error) {
	o, err := readOffer(s.Offer)
	if err != nil {
		return nil, err
	}
	meta, err := readMeta(o.Meta)
	if err != nil {
		return nil, err
	}
	if meta.Service != s.Service {
		return nil, fmt.Errorf("the seller has signed a stream of %.80q, and %.80q was asked for", meta.Service, s.Service)
	}
	r, err := sealed.NewReader(o, t.Seller, t.Most)
	if err == nil && place != nil {
		r, err = sealed.LoadReader(r.Record(), place)
	}
	return r, err
}

// LoadReader reads a stream back from disk. ErrGone means that it is not there.
func LoadReader(c Client, p Payer, db store.DB, id sealed.ID, t Terms) (*Reader, error) {
	opened, at, paying := readRecords(id)
	record, err := db.Get(opened)
	if err == nil && record == nil {
		err = ErrGone
	}
	if err != nil {
		return nil, err
	}
	v := &Reader{c: c, p: p, t: t, db: db}
	if err := json.Unmarshal(record, &v.s); err != nil {
		return nil, err
	}
	read, err := db.Get(at)
	if err != nil {
		return nil, err
	}
	var place []byte
	if read != nil {
		r := codec.NewReader(read)
		place, v.last = r.Bytes(maxPlace, "place"), r.Bytes(sealed.MaxPlain, "chunk")
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	if v.r, err = newReader(v.s, t, place); err != nil {
		return nil, err
	}
	raw, err := db.Get(paying)
	if err == nil && raw != nil {
		if msg, err := sealed.Decode(raw); err == nil {
			c, _ := msg.(sealed.Chunk)
			v.r.Chunk(c) // one that was taken since is not the next
		}
	}
	return v, err
}

// maxPlace bounds a reader's place: two keys and a chunk.
const maxPlace = sealed.MaxPlain + 256

// ID names the stream.
func (v *Reader) ID() sealed.ID { return v.r.Offer().ID }

// Last is the chunk that was taken last, and its number; 0 before the first. Who
// crashes before it has used a chunk finds it here.
func (v *Reader) Last() (i int, data []byte) { return v.r.Taken(), v.last }

// Forget drops the stream from the buyer's disk.
func (v *Reader) Forget() error {
	opened, at, paying := readRecords(v.ID())
	return v.db.Commit([]step.Record{{Key: opened}, {Key: at}, {Key: paying}})
}

// Next buys the next chunk: fetches it, checks it, pays it, and opens it. It returns
// io.EOF after the last. After an error call it again, unless it is a *Cheat or
// wraps sealed.ErrStopped: then the seller gets nothing any more.
func (v *Reader) Next(ctx context.Context) (data []byte, err error) {
	if over, bad := v.r.Over(); over {
		if bad != nil {
			return nil, errors.Join(sealed.ErrStopped, bad)
		}
		return nil, io.EOF
	}
	i := v.r.Want().I
	if _, _, due := v.r.Due(); !due {
		if err := v.fetch(ctx, i); err != nil {
			return nil, err
		}
	}
	order, amount, _ := v.r.Due()
	if err := v.pay(ctx, money.Order{ID: order, Amount: amount, For: v.s.Service}); err != nil {
		return nil, err
	}
	reveal, err := v.claim(ctx, i)
	if err != nil {
		return nil, err
	}
	return v.take(reveal)
}

// fetch gets a chunk and keeps it, before it is paid for.
func (v *Reader) fetch(ctx context.Context, i int) error {
	msg, err := v.c.Chunk(ctx, v.s.Service, v.ID(), i)
	if err != nil {
		return err
	}
	c, ok := msg.(sealed.Chunk)
	if !ok {
		return refused(fmt.Errorf("the seller sends a %T for a chunk", msg))
	}
	if err := v.r.Chunk(c); err != nil {
		return refused(err)
	}
	_, _, paying := readRecords(v.ID())
	return v.commit(step.Record{Key: paying, Value: c.Append(nil)})
}

func (v *Reader) commit(r ...step.Record) error {
	if err := v.db.Commit(r); err != nil {
		return &money.Error{Kind: money.Broken, Op: "data", Err: err}
	}
	return nil
}

// pay pays by the first of the seller's ways that the payer has a rail for.
func (v *Reader) pay(ctx context.Context, o money.Order) (err error) {
	if len(v.s.Pay) == 0 {
		return refused(errors.New("the seller does not say how it is paid"))
	}
	for _, o.To = range v.s.Pay {
		if _, err = v.p.Pay(ctx, o); !errors.Is(err, purse.ErrNoRail) {
			return err
		}
	}
	return err
}

// claim asks for the key until the seller knows that it is paid.
func (v *Reader) claim(ctx context.Context, i int) (r sealed.Reveal, err error) {
	for wait := askAgain; ; wait = min(2*wait, slowly) {
		msg, err := v.c.Key(ctx, v.s, v.ID(), i)
		if err == nil {
			if r, ok := msg.(sealed.Reveal); ok {
				return r, nil
			}
			return r, refused(fmt.Errorf("the seller sends a %T for a key", msg))
		}
		if kind := money.KindOf(err); kind != money.Unpaid && kind != money.Pending {
			return r, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return r, fmt.Errorf("chunk %d is paid, and its key has not come: %w", i, errors.Join(ctx.Err(), err))
		}
	}
}

// take opens the chunk and puts it on disk with the place after it.
func (v *Reader) take(r sealed.Reveal) ([]byte, error) {
	plain, bad := v.r.Take(r)
	c, key, cheated := v.r.Evidence()
	if bad != nil && !cheated {
		return nil, refused(bad)
	}
	_, at, paying := readRecords(v.ID())
	b := codec.AppendBytes(codec.AppendBytes(nil, v.r.Place()), plain)
	if err := v.commit(step.Record{Key: at, Value: b}, step.Record{Key: paying}); err != nil {
		return nil, err
	}
	if cheated {
		k := key.Reveal()
		return nil, cheat(v.t.Evidence, evidence{Offer: v.s.Offer, Chunk: c.Append(nil), Key: hex.EncodeToString(k[:])}, bad)
	}
	v.last = plain
	return plain, nil
}
