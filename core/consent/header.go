package consent

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/codec"
	"coinop.dev/core/step"
)

// readHeader reads headerSize bytes: the header that follows prev.
func readHeader(r *codec.Reader, prev chainhash.Hash) (h wire.BlockHeader) {
	raw := binary.LittleEndian.AppendUint32(nil, r.U32())
	raw = append(raw, prev[:]...)
	raw = append(raw, r.Take(chainhash.HashSize)...)
	for range 3 { // time, bits, nonce
		raw = binary.LittleEndian.AppendUint32(raw, r.U32())
	}
	if err := h.Deserialize(bytes.NewReader(raw)); err != nil {
		r.Fail(err)
	}
	return h
}

// locate asks for what follows the signer's headers.
func (s *Signer) locate() AskHeaders {
	l := s.chain.Locator()
	if len(l) > MaxLocator { // the last one is the first block's
		l = append(l[:MaxLocator-1:MaxLocator-1], l[len(l)-1])
	}
	return AskHeaders{Locator: l}
}

func (s *Signer) askHeaders(fx *step.Effects) {
	if s.Policy.NeedProof {
		s.send(s.locate(), fx)
	}
}

// takeHeaders judges headers by every rule. The chain with the most work wins,
// whoever shows it.
func (s *Signer) takeHeaders(m *Headers, now step.Time, fx *step.Effects) {
	if !s.Policy.NeedProof || len(m.Headers) == 0 {
		return
	}
	if m.From > 0 {
		s.takeOld(m, fx)
		return
	}
	_, better, err := s.chain.Connect(m.Headers, now)
	switch {
	case errors.Is(err, header.ErrOrphan) && !s.lost:
		s.lost = true // once: an answer to our locator that follows nothing is no answer
		s.askHeaders(fx)
		return
	case err != nil:
		s.refuse(ID{}, refuse(ReasonHeaders, "%v", err), fx)
		return
	}
	s.lost = false
	if better {
		fx.Put = append(fx.Put, s.chain.Changes(headerPrefix)...)
	}
	if better && len(m.Headers) == MaxHeaders {
		s.askHeaders(fx)
	}
}

// takeOld proves headers below the tail by what they arrive at. Only the first
// one is kept: it was asked for.
func (s *Signer) takeOld(m *Headers, fx *step.Effects) {
	if m.From >= s.chain.Base() {
		return
	}
	if err := s.chain.Verify(m.Headers, m.From); err != nil {
		s.refuse(ID{}, refuse(ReasonHeaders, "%v", err), fx)
		return
	}
	if len(s.old) == MaxOld {
		clear(s.old)
	}
	s.old[m.From] = m.Headers[0].MerkleRoot
}
