package peers

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc"

	"coinop.dev/rail/lndrail"
	"coinop.dev/rail/lndrail/lnrpc"
)

// LndOptions are what an lnd is started with.
type LndOptions struct {
	Home  string // its folder; one that has been used goes on from there
	Alias string
	Chain *Btcd
	Light string   // instead of Chain: a peer that serves compact filters (BIP 157), for lnd's neutrino
	Args  []string // more of lnd's own flags
}

// An Lnd is a running lnd.
type Lnd struct {
	*Process
	LndOptions
	Peer         string // where it listens to peers
	RPC          string // where it listens to gRPC, over TLS
	CertFile     string
	MacaroonFile string // the one that may do everything
	Key          string // its node key, in hex

	Conn      *grpc.ClientConn
	Lightning lnrpc.LightningClient
	Router    lnrpc.RouterClient
	Invoices  lnrpc.InvoicesClient
	State     lnrpc.StateClient

	path string
}

// StartLnd builds and runs an lnd, and waits until it serves and is synced. A
// block must have been mined within two hours, or lnd waits for ever. With
// keysend, and channels of any size.
func StartLnd(ctx context.Context, o LndOptions) (*Lnd, error) {
	path, err := lnd.build(ctx)
	if err != nil {
		return nil, err
	}
	n := &Lnd{
		LndOptions: o, path: path,
		CertFile:     filepath.Join(o.Home, "tls.cert"),
		MacaroonFile: filepath.Join(o.Home, "data/chain/bitcoin/regtest/admin.macaroon"),
	}
	var faults [2]error
	n.Peer, faults[0] = FreeAddr()
	n.RPC, faults[1] = FreeAddr()
	if err := errors.Join(faults[:]...); err != nil {
		return nil, err
	}
	return n, n.Start(ctx)
}

// Start runs the lnd again after it was stopped or killed, with all that it
// has.
func (n *Lnd) Start(ctx context.Context) (err error) {
	args := append([]string{
		"--lnddir=" + n.Home, "--bitcoin.regtest", "--noseedbackup", "--nobootstrap", "--norest",
		"--listen=" + n.Peer, "--rpclisten=" + n.RPC, "--alias=" + n.Alias,
		"--accept-keysend", "--protocol.wumbo-channels", "--trickledelay=50", "--maxpendingchannels=10",
		"--historicalsyncinterval=1s", "--debuglevel=info", "--logging.file.disable",
	}, append(n.backend(), n.Args...)...)
	if n.Process, err = start(ctx, "lnd "+n.Alias, n.path, n.Home, args...); err != nil {
		return err
	}
	if err := n.ready(ctx); err != nil {
		n.Kill()
		return fmt.Errorf("%w\n%s", err, n.Log())
	}
	return nil
}

// backend is the flags that say where lnd's chain is from.
func (n *Lnd) backend() []string {
	if n.Light != "" {
		return []string{"--bitcoin.node=neutrino", "--neutrino.connect=" + n.Light}
	}
	return []string{
		"--bitcoin.node=btcd", "--btcd.rpchost=" + n.Chain.RPC, "--btcd.rpcuser=" + rpcUser, "--btcd.rpcpass=" + rpcPass,
		"--btcd.rpccert=" + n.Chain.CertFile,
	}
}

// ready waits for the three things that lnd does after another: it writes its
// certificate and macaroon, serves, and follows the chain.
func (n *Lnd) ready(ctx context.Context) error {
	err := n.await(ctx, "it has a certificate and a macaroon", func() (err error) {
		// lnd makes the file first and fills it then.
		if f, err := os.Stat(n.MacaroonFile); err != nil || f.Size() == 0 {
			return fmt.Errorf("%s is not written: %v", n.MacaroonFile, err)
		}
		n.Conn, err = lndrail.Dial(n.RPC, n.CertFile, n.MacaroonFile)
		return err
	})
	if err != nil {
		return err
	}
	n.Lightning, n.Router = lnrpc.NewLightningClient(n.Conn), lnrpc.NewRouterClient(n.Conn)
	n.Invoices, n.State = lnrpc.NewInvoicesClient(n.Conn), lnrpc.NewStateClient(n.Conn)
	err = n.await(ctx, "it serves", func() error {
		s, err := lnrpc.NewStateClient(n.Conn).GetState(ctx, &lnrpc.GetStateRequest{})
		if err == nil && s.State != lnrpc.WalletState_SERVER_ACTIVE {
			err = fmt.Errorf("its state is %v", s.State)
		}
		return err
	})
	if err != nil {
		return err
	}
	return n.Synced(ctx)
}

