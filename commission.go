package coinop

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/channel/payword"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/offer"
	"coinop.dev/engine"
	"coinop.dev/world/store/mem"
)

// A Blob is what a device of sdk/c starts from, beside its key.
type Blob struct {
	Name string // in its gateway's fleet
	// Gateway gives it commands and policies: a node key (33 bytes), or a secret that
	// the two share (32), or nobody.
	Gateway []byte
	Index   uint64        // of oneway.FundingKey
	Tickets *oneway.Terms // nil: it has no such channel
	Coins   *payword.Terms
}

const blobVersion = 1

// Append encodes it as sdk/c/README.md says.
func (v Blob) Append(b []byte) []byte {
	b = codec.AppendBytes(append(b, blobVersion), v.Name)
	b = codec.AppendBytes(b, v.Gateway)
	b = codec.AppendUint(b, v.Index)
	var funded, agreed []byte
	if v.Tickets != nil {
		funded = oneway.Funded{Terms: *v.Tickets}.Append(nil)
	}
	if v.Coins != nil {
		agreed = payword.Agreed{Terms: *v.Coins}.Append(nil)
	}
	b = codec.AppendBytes(b, funded)
	return codec.AppendBytes(b, agreed)
}

// A Commission says which channels a microcontroller gets.
type Commission struct {
	Name     string      // the device's, in its gateway's fleet
	Key      keys.Secret // the device's; it is not kept
	To       string      // oneway://<gateway's key>@host:port
	Capacity Amount      // of the channel, from the machine's wallet
	Life     int32       // blocks until what the device has not paid can come back; 0: LongLife
	FeeRate  tx.FeeRate  // of the funding and the closing; 0: the least
	// Coin is what a coin is worth, and Every what they are settled by; 0: the device
	// pays by tickets only. A chain has Chain coins, a power of two; 0: SmallChain.
	Coin, Every Amount
	Chain       uint64
	// Save is called once, before any money moves. If it fails none does.
	Save func(Commissioned) error
}

// Defaults of a Commission.
const (
	// LongLife is half a year of blocks: a device stands where nobody goes.
	LongLife = 26_280
	// SmallChain is the longest that sdk/c takes as it comes.
	SmallChain = 1 << 12
)

// Commissioned is what a device gets, and what its owner keeps.
type Commissioned struct {
	Blob    Blob
	Device  keys.Public
	Funding *wire.MsgTx
	// Refund brings all that is in the channel back to the machine's wallet. It is
	// signed, and good from block Expiry on, its lock time, unless the payee has
	// closed the channel before.
	Refund *wire.MsgTx
	Expiry int32
}

func (c *Commission) check() error {
	switch {
	case !offer.ValidName(c.Name):
		return fmt.Errorf("device %.70q is no name", c.Name)
	case c.Key.IsZero():
		return errors.New("a device needs a key")
	case c.Coin > 0 && (c.Every < c.Coin || c.Every%c.Coin != 0 || c.Every > c.Capacity):
		return fmt.Errorf("settlements of %v must be in whole coins of %v, and at most the capacity", c.Every, c.Coin)
	case c.Chain > 0 && (c.Chain < payword.MinLength || c.Chain&(c.Chain-1) != 0):
		return fmt.Errorf("a chain has a power of two of coins, not %d", c.Chain)
	}
	return nil
}

// Commission opens channels for a device that cannot do it itself, in its name and
// with this machine's money, and returns when the payee is ready for the device. A
// machine of the device's key stands in for it meanwhile; afterwards only the device
// has the key. If ctx ends after Save, what is saved is good: the device announces
// the channels itself.
func (m *Machine) Commission(ctx context.Context, c Commission) (done Commissioned, err error) {
	if err := c.check(); err != nil {
		return done, invalid(err)
	}
	u, err := url.Parse(c.To)
	if err != nil || u.Scheme != "oneway" || u.User == nil {
		return done, invalid(fmt.Errorf("%.100q is not oneway://<gateway's key>@<host>:<port>", c.To))
	}
	gateway, addr, err := engine.Address(u.User.Username() + "@" + u.Host)
	if err != nil {
		return done, invalid(err)
	}
	if m.Chain == nil {
		return done, invalid(errors.New("a channel is funded on a chain; configure one"))
	}
	if c.Life == 0 {
		c.Life = LongLife
	}
	if c.Chain == 0 {
		c.Chain = SmallChain
	}
	c.FeeRate = max(c.FeeRate, tx.MinFeeRate)
	db, err := mem.New(nil)
	if err != nil {
		return done, err
	}
	s := &standIn{Commission: c, m: m, gateway: gateway, said: make(chan message.Message, 16)}
	s.as = engine.New(ctx, engine.Options{Key: c.Key, DB: db, Log: m.options.log, Now: m.options.now})
	defer s.as.Close()
	s.as.AddDoor(s.hear)
	if err := s.as.Connect(ctx, addr, gateway); err != nil {
		return done, err
	}
	if err := s.agree(ctx); err != nil {
		return done, err
	}
	return s.done, s.fund(ctx)
}

// A standIn is the device while its channels are opened.
type standIn struct {
	Commission
	m       *Machine
	as      *engine.Machine
	gateway keys.Public
	said    chan message.Message
	done    Commissioned
}

// hear takes what the gateway says of channels.
func (s *standIn) hear(from keys.Public, msg message.Message) bool {
	switch msg.(type) {
	case oneway.Accept, oneway.Reject, oneway.Ready, payword.Accept, payword.Reject, payword.Ready:
		return from == s.gateway && engine.Offer(s.said, msg)
	}
	return false
}

