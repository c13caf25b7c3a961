package fleet

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

// Limits of a message, in bytes.
const (
	MaxWhy     = trade.MaxWhy
	MaxReading = 512 // of an acknowledgement: a meter's value, a photo's hash. An ack then fits 1 KiB
	// MaxFirmware bounds the name of a device's firmware, MaxText a fault's words.
	MaxFirmware = 64
	MaxText     = 160

	maxSig = 64
)

// MaxGateways bounds the gateways that share a fleet. Each has a number below it,
// and a device counts each one's commands by themselves.
const MaxGateways = 16

// Message types, odd and custom (BOLT 1).
const (
	typeCommand = 0x8901 + 2*iota
	typeAck
	typeStatus
	typeTrouble
	typePolicy
	typeTime
	typeEnd
)

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ >= typeCommand && typ < typeEnd && typ%2 == 1 }

// A Message is one of those below. Core names the core that takes it.
type Message interface {
	Core() string
	Append(b []byte) []byte
}

// What a command asks for.
const (
	Open  = "open"  // give Units of Item
	Close = "close" // stop giving
)

// A Command tells a device to act, once, on behalf of an order. A repeated one
// is the same to the bit.
type Command struct {
	Gateway int    // number of the gateway that counts it
	Device  string // whose it is
	Seq     uint64 // of this device at this gateway, from 1
	Order   money.OrderID
	Verb    string
	Item    string
	Units   uint64
	Until   step.Time // when it is too late; 0 never
	Test    bool      // fired by the operator: it is no sale
	Sig     []byte    // by the gateway: 64 bytes by its node key, or 32 by the device's secret
}

// An Ack is a device's word on a command. OK: it has acted. Unknown: nobody can
// say. Neither: it has certainly not acted. A device answers a repeated command
// with the same ack.
type Ack struct {
	Gateway int
	Device  string
	Seq     uint64
	Order   money.OrderID
	Counter uint64 // of all acks that the device has ever made, from 1
	OK      bool
	Unknown bool
	Why     string // of one that is not OK, for people
	Reading []byte // what the device has to show for it
	Sig     []byte // by the device: 64 bytes by its key, or 32 by its secret
}

// Status is what a device says of itself when it comes up.
type Status struct {
	Device   string
	Firmware string
	Counter  uint64 // of its acks
}

// Trouble is something a person should see to: a jam, an empty shelf.
type Trouble struct {
	Device string
	Text   string
}

// Time tells a device that comes up, or says its Status, what the gateway's clock
// says. It is not signed, so it is as good as the link; a device with a clock of its
// own does not need it.
type Time struct{ At step.Time }

// Core is the device's.
func (Time) Core() string { return EndName }

// Core is the device's.
func (Command) Core() string { return EndName }

// Core is the gateway's fleet.
func (Ack) Core() string { return Name }

// Core is the gateway's fleet.
func (Status) Core() string { return Name }

// Core is the gateway's fleet.
func (Trouble) Core() string { return Name }

// Core is the device's.
func (Policy) Core() string { return EndName }

// Seal signs a command for the device that has the public key: with the gateway's
// node key. A device without a key has a secret that the two share.
func (m Command) Seal(node keys.Secret, device keys.Public, shared keys.Secret) Command {
	m.Sig = seal("command", m.text(device), node, shared)
	return m
}

// Verify checks that a command was signed for this device: by node, or by whoever
// has the shared secret.
func (m Command) Verify(node keys.Public, device keys.Public, shared keys.Secret) bool {
	return verify("command", m.text(device), m.Sig, node, shared)
}

// Seal signs an ack: with the device's key, or with the shared secret if that is
// set.
func (m Ack) Seal(device, shared keys.Secret) Ack {
	m.Sig = seal("ack", m.text(), device, shared)
	return m
}

// Verify checks that the device signed: with its key, or with the shared secret.
// It needs no more than the ack's bytes, so that a receipt's reader can do it too.
func (m Ack) Verify(device keys.Public, shared keys.Secret) bool {
	return verify("ack", m.text(), m.Sig, device, shared)
}