// Synced waits until lnd has the chain's best block; on Light, until it thinks
// so.
func (n *Lnd) Synced(ctx context.Context) error {
	var height int64
	if n.Chain != nil {
		var err error
		if height, err = n.Chain.Height(); err != nil {
			return err
		}
	}
	return n.await(ctx, "it has the chain", func() error {
		i, err := n.Lightning.GetInfo(ctx, &lnrpc.GetInfoRequest{})
		if err != nil {
			return err
		}
		n.Key = i.IdentityPubkey
		if !i.SyncedToChain || int64(i.BlockHeight) < height {
			return fmt.Errorf("it is at block %d of %d, synced is %v", i.BlockHeight, height, i.SyncedToChain)
		}
		return nil
	})
}

// Stop ends the lnd in peace.
func (n *Lnd) Stop() {
	n.Conn.Close()
	n.Process.Stop()
}

// Kill ends it as a power failure would.
func (n *Lnd) Kill() {
	if n.Conn != nil {
		n.Conn.Close()
	}
	n.Process.Kill()
}

// Wallet pays satoshi into lnd's wallet, in so many coins.
func (n *Lnd) Wallet(ctx context.Context, sat int64, coins int) error {
	a, err := n.Lightning.NewAddress(ctx, &lnrpc.NewAddressRequest{})
	if err != nil {
		return err
	}
	before, err := n.balance(ctx)
	if err != nil {
		return err
	}
	if err := n.Chain.Fund(a.Address, sat, coins); err != nil {
		return err
	}
	return n.await(ctx, "its wallet has the coins", func() error {
		now, err := n.balance(ctx)
		if err == nil && now <= before {
			err = fmt.Errorf("it has %d sat", now)
		}
		return err
	})
}

func (n *Lnd) balance(ctx context.Context) (int64, error) {
	b, err := n.Lightning.WalletBalance(ctx, &lnrpc.WalletBalanceRequest{})
	return b.GetConfirmedBalance(), err
}

// Connect links the lnd with a node key at an address.
func (n *Lnd) Connect(ctx context.Context, key, addr string) error {
	return n.await(ctx, "it connects", func() error {
		_, err := n.Lightning.ConnectPeer(ctx, &lnrpc.ConnectPeerRequest{Addr: &lnrpc.LightningAddress{Pubkey: key, Host: addr}, Timeout: 10})
		if err != nil && strings.Contains(err.Error(), "already connected") {
			return nil
		}
		return err
	})
}

// confirmations that a public channel needs to be announced (BOLT 7).
const confirmations = 6

