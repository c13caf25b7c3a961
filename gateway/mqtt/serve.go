package mqtt

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// readBuffer is what a connection reads into, in bytes: a coin and its topic.
const readBuffer = 512

// serve is the broker's side of one connection, from its first packet to its
// end.
func (c *conn) serve() {
	r := bufio.NewReaderSize(c.Conn, readBuffer)
	c.SetReadDeadline(time.Now().Add(loginWithin))
	err := c.first(r)
	c.b.met(c)
	if err != nil {
		c.b.Log.Info("mqtt: refused", "from", c.RemoteAddr(), "err", err)
		return
	}
	if !c.b.enter(c) {
		c.Drop(QuotaExceeded)
		return
	}
	if err = c.join(r); err != nil {
		c.b.Log.Debug("mqtt: gone", "client", c.who, "err", err)
	}
	c.bequeath(err)
	c.b.leave(c)
	if c.session != nil {
		c.session.Close()
	}
}

// join starts the session, and reads packets until there is none.
func (c *conn) join(r *bufio.Reader) (err error) {
	if c.session, err = c.b.handler.Join(c.who, c); err != nil {
		c.b.Log.Warn("mqtt: join", "client", c.who, "err", err)
		c.Drop(QuotaExceeded)
		return err
	}
	for err == nil {
		if err = c.packet(r); err == nil && !c.heard {
			c.heard = true
			c.session.Heard()
		}
	}
	return c.part(err)
}

// errGoodbye is the end that a client has announced.
var errGoodbye = errors.New("the client has disconnected")

// part tells a client of MQTT 5 what it did wrong.
func (c *conn) part(err error) error {
	if err == errGoodbye {
		return nil
	}
	var why Refusal
	if errors.As(err, &why) {
		c.b.Log.Info("mqtt: disconnected", "client", c.who, "err", err)
		c.Drop(byte(why))
	}
	return err
}

// first reads the CONNECT packet and answers it.
func (c *conn) first(r *bufio.Reader) error {
	if b, err := r.Peek(1); err != nil || b[0] != typeConnect {
		return cmp.Or(err, errMalformed)
	}
	_, body, err := readPacket(r, nil)
	if err != nil {
		return err
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect, Remaining: len(body)}}
	if err := pk.ConnectDecode(body); err != nil {
		return err
	}
	c.v5 = pk.ProtocolVersion == protocolLevel5
	if code := pk.ConnectValidate(); code != packets.CodeSuccess {
		c.connack(code.Code, 1, nil)
		return code
	}
	if pk.ProtocolVersion < protocolLevel31 {
		c.connack(unsupportedVersion, 1, nil)
		return errors.New("MQTT 3.1 is not spoken here; 3.1.1 and 5 are")
	}
	login := Login{pk.Connect.ClientIdentifier, string(pk.Connect.Username), string(pk.Connect.Password)}
	who, err := c.b.handler.Login(login)
	if err != nil {
		c.connack(badUserOrPassword, 4, nil)
		return fmt.Errorf("client %.80q: %w", login.ClientID, err)
	}
	if w := pk.Connect; w.WillFlag {
		c.will = &Message{Topic: w.WillTopic, Payload: slices.Clone(w.WillPayload)}
	}
	c.welcome(who, &pk)
	return nil
}

// welcome grants what was asked for as far as the limits go.
func (c *conn) welcome(who Who, pk *packets.Packet) {
	c.window, c.largest = MaxInflight, int(pk.Properties.MaximumPacketSize)
	c.quiet = !c.v5 || pk.Properties.RequestProblemInfoFlag && pk.Properties.RequestProblemInfo == 0
	if most := pk.Properties.ReceiveMaximum; c.v5 && most > 0 {
		c.window = min(c.window, int32(most))
	}
	var props []byte
	keepalive := time.Duration(pk.Connect.Keepalive) * time.Second
	if keepalive == 0 || keepalive > MaxKeepalive {
		keepalive = MaxKeepalive
		props = binary.BigEndian.AppendUint16(append(props, propServerKeepalive), uint16(keepalive/time.Second))
	}
	c.silence = keepalive * 3 / 2
	if pk.Connect.ClientIdentifier == "" {
		props = appendString(append(props, propAssignedClientID), who.Name)
	}
	props = binary.BigEndian.AppendUint16(append(props, propReceiveMaximum), MaxInflight)
	props = append(props, propMaximumQoS, 1, propSubscriptionIDs, 0, propSharedSubscriptions, 0)
	props = binary.BigEndian.AppendUint32(append(props, propMaximumPacket), MaxPacket)
	c.who = who
	c.connack(Success, Success, props)
	c.told.Store(true)
}

// connack answers CONNECT: by code to MQTT 5, by code3 to 3.1.1. A session is
// never present.
func (c *conn) connack(code, code3 byte, props []byte) {
	c.answer(func(b []byte) []byte {
		if !c.v5 {
			return append(b, typeConnack, 2, 0, code3)
		}
		b = appendVarint(append(b, typeConnack), 2+varintSize(len(props))+len(props))
		return append(appendVarint(append(b, 0, code), len(props)), props...)
	})
}

