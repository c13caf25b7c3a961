package wire

import (
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// Shutdown starts a cooperative close and says where to pay (BOLT 2).
type Shutdown struct {
	ChannelID    ChannelID
	ScriptPubKey []byte
}

func (m *Shutdown) Core() string { return Core }

func (m *Shutdown) Append(b []byte) []byte {
	b = append(head(b, typeShutdown), m.ChannelID[:]...)
	return appendSized(b, m.ScriptPubKey)
}

func (m *Shutdown) read(r *codec.Reader) Message {
	m.ChannelID = takeHash(r)
	m.ScriptPubKey = takeSized(r)
	extension(r, nil)
	return m
}

// ClosingSigned offers a fee for the closing transaction, with a signature.
type ClosingSigned struct {
	ChannelID   ChannelID
	FeeSatoshis int64
	Signature   keys.Signature
	FeeRange    *FeeRange // nil: not said
}

// FeeRange is what fees the sender takes. A higher maximum than all the bitcoin
// there is comes as that.
type FeeRange struct{ MinFeeSatoshis, MaxFeeSatoshis int64 }

func (m *ClosingSigned) Core() string { return Core }

func (m *ClosingSigned) Append(b []byte) []byte {
	b = append(head(b, typeClosingSigned), m.ChannelID[:]...)
	b = be.AppendUint64(b, uint64(m.FeeSatoshis))
	b = append(b, m.Signature[:]...)
	if m.FeeRange == nil {
		return b
	}
	both := be.AppendUint64(nil, uint64(m.FeeRange.MinFeeSatoshis))
	return codec.AppendTLV(b, 1, be.AppendUint64(both, uint64(m.FeeRange.MaxFeeSatoshis)))
}

func (m *ClosingSigned) read(r *codec.Reader) Message {
	m.ChannelID = takeHash(r)
	m.FeeSatoshis = takeSat(r, "fee_satoshis")
	m.Signature = takeSignature(r)
	extension(r, func(typ uint64, value *codec.Reader) bool {
		if typ != 1 {
			return false
		}
		m.FeeRange = &FeeRange{
			MinFeeSatoshis: takeSat(value, "min_fee_satoshis"),
			MaxFeeSatoshis: int64(min(value.U64(), uint64(money.MaxAmount.Sats()))),
		}
		return true
	})
	return m
}

// Closing is one closing transaction of option_simple_close, paid for by the
// closer, and signatures over its variants.
type Closing struct {
	ChannelID          ChannelID
	CloserScriptPubKey []byte
	CloseeScriptPubKey []byte
	FeeSatoshis        int64
	Locktime           uint32

	CloserOutputOnly       *keys.Signature
	CloseeOutputOnly       *keys.Signature
	CloserAndCloseeOutputs *keys.Signature
}

// ClosingComplete is the closer's side of it.
type ClosingComplete struct{ Closing }

// ClosingSig answers with the closee's one signature.
type ClosingSig struct{ Closing }

func (m *ClosingComplete) Core() string { return Core }
func (m *ClosingSig) Core() string      { return Core }

func (m *ClosingComplete) Append(b []byte) []byte { return m.append(head(b, typeClosingComplete)) }
func (m *ClosingSig) Append(b []byte) []byte      { return m.append(head(b, typeClosingSig)) }

func (m *ClosingComplete) read(r *codec.Reader) Message {
	m.Closing.read(r)
	return m
}

func (m *ClosingSig) read(r *codec.Reader) Message {
	m.Closing.read(r)
	return m
}

func (c *Closing) append(b []byte) []byte {
	b = append(b, c.ChannelID[:]...)
	b = appendSized(b, c.CloserScriptPubKey)
	b = appendSized(b, c.CloseeScriptPubKey)
	b = be.AppendUint64(b, uint64(c.FeeSatoshis))
	b = be.AppendUint32(b, c.Locktime)
	for i, sig := range [...]*keys.Signature{c.CloserOutputOnly, c.CloseeOutputOnly, c.CloserAndCloseeOutputs} {
		if sig != nil {
			b = codec.AppendTLV(b, uint64(i+1), sig[:])
		}
	}
	return b
}

func (c *Closing) read(r *codec.Reader) {
	c.ChannelID = takeHash(r)
	c.CloserScriptPubKey = takeSized(r)
	c.CloseeScriptPubKey = takeSized(r)
	c.FeeSatoshis = takeSat(r, "fee_satoshis")
	c.Locktime = r.U32()
	extension(r, func(typ uint64, value *codec.Reader) bool {
		sig := new(keys.Signature)
		switch typ {
		case 1:
			c.CloserOutputOnly = sig
		case 2:
			c.CloseeOutputOnly = sig
		case 3:
			c.CloserAndCloseeOutputs = sig
		default:
			return false
		}
		value.Fill(sig[:])
		return true
	})
}