// OpenChannel opens a channel to another lnd, whose capacity is this one's, and
// waits until both can use it.
func (n *Lnd) OpenChannel(ctx context.Context, to *Lnd, sat int64) (*lnrpc.ChannelPoint, error) {
	// An end that has not seen the last block refuses, and does not say why.
	if err := errors.Join(n.Synced(ctx), to.Synced(ctx), n.Connect(ctx, to.Key, to.Peer)); err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(to.Key)
	if err != nil {
		return nil, err
	}
	var point *lnrpc.ChannelPoint
	err = n.await(ctx, "it opens a channel", func() (err error) {
		point, err = n.Lightning.OpenChannelSync(ctx, &lnrpc.OpenChannelRequest{NodePubkey: key, LocalFundingAmount: sat, SatPerVbyte: 2})
		if err != nil && !strings.Contains(err.Error(), "ynchroniz") && !strings.Contains(err.Error(), "not online") {
			return &final{err}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := n.Chain.MineMempool(ctx, 1, confirmations); err != nil {
		return nil, err
	}
	for _, end := range []*Lnd{n, to} {
		if err := end.active(ctx, Outpoint(point)); err != nil {
			return nil, err
		}
		if err := end.knows(ctx, Outpoint(point)); err != nil {
			return nil, err
		}
	}
	return point, nil
}

// Outpoint writes a channel's point as lnd lists it, <txid>:<index>.
func Outpoint(p *lnrpc.ChannelPoint) string {
	id := p.GetFundingTxidStr()
	if raw := p.GetFundingTxidBytes(); raw != nil {
		shown := make([]byte, len(raw))
		for i := range raw {
			shown[len(raw)-1-i] = raw[i]
		}
		id = hex.EncodeToString(shown)
	}
	return fmt.Sprintf("%s:%d", id, p.OutputIndex)
}

func (n *Lnd) active(ctx context.Context, outpoint string) error {
	return n.await(ctx, "its channel is active", func() error {
		c, err := n.Channel(ctx, outpoint)
		if err == nil && !c.Active {
			err = errors.New("the channel is not active")
		}
		return err
	})
}

// Channel is an open channel.
func (n *Lnd) Channel(ctx context.Context, outpoint string) (*lnrpc.Channel, error) {
	list, err := n.Lightning.ListChannels(ctx, &lnrpc.ListChannelsRequest{})
	if err != nil {
		return nil, err
	}
	for _, c := range list.Channels {
		if c.ChannelPoint == outpoint {
			return c, nil
		}
	}
	return nil, fmt.Errorf("channel %s is none of its %d", outpoint, len(list.Channels))
}

// Routes waits until the lnd knows so many channels in both directions: only
// then can it pay over them, also over its own.
func (n *Lnd) Routes(ctx context.Context, channels int) error {
	return n.graph(ctx, fmt.Sprintf("it knows %d channels", channels), func(edges []*lnrpc.ChannelEdge) bool { return len(edges) >= channels })
}

func (n *Lnd) knows(ctx context.Context, outpoint string) error {
	return n.graph(ctx, "it knows the channel", func(edges []*lnrpc.ChannelEdge) bool {
		return slices.ContainsFunc(edges, func(e *lnrpc.ChannelEdge) bool { return e.ChanPoint == outpoint })
	})
}

func (n *Lnd) graph(ctx context.Context, what string, enough func(usable []*lnrpc.ChannelEdge) bool) error {
	return n.await(ctx, what, func() error {
		g, err := n.Lightning.DescribeGraph(ctx, &lnrpc.ChannelGraphRequest{IncludeUnannounced: true})
		if err != nil {
			return err
		}
		usable := slices.DeleteFunc(g.Edges, func(e *lnrpc.ChannelEdge) bool { return e.Node1Policy == nil || e.Node2Policy == nil })
		if !enough(usable) {
			return fmt.Errorf("it knows %d channels in both directions", len(usable))
		}
		return nil
	})
}

// CloseChannel closes a channel with its peer, or alone if force is set, and
// waits until the chain has the closing transaction.
func (n *Lnd) CloseChannel(ctx context.Context, point *lnrpc.ChannelPoint, force bool) error {
	ask := &lnrpc.CloseChannelRequest{ChannelPoint: point, Force: force}
	if !force {
		ask.SatPerVbyte = 2
	}
	updates, err := n.Lightning.CloseChannel(ctx, ask)
	if err != nil {
		return err
	}
	for {
		u, err := updates.Recv()
		switch {
		case err != nil:
			return fmt.Errorf("close channel %s: %w", Outpoint(point), err)
		case u.GetChanClose() != nil:
			return nil
		case u.GetClosePending() != nil:
			if err := n.Chain.MineMempool(ctx, 1, confirmations); err != nil {
				return err
			}
		}
	}
}

// Bill makes an invoice.
func (n *Lnd) Bill(ctx context.Context, msat int64) (text string, hash []byte, err error) {
	a, err := n.Lightning.AddInvoice(ctx, &lnrpc.Invoice{ValueMsat: msat})
	return a.GetPaymentRequest(), a.GetRHash(), err
}

// Pay pays an invoice and waits for the preimage.
func (n *Lnd) Pay(ctx context.Context, invoice string) (preimage []byte, err error) {
	updates, err := n.Router.SendPaymentV2(ctx, &lnrpc.SendPaymentRequest{
		PaymentRequest: invoice, TimeoutSeconds: 60, FeeLimitMsat: 1_000_000, NoInflightUpdates: true,
	})
	if err != nil {
		return nil, err
	}
	p, err := updates.Recv()
	if err != nil {
		return nil, err
	}
	if p.Status != lnrpc.Payment_SUCCEEDED {
		return nil, fmt.Errorf("payment %s: %v, %v", p.PaymentHash, p.Status, p.FailureReason)
	}
	return hex.DecodeString(p.PaymentPreimage)
}