// packet reads one packet and does what it asks for.
func (c *conn) packet(r *bufio.Reader) error {
	now := time.Now()
	c.SetReadDeadline(now.Add(c.silence))
	if _, err := r.Peek(1); err != nil {
		return err
	}
	// The buffer is held only while there is a packet in it.
	buf := buffers.Get().(*[]byte)
	defer free(buf)
	first, body, err := readPacket(r, (*buf)[:0])
	*buf = body
	if err != nil {
		return err
	}
	if !c.bucket.take(time.Now(), c.b.Rate, c.b.Burst) {
		return Refusal(RateTooHigh)
	}
	switch first & 0xf0 {
	case typePublish:
		return c.publish(first, body)
	case typePuback:
		if c.unacked.Load() > 0 {
			c.unacked.Add(-1)
		}
		return nil
	case typePingreq:
		return c.answer(func(b []byte) []byte { return append(b, typePingresp, 0) })
	case typeSubscribe & 0xf0:
		return c.subscribe(body)
	case typeUnsubscribe & 0xf0:
		return c.unsubscribe(body)
	case typeDisconnect:
		if len(body) > 0 && body[0] != Success {
			return fmt.Errorf("the client disconnects with reason code %#02x", body[0])
		}
		return errGoodbye
	}
	return Refusal(protocolError)
}

func (c *conn) publish(first byte, body []byte) error {
	if first>>1&3 > 1 {
		return Refusal(qosNotSupported)
	}
	m, id, err := parsePublish(first, body, c.v5)
	if err != nil {
		return Refusal(malformedPacket)
	}
	v := c.received(m)
	if m.QoS == 0 {
		return nil
	}
	if c.quiet {
		v.User = nil
	}
	return c.answer(func(b []byte) []byte { return appendPuback(b, id, v, c.v5) })
}

func (c *conn) received(m Message) Verdict {
	at, err := ParseTopic(m.Topic)
	switch {
	case err != nil:
		return refuse(TopicInvalid, err)
	case !c.who.mayPublish(at):
		return Verdict{Code: NotAuthorized}
	case len(m.Payload) > MaxPayload:
		return Verdict{Code: PacketTooLarge}
	case m.Reply != "" && !c.who.mayAnswerOn(m.Reply):
		return refuse(NotAuthorized, fmt.Errorf("a response topic must be below %s", c.who.owner()))
	}
	return c.session.Received(Incoming{Message: m, At: at, V5: c.v5, Acked: c.quiet || m.QoS == 0})
}

// bequeath publishes the last will of a client that is gone without a word, and
// not merely come back by another connection.
func (c *conn) bequeath(err error) {
	if err == nil || c.will == nil || c.session == nil {
		return
	}
	c.b.mu.Lock()
	current := c.b.clients[c.who.owner()] == c
	c.b.mu.Unlock()
	if current {
		c.received(*c.will)
	}
}

// subscribe keeps the filters with the connection: an index of topics would cost
// more than the rest of a device. What a broker would have retained follows.
func (c *conn) subscribe(body []byte) error {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1, Remaining: len(body)}, ProtocolVersion: c.version()}
	if err := pk.SubscribeDecode(body); err != nil || pk.SubscribeValidate() != packets.CodeSuccess {
		return Refusal(malformedPacket)
	}
	codes := make([]byte, len(pk.Filters))
	for i, f := range pk.Filters {
		if codes[i] = c.grant(filter{strings.Clone(f.Filter), min(f.Qos, 1)}); codes[i] > 1 && !c.v5 {
			codes[i] = unspecified
		}
	}
	if err := c.answer(func(b []byte) []byte { return c.appendCodes(b, typeSuback, pk.PacketID, codes) }); err != nil {
		return err
	}
	for i, f := range pk.Filters {
		if codes[i] <= 1 {
			c.retained(f.Filter)
		}
	}
	return nil
}

// grant adds a filter and returns the QoS it has, or why not.
func (c *conn) grant(f filter) (code byte) {
	if !c.who.mayRead(f.name) {
		return NotAuthorized
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	have := slices.IndexFunc(c.filters, func(old filter) bool { return old.name == f.name })
	switch {
	case have >= 0:
		c.filters[have] = f
	case len(c.filters) >= MaxFilters:
		return QuotaExceeded
	default:
		c.filters = append(c.filters, f)
	}
	return f.qos
}

func (c *conn) retained(filter string) {
	t, err := ParseTopic(filter)
	if err != nil || t.Class != Offers {
		t = Topic{c.who.Tenant, c.who.Name, Offers, ""}
		if !c.who.IsDevice() || !matches(filter, t.String()) {
			return
		}
	}
	if kept := c.session.Retained(t); kept != nil {
		c.Publish(Message{Topic: t.String(), Payload: kept, QoS: 1, Retain: true})
	}
}

func (c *conn) unsubscribe(body []byte) error {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1, Remaining: len(body)}, ProtocolVersion: c.version()}
	if err := pk.UnsubscribeDecode(body); err != nil || len(pk.Filters) == 0 {
		return Refusal(malformedPacket)
	}
	c.mu.Lock()
	for _, f := range pk.Filters {
		c.filters = slices.DeleteFunc(c.filters, func(old filter) bool { return old.name == f.Filter })
	}
	c.mu.Unlock()
	return c.answer(func(b []byte) []byte {
		return c.appendCodes(b, typeUnsuback, pk.PacketID, make([]byte, len(pk.Filters)))
	})
}

func (c *conn) version() byte {
	if c.v5 {
		return protocolLevel5
	}
	return protocolLevel31
}

// appendCodes writes a SUBACK or an UNSUBACK, which has no codes in 3.1.1.
func (c *conn) appendCodes(b []byte, typ byte, id uint16, codes []byte) []byte {
	if !c.v5 && typ == typeUnsuback {
		codes = nil
	}
	size := 2 + len(codes)
	if c.v5 {
		size++
	}
	b = binary.BigEndian.AppendUint16(appendVarint(append(b, typ), size), id)
	if c.v5 {
		b = append(b, 0)
	}
	return append(b, codes...)
}
