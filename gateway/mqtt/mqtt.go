// Package mqtt is the gateway's door for devices that speak MQTT.
//
// A Bus carries messages: Embedded is a broker in this process, External a
// client of the user's own MQTT 5 broker. A Door is what the gateway does with
// them: it lets devices in, hands their payments to the machine, their
// acknowledgements to the fleet, and sells to whoever asks for an offer.
//
// Money never depends on a broker's delivery. What moves it is cumulative or
// carries an identity, is acknowledged by the application, and is repeated
// until it is: a message that is lost, repeated or late changes nothing but the
// time. So no session outlives its connection, nothing waits for a device that
// is away, and a device that reads too slowly loses messages, not money.
//
// The embedded broker routes nothing from one client to another. Every message
// goes to the gateway or comes from it, so there is no list of rights to get
// wrong, and a device costs the same whether there are a hundred or ten
// thousand.
package mqtt

import (
	"errors"
	"time"

	"coinop.dev/core/keys"
)

// Limits of the door, each with its reason.
const (
	// MaxPayload bounds a message's payload in bytes: the largest goods
	// (trade.MaxPayload) with their envelope.
	MaxPayload = 33 << 10
	// MaxPacket bounds a packet on the wire, with topic and properties.
	MaxPacket = MaxPayload + 7<<10
	// MaxTopic bounds a topic or a filter in bytes, MaxDepth its levels: the
	// deepest is coinop/{tenant}/{device}/event/{kind}.
	MaxTopic = 256
	MaxDepth = 5
	// MaxUser bounds the user properties of a message.
	MaxUser = 16
	// MaxFilters bounds the subscriptions of one connection.
	MaxFilters = 8
	// MaxQueue bounds what waits to be written to one connection, in bytes: a
	// few seconds of a radio link. What does not fit is lost, and said again.
	MaxQueue = 16 << 10
	// MaxInflight bounds the messages of QoS 1 that a client has not
	// acknowledged. Above it the next is lost, and said again.
	MaxInflight = 64
	// MaxConnections is how many clients may be connected unless Options says
	// otherwise, MaxBuyers how many of them may be nobody's device.
	MaxConnections = 16_384
	MaxBuyers      = 1024
	// MaxUnknown is how many connections may be there that have not logged in. One
	// more ends the oldest, so that those who never do leave room for devices.
	MaxUnknown = 1024
	// Rate is how many packets a second a client may send, Burst how many at
	// once. A device that pays once a second uses one or two.
	Rate  = 20
	Burst = 60
	// MaxKeepalive is the longest silence that is trusted to a client; who asks
	// for more, or for no limit, is told this.
	MaxKeepalive = 10 * time.Minute
	// loginWithin is how long a connection may stay unknown.
	loginWithin = 10 * time.Second
	// writeWithin is how long a full socket is waited for.
	writeWithin = 20 * time.Second
	// closeWithin is how long the last words to a client may take.
	closeWithin = time.Second
)

// Reason codes of MQTT 5 that this door uses (section 2.4).
const (
	Success            = 0x00
	NotAuthorized      = 0x87
	ServerBusy         = 0x89
	TopicInvalid       = 0x90
	PacketTooLarge     = 0x95
	RateTooHigh        = 0x96
	QuotaExceeded      = 0x97
	Administrative     = 0x98
	PayloadInvalid     = 0x99
	unspecified        = 0x80
	badUserOrPassword  = 0x86
	sessionTakenOver   = 0x8e
	qosNotSupported    = 0x9b
	serverShuttingDown = 0x8b
	malformedPacket    = 0x81
	protocolError      = 0x82
	unsupportedVersion = 0x84
)

// A Property is a user property of MQTT 5.
type Property struct{ Name, Value string }

// The user properties of paid messages.
const (
	PropOffer = "pay-offer" // an Offer, as JSON
	PropProof = "pay-proof" // TOKEN, TOKEN:PREIMAGE in hex, or {"token":…,"receipt":…}
	PropUnits = "pay-units" // how many units; 1 if it is missing
	PropError = "pay-error" // why not
)

// A Message is what is published.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte // 0 or 1
	Retain  bool

	// MQTT 5 only.
	Reply string // response topic
	Match []byte // correlation data: what an answer carries back
	User  []Property
}

// Property is the value of the first user property called name.
func (m *Message) Property(name string) (value string, ok bool) {
	for _, p := range m.User {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// A Bus carries messages between the gateway and its clients.
type Bus interface {
	// Publish queues a message for whoever its topic belongs to. It never
	// blocks; what cannot be queued is lost and the error says so.
	Publish(Message) error
	// Connected lists the devices that this gateway serves now, as
	// tenant/device.
	Connected() []string
	Close() error
}

// Errors of Publish. None needs an answer: what matters is said again.
var (
	ErrSlow          = errors.New("the client reads too slowly; the message is lost")
	ErrAway          = errors.New("the client is not connected; the message is lost")
	ErrTooLarge      = errors.New("the message is larger than the client takes; it is lost")
	ErrNotSubscribed = errors.New("the client has not subscribed to the topic; the message is lost")
)

// Who is a client that has been let in.
type Who struct {
	Tenant string // empty for a buyer who is nobody's device
	Name   string
	Key    keys.Public // of the device's node; zero if it cannot sign
}

// IsDevice reports whether it is a device of the fleet.
func (w Who) IsDevice() bool { return w.Tenant != "" }

// String is tenant/device, or the name alone.
func (w Who) String() string {
	if w.Tenant == "" {
		return w.Name
	}
	return w.Tenant + "/" + w.Name
}

// A Login is what a client says of itself when it connects.
type Login struct{ ClientID, User, Password string }

// A Peer is the way back to a client.
type Peer interface {
	// Publish is Bus.Publish, for this client.
	Publish(Message) error
	// Drop ends the connection and tells the client the reason code.
	Drop(code byte)
}

// A Handler is what a bus brings its messages to. Its methods are called by
// many goroutines.
type Handler interface {
	// Login decides who connects. The embedded broker asks.
	Login(Login) (Who, error)
	// Find says who speaks on the topics of a device. The external broker has
	// let it in already.
	Find(tenant, name string) (Who, error)
	// Join starts a session. Of two sessions of one client the later counts.
	Join(Who, Peer) (Session, error)
}

// A Session is one client while it is connected. Received is called by one
// goroutine at a time.
type Session interface {
	Received(Incoming) Verdict
	// Heard is called once, after the first packet that follows the login: a
	// subscription, from a client that expects something.
	Heard()
	// Retained is what a broker would have kept on a topic that is subscribed
	// to now; nil for nothing.
	Retained(Topic) []byte
	Close()
}

// Incoming is a message that a client has published. Its payload is valid until
// Received returns.
type Incoming struct {
	Message
	At    Topic
	V5    bool // the client speaks MQTT 5
	Acked bool // it is acknowledged already, so a verdict reaches nobody
}

// A Verdict is how a message is acknowledged.
type Verdict struct {
	Code byte
	User []Property
}