// text is what is signed: a line for each field. A microcontroller makes it with
// one snprintf. No field holds a line's end, and check sees to it. The device's
// key is in it, so that what was sent to a device cannot be played to the one that
// replaces it; one without a key gets a new secret for that.
func (m Command) text(device keys.Public) []byte {
	key := "-"
	if device != (keys.Public{}) {
		key = device.String()
	}
	return fmt.Appendf(nil, "%s\n%d\n%s\n%d\n%v\n%s\n%s\n%d\n%d\n%d",
		key, m.Gateway, m.Device, m.Seq, m.Order, m.Verb, m.Item, m.Units, m.Until, bit(m.Test))
}

func (m Ack) text() []byte {
	return fmt.Appendf(nil, "%d\n%s\n%d\n%v\n%d\n%d\n%x\n%s",
		m.Gateway, m.Device, m.Seq, m.Order, m.Counter, m.result(), m.Reading, m.Why)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (m Ack) result() int { return bit(m.OK) + 2*bit(m.Unknown) }

func seal(what string, text []byte, key, shared keys.Secret) []byte {
	if !shared.IsZero() {
		sum := shared.MAC(what, text)
		return sum[:]
	}
	sig := key.Sign(keys.Digest("coinop/"+what, text))
	return sig[:]
}

func verify(what string, text, sig []byte, key keys.Public, shared keys.Secret) bool {
	if !shared.IsZero() {
		sum := shared.MAC(what, text)
		return equal(sum[:], sig)
	}
	if len(sig) != maxSig {
		return false
	}
	return key.Verify(keys.Digest("coinop/"+what, text), keys.Signature(sig))
}

func (m Command) check() error {
	switch {
	case m.Gateway < 0 || m.Gateway >= MaxGateways:
		return fmt.Errorf("gateway %d is not one of %d", m.Gateway, MaxGateways)
	case m.Seq == 0:
		return errors.New("command 0: they are counted from 1")
	case !offer.ValidName(m.Device) || !offer.ValidName(m.Verb) || !offer.ValidName(m.Item):
		return fmt.Errorf("device %.70q, verb %.70q or item %.70q is no name", m.Device, m.Verb, m.Item)
	case m.Until < 0:
		return errors.New("its deadline is before 1970")
	}
	return checkSig(m.Sig)
}

func (m Ack) check() error {
	switch {
	case m.Gateway < 0 || m.Gateway >= MaxGateways:
		return fmt.Errorf("gateway %d is not one of %d", m.Gateway, MaxGateways)
	case m.Seq == 0 || m.Counter == 0:
		return errors.New("commands and acknowledgements are counted from 1")
	case !offer.ValidName(m.Device):
		return fmt.Errorf("device %.70q is no name", m.Device)
	case m.OK && m.Unknown:
		return errors.New("it cannot have acted and not know")
	case len(m.Why) > MaxWhy || len(m.Reading) > MaxReading:
		return fmt.Errorf("its reason has %d bytes, its reading %d; the limits are %d and %d", len(m.Why), len(m.Reading), MaxWhy, MaxReading)
	case m.Why != plain(m.Why, MaxWhy):
		return fmt.Errorf("its reason %.80q is not one line of text", m.Why)
	}
	return checkSig(m.Sig)
}

func checkSig(sig []byte) error {
	if len(sig) != 32 && len(sig) != maxSig {
		return fmt.Errorf("its signature has %d bytes; it must have 64, or 32 by a shared secret", len(sig))
	}
	return nil
}

// plain is text as it may stand in a log: of at most limit bytes, in one line.
func plain(text string, limit int) string {
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == 0xfffd {
			return ' '
		}
		return c
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), limit)], "")
}

func head(b []byte, typ uint16) []byte { return binary.BigEndian.AppendUint16(b, typ) }

// Append encodes the message behind its two-byte type.
func (m Command) Append(b []byte) []byte {
	b = codec.AppendUint(head(b, typeCommand), m.Gateway)
	b = codec.AppendBytes(b, m.Device)
	b = codec.AppendUint(b, m.Seq)
	b = append(b, m.Order[:]...)
	b = codec.AppendBytes(b, m.Verb)
	b = codec.AppendBytes(b, m.Item)
	b = codec.AppendUint(b, m.Units)
	b = codec.AppendUint(b, int64(m.Until))
	b = append(b, byte(bit(m.Test)))
	return codec.AppendBytes(b, m.Sig)
}

