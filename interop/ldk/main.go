// Command ldk is one LDK Node as a process. It does what it is told in JSON on
// its standard input, answers on its standard output, and ends with its input.
//
// It is a module of its own, because LDK Node is a library in Rust: only what
// is built here needs a C compiler and the 30 MB of libldk_node.so, which stays
// in Go's module cache.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"time"

	"github.com/getAlby/ldk-node-go/ldk_node"
)

// A request, and its answer. Many may be under way at once.
type (
	request struct {
		ID   int64
		Do   string
		Args json.RawMessage
	}
	answer struct {
		ID     int64
		Err    string `json:",omitempty"`
		Result any    `json:",omitempty"`
	}
)

func main() {
	log.SetFlags(0)
	s := &server{out: json.NewEncoder(os.Stdout), claimable: map[string]bool{}, failed: map[string]ldk_node.PaymentFailureReason{}}
	if err := s.serve(os.Stdin); err != nil {
		log.Fatal(err)
	}
}

type server struct {
	sending sync.Mutex // of out
	out     *json.Encoder
	node    *ldk_node.Node

	mu        sync.Mutex
	claimable map[string]bool                          // by hash: payments that wait for our word
	failed    map[string]ldk_node.PaymentFailureReason // by payment
}

func (s *server) serve(in io.Reader) error {
	defer func() {
		if s.node != nil {
			s.node.Stop()
		}
	}()
	for d := json.NewDecoder(bufio.NewReader(in)); ; {
		var r request
		if err := d.Decode(&r); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if s.node == nil {
			s.reply(r)
		} else {
			go s.reply(r)
		}
	}
}

