package sealed

import (
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// A Reader is the buyer's end of a stream. It is a value as Stream is: whoever holds
// it keeps the offer before it pays, and the Place in the same durable write as the
// data that Take gives, so a chunk is taken once; and pays what Due says, as often as
// it likes, because an order is paid once.
//
// It pays for one chunk at a time, and only for one whose ciphertext it holds; so
// that is the most a seller can cheat it of. The first that is bad is the last.
type Reader struct {
	offer  Offer
	taken  int    // chunks that are in the clear
	key    Key    // of the last of them; the anchor before the first
	cipher []byte // of the next, or nil
	bad    error  // why it stopped
	sold   Key    // the key that shows it
}

// Errors of a reader.
var (
	// ErrEarly means a chunk or a key that is not the next one's. It may have been
	// repeated or overtaken; nothing is wrong.
	ErrEarly = errors.New("it is not of the next chunk")
	// ErrStopped means the seller has cheated before.
	ErrStopped = errors.New("the stream has stopped")
)

// NewReader begins to read what a seller offers, at most at a price.
func NewReader(o *Offer, seller keys.Public, atMost money.Amount) (*Reader, error) {
	if err := o.Check(seller); err != nil {
		return nil, err
	}
	if o.Price > atMost {
		return nil, fmt.Errorf("a chunk costs %v, and may cost %v", o.Price, atMost)
	}
	return &Reader{offer: *o, key: NewKey(o.Anchor)}, nil
}

// Offer is what is read.
func (r *Reader) Offer() *Offer { return &r.offer }

// Want is what to ask the seller for.
func (r *Reader) Want() Want { return Want{r.offer.ID, r.taken + 1} }

// Taken is how many chunks are in the clear.
func (r *Reader) Taken() int { return r.taken }

// Over reports whether there is nothing more to pay: all is read, or the seller has
// cheated, and err says how.
func (r *Reader) Over() (over bool, err error) {
	return r.bad != nil || r.taken == len(r.offer.Digests), r.bad
}

// Chunk takes the ciphertext of the next chunk.
func (r *Reader) Chunk(c Chunk) error {
	switch over, _ := r.Over(); {
	case r.bad != nil:
		return ErrStopped
	case over || c.ID != r.offer.ID || c.I != r.taken+1:
		return ErrEarly
	case digest(c.Cipher) != r.offer.Digests[c.I-1]:
		return fmt.Errorf("chunk %d is not the one that was offered: %w", c.I, ErrForged)
	}
	r.cipher = c.Cipher
	return nil
}

// Due is the order that buys the next key, once its chunk is here.
func (r *Reader) Due() (order money.OrderID, amount money.Amount, due bool) {
	if over, _ := r.Over(); over || r.cipher == nil {
		return order, 0, false
	}
	return r.offer.Order(r.taken + 1), r.offer.Price, true
}

// Take opens the next chunk with its key, or with a later one, if this reader was
// put back to an older record. With a wrong key nothing changes. If the
// key is right and the chunk does not open, the seller has cheated: the error says
// so, the Place changes, and Evidence has the proof.
func (r *Reader) Take(v Reveal) (plain []byte, err error) {
	switch {
	case r.bad != nil:
		return nil, ErrStopped
	case v.ID != r.offer.ID || v.I <= r.taken || v.I > len(r.offer.Digests) || r.cipher == nil:
		return nil, ErrEarly
	}
	i := r.taken + 1
	key := v.Key.back(v.I - i)
	if key.IsZero() || key.Hash() != r.key.Reveal() {
		return nil, ErrKey
	}
	plain, err = key.open(purposeChunk, aboutChunk(r.offer.ID, i), r.cipher)
	if err != nil {
		r.bad, r.sold = fmt.Errorf("chunk %d: %w", i, err), key
		return nil, r.bad
	}
	r.taken, r.key, r.cipher = i, key, nil
	return plain, nil
}

// Evidence is what FraudOf judges, if the seller has cheated.
func (r *Reader) Evidence() (c Chunk, k Key, any bool) {
	if r.bad == nil {
		return c, k, false
	}
	return Chunk{r.offer.ID, r.taken + 1, r.cipher}, r.sold, true
}

// Record is what is read, on disk. It never changes.
func (r *Reader) Record() []byte { return r.offer.append(nil) }

// Place is how far it has come, on disk, and the evidence, if the seller has
// cheated. The keys in it are bought; a chunk that is not can be had again.
func (r *Reader) Place() []byte {
	key, sold := r.key.Reveal(), r.sold.Reveal()
	b := append(codec.AppendUint([]byte(nil), r.taken), key[:]...)
	if r.bad == nil {
		return b
	}
	return codec.AppendBytes(append(b, sold[:]...), r.cipher)
}

// LoadReader reads a reader back. Without a place it begins.
func LoadReader(record, place []byte) (*Reader, error) {
	c := codec.NewReader(record)
	r := &Reader{offer: readOffer(c)}
	if err := c.Close(); err != nil {
		return nil, fmt.Errorf("record of a reader: %w", err)
	}
	if r.key = NewKey(r.offer.Anchor); place == nil {
		return r, nil
	}
	c = codec.NewReader(place)
	r.taken = c.Int(len(r.offer.Digests), "chunks taken")
	var key, sold [32]byte
	c.Fill(key[:])
	cheated := c.Len() > 0
	if cheated {
		c.Fill(sold[:])
		r.cipher = c.Bytes(maxCipher, "ciphertext")
	}
	if err := c.Close(); err != nil {
		return nil, fmt.Errorf("record of a reader's place: %w", err)
	}
	if r.key = NewKey(key); r.key.back(r.taken).Reveal() != r.offer.Anchor {
		return nil, fmt.Errorf("record of a reader's place: chunk %d: %w", r.taken, ErrKey)
	}
	if cheated {
		r.sold, r.bad = NewKey(sold), fmt.Errorf("chunk %d: %w", r.taken+1, errCipher)
	}
	return r, nil
}
