package consent

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

// Message types, two bytes, odd and above 32768: custom messages that a peer
// who does not know them ignores (BOLT 1).
const (
	typeProposal   = 0x8701 + 2*iota // wallet: please sign this
	typeConsent                      // signer: its signatures
	typeRefusal                      // signer: no, and why
	typeAskHeaders                   // signer: headers, please
	typeHeaders                      // wallet: headers
	typeSeen                         // wallet: the latest consent it has
	typeEnd
)

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ >= typeProposal && typ < typeEnd && typ%2 == 1 }

// Names of the two cores that talk, and of the outlet that holds a counter.
const (
	Core   = "consent"
	Wallet = "wallet"
	Secret = "secret"
)

// Limits of the messages. A message must fit one of BOLT 8's.
const (
	MaxMessage = 65_535 // bytes with its type
	MaxPSBT    = 60_000 // bytes
	MaxInputs  = 100    // of a transaction, own and foreign
	MaxOutputs = 100
	MaxOrders  = 100
	MaxScript  = 42    // bytes: the longest witness program (BIP 141)
	MaxHeaders = 1_200 // 48 bytes each: more than lie between two checkpoints
	MaxLocator = 64    // block hashes
	maxText    = 300   // bytes of a refusal
	maxSig     = 73    // bytes of a signature: DER and the sighash byte
)

// An ID names a proposal. The wallet chooses it at random and never again.
type ID [16]byte

// String is the ID in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText is String, for JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// IsZero reports whether it names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// A Message is anything that the wallet and the signer send each other. Core
// names the core that takes it.
type Message interface {
	Core() string
	// Append encodes it behind its two-byte type.
	Append(b []byte) []byte
}

// A Proposal is a transaction for the signer to consent to.
type Proposal struct {
	ID ID
	// Replaces names the proposal whose transaction this one bumps (BIP 125);
	// zero if none.
	Replaces ID
	// PSBT is of version 0 (BIP 174 with 371). An input of the signer's has its
	// derivation (taproot's for a taproot key) and its whole previous
	// transaction; a taproot input may have only the output it spends, if the
	// policy asks for no proof. An output that is change has its derivation.
	PSBT []byte
	// Proofs are one for each input of the signer's, in input order: that its
	// previous transaction is in a block. None at all if the policy does not
	// ask. Height 0 without hashes stands for an output of a transaction that the
	// signer consented to and that waits for a block.
	Proofs []merkle.Proof
	// Orders are what the transaction pays for the signer.
	Orders []Order
}

// An Order is what one output pays for the signer.
type Order struct {
	ID     money.OrderID
	Output uint32       // of the transaction
	Script []byte       // whom to pay
	Amount money.Amount // whole satoshi
	Index  uint32       // the place of Script in a payee's ranged descriptor; else 0
}

// A Consent is the signatures of one proposal.
type Consent struct {
	ID      ID
	Counter uint64 // 1, 2, 3 ... of this signer: one for each consent, never again
	// Signatures are one for each input of the signer's, in input order: DER and
	// the sighash byte, or 64 bytes (BIP 340).
	Signatures [][]byte
	// Mark is the signer's identity's: the signature of the COSE_Sign1 form
	// (Check, Compact).
	Mark keys.Signature
}

// A Refusal says why there is no consent.
type Refusal struct {
	ID     ID // of the proposal; zero if it is about headers or the counter
	Reason Reason
	Text   string // names the thing, the limit, the remedy
}

// AskHeaders asks the wallet for block headers: those behind the first hash of
// Locator that is in the best chain, or if At is not zero those from that height
// up to the next multiple of header.Interval or the signer's tail, for a coin
// older than the tail.
type AskHeaders struct {
	At      int32
	Locator []chainhash.Hash // newest first
}

// Headers are at most MaxHeaders that follow one another. From answers At; 0
// answers Locator.
type Headers struct {
	From    int32
	Headers []wire.BlockHeader
}

// Seen shows the signer a consent that it once gave: an honest wallet sends the
// one with the highest counter whenever they meet, so that a signer whose disk
// was set back finds out before it signs.
type Seen struct {
	TxID    chainhash.Hash // of the unsigned transaction
	Consent Consent
}

func (Proposal) Core() string   { return Core }
func (Consent) Core() string    { return Wallet }
func (Refusal) Core() string    { return Wallet }
func (AskHeaders) Core() string { return Wallet }
func (Headers) Core() string    { return Core }
func (Seen) Core() string       { return Core }

func head(b []byte, typ uint16) []byte { return binary.BigEndian.AppendUint16(b, typ) }

func (m Proposal) Append(b []byte) []byte {
	b = append(head(b, typeProposal), m.ID[:]...)
	b = append(b, m.Replaces[:]...)
	b = codec.AppendBytes(b, m.PSBT)
	b = codec.AppendUint(b, len(m.Proofs))
	for _, p := range m.Proofs {
		b = p.Append(b)
	}
	b = codec.AppendUint(b, len(m.Orders))
	for i := range m.Orders {
		b = m.Orders[i].append(b)
	}
	return b
}

func (o *Order) append(b []byte) []byte {
	b = append(b, o.ID[:]...)
	b = codec.AppendUint(b, o.Output)
	b = codec.AppendBytes(b, o.Script)
	b = codec.AppendUint(b, o.Amount)
	return codec.AppendUint(b, o.Index)
}