func (s *server) reply(r request) {
	result, err := s.do(r)
	a := answer{ID: r.ID, Result: result}
	if err != nil {
		a.Err = err.Error()
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	s.out.Encode(a)
}

// args of all requests: each uses some.
type args struct {
	Home, Alias, Listen string
	RPCHost             string
	RPCPort             uint16
	RPCUser, RPCPass    string
	Electrum            string // "host:port" of a server, instead of the RPC

	Node, Addr    string // of a peer
	Sat, PushMsat uint64
	Public        bool
	Channel       string // LDK's user channel ID
	Force         bool
	Msat          uint64
	Bill          string
	Hash          string // of a bill that waits, in hex; or none
	Preimage      string
}

func (s *server) do(r request) (any, error) {
	var a args
	if len(r.Args) > 0 {
		if err := json.Unmarshal(r.Args, &a); err != nil {
			return nil, err
		}
	}
	if r.Do == "start" {
		return s.start(a)
	}
	if s.node == nil {
		return nil, errors.New("not started")
	}
	n := s.node
	switch r.Do {
	case "height":
		return n.Status().CurrentBestBlock.Height, nil
	case "sync":
		return nil, n.SyncWallets()
	case "address":
		return n.OnchainPayment().NewAddress()
	case "balance":
		return s.balance(), nil
	case "send":
		return n.OnchainPayment().SendToAddress(a.Addr, a.Sat, nil)
	case "connect":
		return nil, n.Connect(a.Node, a.Addr, true)
	case "open":
		open := n.OpenChannel
		if a.Public {
			open = n.OpenAnnouncedChannel
		}
		return open(a.Node, a.Addr, a.Sat, &a.PushMsat, nil)
	case "channels":
		return s.channels(), nil
	case "graph":
		known := 0 // with what both ends ask for: LDK uses no others
		g := n.NetworkGraph()
		for _, id := range g.ListChannels() {
			if c := g.Channel(id); c != nil && c.OneToTwo != nil && c.TwoToOne != nil {
				known++
			}
		}
		return known, nil
	case "close":
		if a.Force {
			return nil, n.ForceCloseChannel(a.Channel, a.Node, nil)
		}
		return nil, n.CloseChannel(a.Channel, a.Node)
	case "bill":
		return s.bill(a)
	case "pay":
		i, err := ldk_node.Bolt11InvoiceFromStr(a.Bill)
		if err != nil {
			return nil, err
		}
		return s.follow(n.Bolt11Payment().Send(i, nil))
	case "keysend":
		return s.follow(n.SpontaneousPayment().Send(a.Msat, a.Node, nil))
	case "held":
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.claimable[a.Hash], nil
	case "settle":
		return nil, n.Bolt11Payment().ClaimForHash(a.Hash, a.Msat, a.Preimage)
	case "cancel":
		return nil, n.Bolt11Payment().FailForHash(a.Hash)
	}
	return nil, fmt.Errorf("nothing is called %q", r.Do)
}

func (s *server) start(a args) (any, error) {
	c := ldk_node.DefaultConfig()
	c.StorageDirPath, c.Network, c.ListeningAddresses, c.NodeAlias = a.Home, ldk_node.NetworkRegtest, &[]string{a.Listen}, &a.Alias
	b := ldk_node.BuilderFromConfig(c)
	level := ldk_node.LogLevelDebug
	b.SetFilesystemLogger(nil, &level)
	if a.Electrum != "" {
		b.SetChainSourceElectrum("tcp://"+a.Electrum, nil)
	} else {
		b.SetChainSourceBitcoindRpc(a.RPCHost, a.RPCPort, a.RPCUser, a.RPCPass)
	}
	b.SetGossipSourceP2p()
	n, err := b.Build()
	if err != nil {
		return nil, err
	}
	if err := n.Start(); err != nil {
		return nil, err
	}
	s.node = n
	go s.events()
	return n.NodeId(), nil
}

// events notes what nobody can ask LDK for later.
func (s *server) events() {
	for {
		e := s.node.WaitNextEvent()
		s.mu.Lock()
		switch e := e.(type) {
		case ldk_node.EventPaymentClaimable:
			s.claimable[e.PaymentHash] = true
		case ldk_node.EventPaymentFailed:
			if e.PaymentId != nil && e.Reason != nil {
				s.failed[*e.PaymentId] = *e.Reason
			}
		}
		s.mu.Unlock()
		if err := s.node.EventHandled(); err != nil {
			log.Print(err)
			return
		}
	}
}

type balance struct {
	Sat     uint64 // in the wallet
	Closing int    // outputs of closed channels that it has not got yet
}

func (s *server) balance() balance {
	b := s.node.ListBalances()
	v := balance{Sat: b.TotalOnchainBalanceSats}
	for _, l := range b.LightningBalances {
		if _, open := l.(ldk_node.LightningBalanceClaimableOnChannelClose); !open {
			v.Closing++
		}
	}
	for _, p := range b.PendingBalancesFromChannelClosures {
		if _, done := p.(ldk_node.PendingSweepBalanceAwaitingThresholdConfirmations); !done {
			v.Closing++
		}
	}
	return v
}

type channel struct {
	ID, Peer, Funding      string // Funding is txid:vout, or empty
	Sat, OutMsat, InMsat   uint64
	Usable, Public, Opener bool
	PeerFeeMsat            *uint32 // what the peer asks for forwarding, if known
}

func (s *server) channels() []channel {
	all := []channel{}
	for _, c := range s.node.ListChannels() {
		v := channel{
			ID: c.UserChannelId, Peer: c.CounterpartyNodeId, Sat: c.ChannelValueSats,
			OutMsat: c.OutboundCapacityMsat, InMsat: c.InboundCapacityMsat,
			Usable: c.IsUsable, Public: c.IsAnnounced, Opener: c.IsOutbound,
			PeerFeeMsat: c.CounterpartyForwardingInfoFeeBaseMsat,
		}
		if c.FundingTxo != nil {
			v.Funding = fmt.Sprintf("%s:%d", c.FundingTxo.Txid, c.FundingTxo.Vout)
		}
		all = append(all, v)
	}
	return all
}

const hour = 3600 // seconds

func (s *server) bill(a args) (any, error) {
	about := ldk_node.Bolt11InvoiceDescriptionDirect{Description: "interop"}
	var (
		i   *ldk_node.Bolt11Invoice
		err error
	)
	if a.Hash != "" {
		i, err = s.node.Bolt11Payment().ReceiveForHash(a.Msat, about, hour, a.Hash)
	} else {
		i, err = s.node.Bolt11Payment().Receive(a.Msat, about, hour)
	}
	if err != nil {
		return nil, err
	}
	return i.String(), nil
}

// A payment that has succeeded.
type payment struct {
	Preimage string // in hex; of a bill's
	FeeMsat  uint64
}

// reasons are LDK's names.
var reasons = map[ldk_node.PaymentFailureReason]string{
	ldk_node.PaymentFailureReasonRecipientRejected: "RecipientRejected",
	ldk_node.PaymentFailureReasonUserAbandoned:     "UserAbandoned",
	ldk_node.PaymentFailureReasonRetriesExhausted:  "RetriesExhausted",
	ldk_node.PaymentFailureReasonPaymentExpired:    "PaymentExpired",
	ldk_node.PaymentFailureReasonRouteNotFound:     "RouteNotFound",
	ldk_node.PaymentFailureReasonUnexpectedError:   "UnexpectedError",
}

// follow waits for a payment's end.
func (s *server) follow(id ldk_node.PaymentId, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	for {
		p := s.node.Payment(id)
		switch {
		case p == nil:
			return nil, fmt.Errorf("LDK knows of no payment %s", id)
		case p.Status == ldk_node.PaymentStatusSucceeded:
			var v payment
			if p.FeePaidMsat != nil {
				v.FeeMsat = *p.FeePaidMsat
			}
			if k, ok := p.Kind.(ldk_node.PaymentKindBolt11); ok && k.Preimage != nil {
				v.Preimage = *k.Preimage
			}
			return v, nil
		case p.Status == ldk_node.PaymentStatusFailed:
			s.mu.Lock()
			why, told := s.failed[id]
			s.mu.Unlock()
			if told {
				return nil, fmt.Errorf("the payment failed: %s", reasons[why])
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}
