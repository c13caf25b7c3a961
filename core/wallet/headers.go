package wallet

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/codec"
	"coinop.dev/core/consent"
	"coinop.dev/core/step"
)

// KeepHeaders is how many headers the wallet keeps for its proofs: those of the
// last two weeks. They come from the machine's own view of the chain, which has
// judged them.
const KeepHeaders = 2016

// maxAnswer is how many headers the chain answers at most at once.
const maxAnswer = 2000

// tail is the last headers of the best chain.
type tail struct {
	base    int32 // height of headers[0]
	headers []wire.BlockHeader
	hashes  []chainhash.Hash
}

// tip is the height of the last header, or -1.
func (t *tail) tip() int32 { return t.base + int32(len(t.headers)) - 1 }

// from lists at most n headers from a height on.
func (t *tail) from(height int32, n int) []wire.BlockHeader {
	if height < t.base || height > t.tip() {
		return nil
	}
	some := t.headers[height-t.base:]
	return slices.Clone(some[:min(n, len(some))])
}

// locator is newest first, at growing distances, down to the oldest.
func (t *tail) locator() (all []chainhash.Hash) {
	gap := 1
	for i := len(t.hashes) - 1; i > 0; i -= gap {
		all = append(all, t.hashes[i])
		if len(all) > 8 {
			gap *= 2
		}
	}
	if len(t.hashes) > 0 {
		all = append(all, t.hashes[0])
	}
	return all
}

// take follows the best chain, and returns the records that change.
func (t *tail) take(from int32, headers []wire.BlockHeader) (put []step.Record) {
	if len(headers) == 0 || from < 0 {
		return nil
	}
	links := len(t.headers) > 0 && from > t.base && from <= t.tip()+1 && headers[0].PrevBlock == t.hashes[from-1-t.base]
	if links && from-t.base+int32(len(headers)) <= int32(len(t.headers)) {
		last := len(headers) - 1
		if headers[last].BlockHash() == t.hashes[from-t.base+int32(last)] {
			return nil // an old answer
		}
	}
	keep := int32(0)
	if links {
		keep = from - t.base
	}
	for h := t.base + keep; h <= t.tip(); h++ {
		if h < from || h >= from+int32(len(headers)) {
			put = append(put, step.Record{Key: headerKey(h), Lazy: true})
		}
	}
	if !links {
		t.base = from
	}
	t.headers, t.hashes = t.headers[:keep], t.hashes[:keep]
	prev := chainhash.Hash{}
	for i := range headers {
		if i > 0 && headers[i].PrevBlock != prev {
			break
		}
		prev = headers[i].BlockHash()
		t.headers, t.hashes = append(t.headers, headers[i]), append(t.hashes, prev)
		if len(headers)-i <= KeepHeaders {
			put = append(put, step.Record{Key: headerKey(from + int32(i)), Value: appendHeaders(nil, headers[i:i+1]), Lazy: true})
		}
	}
	if old := len(t.headers) - KeepHeaders; old > 0 {
		for h := t.base; h < t.base+int32(old); h++ {
			put = append(put, step.Record{Key: headerKey(h), Lazy: true})
		}
		t.headers, t.hashes = slices.Clone(t.headers[old:]), slices.Clone(t.hashes[old:])
		t.base += int32(old)
	}
	return put
}

const headersKey = "wallet/t/"

func headerKey(height int32) string { return fmt.Sprintf("%s%08x", headersKey, height) }

func (t *tail) load(db step.Reader) error {
	return codec.Scan(db, headersKey, func(name string, r *codec.Reader) {
		height, err := strconv.ParseUint(name, 16, 31)
		h := readHeader(r)
		if err != nil || len(t.headers) > 0 && (int32(height) != t.tip()+1 || h.PrevBlock != t.hashes[len(t.hashes)-1]) {
			// A lazy one was lost: begin again behind the gap.
			t.headers, t.hashes = nil, nil
		}
		if len(t.headers) == 0 {
			t.base = int32(height)
		}
		t.headers, t.hashes = append(t.headers, h), append(t.hashes, h.BlockHash())
	})
}

// askHeaders asks for what follows the tail.
func (w *Wallet) askHeaders(fx *step.Effects) {
	w.send(watch.Chain, watch.HeadersAfter{To: Name, Locator: append(w.tail.locator(), w.o.Base)}, fx)
}

// headers takes an answer, for the tail or for a device that asked.
func (w *Wallet) headers(m watch.Headers, fx *step.Effects) {
	if m.To != Name {
		w.forward(m, fx)
		return
	}
	fx.Put = append(fx.Put, w.tail.take(m.From, m.Headers)...)
	if len(m.Headers) >= maxAnswer {
		w.askHeaders(fx)
		return
	}
	w.collectDeep(fx)
}

// relayHeaders asks the chain for a signer. What is older than the locator is
// answered from the tail, as far as it goes.
func (w *Wallet) relayHeaders(from string, m consent.AskHeaders, fx *step.Effects) {
	if from != LocalSigner && len(w.owned(from)) == 0 {
		return
	}
	if m.At > 0 {
		if some := w.tail.from(m.At, consent.MaxHeaders); len(some) > 0 {
			w.send(from, consent.Headers{From: m.At, Headers: some}, fx)
			w.proposeNow(from, fx)
			return
		}
	}
	w.send(watch.Chain, watch.HeadersAfter{To: from, Locator: m.Locator, At: m.At}, fx)
}

// showTip sends a signer the last headers, unasked. If they follow nothing that
// it has, it asks for more.
func (w *Wallet) showTip(signer string, fx *step.Effects) {
	if last := w.tail.from(max(w.tail.base, w.tail.tip()-deepest), deepest+1); len(last) > 0 {
		w.send(signer, consent.Headers{Headers: last}, fx)
	}
}

func (w *Wallet) forward(m watch.Headers, fx *step.Effects) {
	if len(m.Headers) > 0 {
		w.send(m.To, consent.Headers{From: m.At, Headers: m.Headers[:min(len(m.Headers), consent.MaxHeaders)]}, fx)
		w.proposeNow(m.To, fx) // it may have waited for them
	}
}