func readCommand(r *codec.Reader) Command {
	m := Command{Gateway: r.Int(MaxGateways-1, "gateway"), Device: r.String(trade.MaxName, "device"), Seq: r.Uvarint()}
	r.Fill(m.Order[:])
	m.Verb, m.Item = r.String(trade.MaxName, "verb"), r.String(trade.MaxName, "item")
	m.Units, m.Until, m.Test = r.Uvarint(), readTime(r), readBit(r)
	m.Sig = r.Bytes(maxSig, "signature")
	if err := m.check(); err != nil {
		r.Fail(err)
	}
	return m
}

// Append encodes the message behind its two-byte type.
func (m Ack) Append(b []byte) []byte {
	b = codec.AppendUint(head(b, typeAck), m.Gateway)
	b = codec.AppendBytes(b, m.Device)
	b = codec.AppendUint(b, m.Seq)
	b = append(b, m.Order[:]...)
	b = codec.AppendUint(b, m.Counter)
	b = append(b, byte(m.result()))
	b = codec.AppendBytes(b, m.Why)
	b = codec.AppendBytes(b, m.Reading)
	return codec.AppendBytes(b, m.Sig)
}

func readAck(r *codec.Reader) Ack {
	m := Ack{Gateway: r.Int(MaxGateways-1, "gateway"), Device: r.String(trade.MaxName, "device"), Seq: r.Uvarint()}
	r.Fill(m.Order[:])
	m.Counter = r.Uvarint()
	result := r.Int(2, "result")
	m.OK, m.Unknown = result == 1, result == 2
	m.Why, m.Reading, m.Sig = r.String(MaxWhy, "reason"), r.Bytes(MaxReading, "reading"), r.Bytes(maxSig, "signature")
	if err := m.check(); err != nil {
		r.Fail(err)
	}
	return m
}

// Append encodes the message behind its two-byte type.
func (m Status) Append(b []byte) []byte {
	b = codec.AppendBytes(head(b, typeStatus), m.Device)
	b = codec.AppendBytes(b, m.Firmware[:min(len(m.Firmware), MaxFirmware)])
	return codec.AppendUint(b, m.Counter)
}

// Append encodes the message behind its two-byte type.
func (m Trouble) Append(b []byte) []byte {
	b = codec.AppendBytes(head(b, typeTrouble), m.Device)
	return codec.AppendBytes(b, m.Text[:min(len(m.Text), MaxText)])
}

// Append encodes the message behind its two-byte type.
func (m Time) Append(b []byte) []byte { return codec.AppendUint(head(b, typeTime), int64(m.At)) }

// Decode reads one message. Anything that is not exactly one is an error.
func Decode(b []byte) (Message, error) {
	r := codec.NewReader(b)
	typ := r.U16()
	var m Message
	switch typ {
	case typeCommand:
		m = readCommand(r)
	case typeAck:
		m = readAck(r)
	case typeStatus:
		m = Status{r.String(trade.MaxName, "device"), r.String(MaxFirmware, "firmware"), r.Uvarint()}
	case typeTrouble:
		m = Trouble{r.String(trade.MaxName, "device"), r.String(MaxText, "text")}
	case typePolicy:
		m = readPolicy(r)
	case typeTime:
		m = Time{readTime(r)}
	default:
		r.Fail(fmt.Errorf("message type %d is not about a fleet", typ))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("message type %d: %w", typ, err)
	}
	return m, nil
}

func readTime(r *codec.Reader) step.Time { return step.Time(r.Uint(maxTime, "time")) }

// maxTime is the year 10889: no sum of two such times overflows.
const maxTime = 1<<48 - 1

func readBit(r *codec.Reader) bool { return r.Int(1, "flag") == 1 }

// ParseAck reads an acknowledgement as it is kept with its order: the bytes that
// Append wrote.
func ParseAck(b []byte) (Ack, error) {
	m, err := Decode(b)
	if err != nil {
		return Ack{}, err
	}
	a, ok := m.(Ack)
	if !ok {
		return a, errors.New("these bytes are no acknowledgement")
	}
	return a, nil
}

// hexBytes stands in JSON as hex.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}