func readOrder(r *codec.Reader) (o Order) {
	r.Fill(o.ID[:])
	o.Output = uint32(r.Int(MaxOutputs-1, "output"))
	o.Script = r.Bytes(MaxScript, "script")
	o.Amount = r.Amount()
	o.Index = uint32(r.Int(maxIndex, "index"))
	return o
}

func readProposal(r *codec.Reader) (m Proposal) {
	r.Fill(m.ID[:])
	r.Fill(m.Replaces[:])
	m.PSBT = r.Bytes(MaxPSBT, "PSBT")
	for n := r.Int(MaxInputs, "number of proofs"); n > 0 && r.Err() == nil; n-- {
		m.Proofs = append(m.Proofs, merkle.ReadProof(r))
	}
	for n := r.Int(MaxOrders, "number of orders"); n > 0 && r.Err() == nil; n-- {
		m.Orders = append(m.Orders, readOrder(r))
	}
	return m
}

func (m Consent) Append(b []byte) []byte { return m.append(head(b, typeConsent)) }

func (m *Consent) append(b []byte) []byte {
	b = append(b, m.ID[:]...)
	b = codec.AppendUint(b, m.Counter)
	b = codec.AppendUint(b, len(m.Signatures))
	for _, s := range m.Signatures {
		b = codec.AppendBytes(b, s)
	}
	return append(b, m.Mark[:]...)
}

func readConsent(r *codec.Reader) (m Consent) {
	r.Fill(m.ID[:])
	m.Counter = r.Uvarint()
	for n := r.Int(MaxInputs, "number of signatures"); n > 0 && r.Err() == nil; n-- {
		m.Signatures = append(m.Signatures, r.Bytes(maxSig, "signature"))
	}
	r.Fill(m.Mark[:])
	return m
}

func (m Refusal) Append(b []byte) []byte {
	b = append(head(b, typeRefusal), m.ID[:]...)
	b = append(b, byte(m.Reason))
	return codec.AppendBytes(b, m.Text[:min(len(m.Text), maxText)])
}

func readRefusal(r *codec.Reader) (m Refusal) {
	r.Fill(m.ID[:])
	m.Reason = Reason(r.U8())
	m.Text = r.String(maxText, "reason")
	return m
}

func (m AskHeaders) Append(b []byte) []byte {
	b = codec.AppendUint(head(b, typeAskHeaders), m.At)
	b = codec.AppendUint(b, len(m.Locator))
	for i := range m.Locator {
		b = append(b, m.Locator[i][:]...)
	}
	return b
}

func readAskHeaders(r *codec.Reader) (m AskHeaders) {
	m.At = r.Height()
	for n := r.Int(MaxLocator, "number of hashes"); n > 0 && r.Err() == nil; n-- {
		var h chainhash.Hash
		r.Fill(h[:])
		m.Locator = append(m.Locator, h)
	}
	return m
}

// Append leaves out what follows from the header before: headers that do not
// follow one another come out as others.
func (m Headers) Append(b []byte) []byte {
	b = codec.AppendUint(head(b, typeHeaders), m.From)
	b = codec.AppendUint(b, len(m.Headers))
	for i := range m.Headers {
		h := &m.Headers[i]
		if i == 0 {
			b = append(b, h.PrevBlock[:]...)
		}
		b = binary.BigEndian.AppendUint32(b, uint32(h.Version))
		b = append(b, h.MerkleRoot[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(h.Timestamp.Unix()))
		b = binary.BigEndian.AppendUint32(b, h.Bits)
		b = binary.BigEndian.AppendUint32(b, h.Nonce)
	}
	return b
}

func readHeaders(r *codec.Reader) (m Headers) {
	m.From = r.Height()
	n := r.Int(MaxHeaders, "number of headers")
	if n == 0 {
		return m
	}
	var prev chainhash.Hash
	r.Fill(prev[:])
	if r.Len() != n*headerSize {
		r.Fail(codec.ErrShort)
		return m
	}
	m.Headers = make([]wire.BlockHeader, n)
	for i := range m.Headers {
		m.Headers[i] = readHeader(r, prev)
		prev = m.Headers[i].BlockHash()
	}
	return m
}

// headerSize is a header without the hash of the one before, in bytes.
const headerSize = 48

var errSize = errors.New("message is too long")

// Decode reads one message. Anything that is not exactly one is an error.
func Decode(b []byte) (Message, error) {
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes; the limit is %d", errSize, len(b), MaxMessage)
	}
	r := codec.NewReader(b)
	typ := r.U16()
	var m Message
	switch typ {
	case typeProposal:
		m = readProposal(r)
	case typeConsent:
		m = readConsent(r)
	case typeRefusal:
		m = readRefusal(r)
	case typeAskHeaders:
		m = readAskHeaders(r)
	case typeHeaders:
		m = readHeaders(r)
	case typeSeen:
		s := Seen{}
		r.Fill(s.TxID[:])
		s.Consent = readConsent(r)
		m = s
	default:
		r.Fail(fmt.Errorf("message type %d is not of a consent", typ))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("message type %d: %w", typ, err)
	}
	return m, nil
}

func (m Seen) Append(b []byte) []byte {
	b = append(head(b, typeSeen), m.TxID[:]...)
	return m.Consent.append(b)
}