// sayAgain is when what nobody has answered is said again: links lose messages.
const sayAgain = time.Second

// say says something until an answer is the one that is wanted.
func (s *standIn) say(ctx context.Context, msg message.Message, wanted func(message.Message) (bool, error)) error {
	for {
		s.as.Send(s.gateway, msg)
		again := time.After(sayAgain)
		for waiting := true; waiting; {
			select {
			case answer := <-s.said:
				if ok, err := wanted(answer); ok || err != nil {
					return err
				}
			case <-again:
				waiting = false
			case <-ctx.Done():
				return fmt.Errorf("the gateway has not answered %T: %w", msg, ctx.Err())
			case <-s.as.Stopped():
				return s.as.Err()
			}
		}
	}
}

// agree makes the terms of both channels, and puts them into the blob.
func (s *standIn) agree(ctx context.Context) error {
	tip, _, err := s.m.Chain.Tip(ctx)
	if err != nil {
		return err
	}
	device := s.Key.Public()
	index, number := random(), random()
	tickets := oneway.Terms{Proposal: oneway.Proposal{
		PayerNode: device, PayerKey: oneway.FundingKey(s.Key, index).Public(), Capacity: s.Capacity,
		Expiry: tip + s.Life, FeeRate: s.FeeRate, PayerScript: tx.P2WPKH(s.m.Wallet().Public()),
	}}
	id := oneway.IDOf(tickets.PayerKey, s.gateway)
	err = s.say(ctx, oneway.Open{ID: id, Proposal: tickets.Proposal}, func(msg message.Message) (bool, error) {
		switch msg := msg.(type) {
		case oneway.Accept:
			tickets.Answer = msg.Answer
			return msg.ID == id, nil
		case oneway.Reject:
			return false, rejected("the channel", msg.Why)
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	s.done = Commissioned{
		Blob:   Blob{Name: s.Name, Gateway: s.gateway[:], Index: index, Tickets: &tickets},
		Device: device, Expiry: tickets.Expiry,
	}
	if s.Coin == 0 {
		return nil
	}
	every := uint64(s.Every / s.Coin)
	coins := payword.Terms{Proposal: payword.Proposal{
		PayerNode: device, Number: number, Coin: s.Coin, Length: s.Chain, Every: every, Credit: 2 * every, Settle: oneway.PayerName(id),
	}}
	channel := payword.IDOf(device, s.gateway, number)
	s.done.Blob.Coins = &coins
	return s.say(ctx, payword.Open{ID: channel, Proposal: coins.Proposal}, func(msg message.Message) (bool, error) {
		switch msg := msg.(type) {
		case payword.Accept:
			coins.Answer = msg.Answer
			return msg.ID == channel, nil
		case payword.Reject:
			return false, rejected("the channel of coins", msg.Why)
		}
		return false, nil
	})
}

func rejected(what, why string) error {
	return &Error{Kind: Refused, Op: "commission", Err: fmt.Errorf("the gateway rejects %s: %q", what, why)}
}

func random() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// fund saves what the device and its owner need, moves the money, and waits until
// the gateway is ready.
func (s *standIn) fund(ctx context.Context) error {
	if err := s.publish(ctx); err != nil {
		return err
	}
	tickets, coins := s.done.Blob.Tickets, s.done.Blob.Coins
	err := s.say(ctx, oneway.Funded{Terms: *tickets}, func(msg message.Message) (bool, error) {
		switch msg := msg.(type) {
		case oneway.Ready:
			return msg.ID == tickets.ID(), nil
		case oneway.Reject:
			return false, rejected("the funded channel; its money comes back with the refund", msg.Why)
		}
		return false, nil
	})
	if err != nil || coins == nil {
		return err
	}
	return s.say(ctx, payword.Agreed{Terms: *coins}, func(msg message.Message) (bool, error) {
		switch msg := msg.(type) {
		case payword.Ready:
			return msg.ID == coins.ID(), nil
		case payword.Reject:
			return false, rejected("the channel of coins", msg.Why)
		}
		return false, nil
	})
}

// publish pays into the channel. The wallet is held until the chain knows.
func (s *standIn) publish(ctx context.Context) error {
	s.m.Engine.Wallet.Lock()
	defer s.m.Engine.Wallet.Unlock()
	tickets := s.done.Blob.Tickets
	coins, err := s.m.Chain.Coins(ctx, tickets.PayerScript)
	if err != nil {
		return err
	}
	var spendable []tx.Coin
	for _, coin := range coins {
		if coin.Spendable() && coin.Depth > 0 {
			spendable = append(spendable, coin.Coin)
		}
	}
	if s.done.Funding, _, err = tx.Pay(s.m.Wallet(), spendable, []*wire.TxOut{tickets.Output()}, s.FeeRate); err != nil {
		return fmt.Errorf("fund a channel of %v: %w", s.Capacity, err)
	}
	tickets.Point = wire.OutPoint{Hash: s.done.Funding.TxHash()}
	err = tickets.Check()
	if c := s.done.Blob.Coins; err == nil && c != nil {
		err = c.Check()
	}
	if err == nil && tickets.Payee.Node != s.gateway {
		err = errors.New("they are another node's")
	}
	if err != nil {
		return invalid(fmt.Errorf("the gateway's terms: %w", err))
	}
	s.done.Refund = tickets.Refund(oneway.FundingKey(s.Key, s.done.Blob.Index))
	if s.Save != nil {
		if err := s.Save(s.done); err != nil {
			return err
		}
	}
	if err := s.m.Chain.Publish(ctx, s.done.Funding); err != nil {
		return fmt.Errorf("publish the funding: %w", err)
	}
	return nil
}
